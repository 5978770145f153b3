from __future__ import annotations

import base64
import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from lading.auth import Credential, Keychain, helper
from lading.auth.credentials import HUB_KEY
from lading.errors import FormatError, LadingError, PolicyError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def _auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def chain(tmp_path: Path) -> Keychain:
    return Keychain((tmp_path / "containers/auth.json", tmp_path / "docker/config.json"))


def _write(chain: Keychain, index: int, tree: Any) -> Path:
    file = chain.files[index]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return file


def test_without_files_there_is_no_login(chain: Keychain) -> None:
    assert chain.find("acme.io", "chat") is None


def test_a_password_may_hold_colons(chain: Keychain) -> None:
    _write(chain, 1, {"auths": {"acme.io": _auth("sam:a:b:c")}})
    found = chain.find("acme.io", "chat")
    assert found is not None
    assert (found.username, found.secret, found.kind) == ("sam", "a:b:c", "password")
    assert "a:b:c" not in repr(found)


@pytest.mark.parametrize(
    "key", ["acme.io:5000", "https://acme.io:5000", "https://acme.io:5000/v1/", "http://acme.io:5000/v2/"]
)
def test_a_key_may_be_written_as_a_url(chain: Keychain, key: str) -> None:
    _write(chain, 1, {"auths": {key: _auth("sam:x")}})
    assert chain.find("acme.io:5000", "chat") is not None
    assert chain.find("acme.io", "chat") is None


@pytest.mark.parametrize("key", [HUB_KEY, "docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_goes_by_several_names(chain: Keychain, key: str) -> None:
    _write(chain, 1, {"auths": {key: _auth("sam:x")}})
    assert chain.find("docker.io", "library/chat") is not None


def test_the_longest_path_wins(chain: Keychain) -> None:
    names = ("acme.io", "acme.io/team", "acme.io/team/chat", "acme.io/teamster")
    _write(chain, 0, {"auths": {name: _auth(f"{name.rpartition('/')[2]}:x") for name in names}})
    users = {}
    for repository in ("team/chat", "team/other", "team/chat/deep", "else", "teamst"):
        found = chain.find("acme.io", repository)
        assert found is not None
        users[repository] = found.username
    assert users == {
        "team/chat": "chat",
        "team/other": "team",
        "team/chat/deep": "chat",
        "else": "acme.io",
        "teamst": "acme.io",
    }


def test_the_first_file_wins_and_an_empty_entry_is_none(chain: Keychain) -> None:
    _write(chain, 1, {"auths": {"acme.io": _auth("docker:x"), "b.io": _auth("docker:x")}})
    _write(chain, 0, {"auths": {"acme.io": _auth("podman:x"), "b.io": {}}})
    first, second = chain.find("acme.io", "chat"), chain.find("b.io", "chat")
    assert first is not None
    assert second is not None
    assert (first.username, second.username) == ("podman", "docker")


def test_tokens_are_told_from_passwords(chain: Keychain) -> None:
    entries = {
        "a.io": {**_auth("sam:"), "identitytoken": "refresh"},
        "b.io": {"registrytoken": "ready"},
        "c.io": {"username": "sam", "password": "plain"},
        "d.io": _auth("<token>:refresh"),
    }
    _write(chain, 1, {"auths": entries})
    found = {host: chain.find(host, "x") for host in entries}
    assert {host: (one.kind, one.secret) for host, one in found.items() if one} == {
        "a.io": ("identity", "refresh"),
        "b.io": ("bearer", "ready"),
        "c.io": ("password", "plain"),
        "d.io": ("identity", "refresh"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "canary",
        "[]",
        '{"auths": ["canary"]}',
        '{"auths": {"acme.io": "canary"}}',
        '{"auths": {"acme.io": {"auth": "can*ry"}}}',
        '{"auths": {"acme.io": {"auth": 5}}}',
        '{"auths": {"acme.io": {"username": ["canary"]}}}',
        "[" * 50_000,
        " " * 2_000_000 + "{}",
    ],
)
def test_a_broken_file_is_named_and_not_quoted(chain: Keychain, text: str) -> None:
    file = _write(chain, 1, text)
    with pytest.raises(FormatError) as caught:
        chain.find("acme.io", "chat")
    assert str(file) in caught.value.message
    assert "canary" not in caught.value.message
    assert caught.value.__cause__ is None


def test_a_login_that_would_inject_a_header_is_refused(chain: Keychain) -> None:
    _write(chain, 1, {"auths": {"acme.io": _auth("sam:x\r\nEvil: 1")}})
    with pytest.raises(UsageError, match="character"):
        chain.find("acme.io", "chat")


def test_a_saved_login_is_found_again_and_kept_private(chain: Keychain) -> None:
    assert chain.save("acme.io", Credential.of("sam", "p:w")) == str(chain.files[1])
    assert stat.S_IMODE(chain.files[1].stat().st_mode) == 0o600
    found = chain.find("acme.io", "chat")
    assert found is not None
    assert (found.username, found.secret) == ("sam", "p:w")
    chain.save("acme.io", Credential("<token>", "refresh", "identity"))
    again = chain.find("acme.io", "chat")
    assert again is not None
    assert (again.kind, again.secret) == ("identity", "refresh")


def test_saving_keeps_all_else_in_the_file_that_is_there(chain: Keychain) -> None:
    kept = {"auths": {"b.io": _auth("b:b"), "https://acme.io/v1/": _auth("old:x")}, "HttpHeaders": {"X": "y"}}
    file = _write(chain, 0, kept)
    chain.save("acme.io", Credential.of("sam", "new"))
    tree = json.loads(file.read_text())
    assert tree == {"auths": {"b.io": _auth("b:b"), "acme.io": _auth("sam:new")}, "HttpHeaders": {"X": "y"}}
    assert not chain.files[1].exists()


def test_docker_hub_is_saved_under_the_name_that_docker_reads(chain: Keychain) -> None:
    chain.save("docker.io", Credential.of("sam", "x"))
    assert list(json.loads(chain.files[1].read_text())["auths"]) == [HUB_KEY]


def test_a_linked_file_stays_a_link(chain: Keychain, tmp_path: Path) -> None:
    dotfile = tmp_path / "dotfiles/config.json"
    dotfile.parent.mkdir()
    dotfile.write_text("{}")
    chain.files[1].parent.mkdir(parents=True)
    chain.files[1].symlink_to(dotfile)
    chain.save("acme.io", Credential.of("sam", "x"))
    assert chain.files[1].is_symlink()
    assert "acme.io" in dotfile.read_text()


def test_erase_forgets_a_host_in_every_file_and_says_where(chain: Keychain) -> None:
    _write(chain, 0, {"auths": {"acme.io": _auth("a:b"), "b.io": _auth("a:b")}})
    _write(chain, 1, {"auths": {"https://acme.io/v2/": _auth("a:b")}})
    assert chain.erase("acme.io") == [str(file) for file in chain.files]
    assert chain.find("acme.io") is None
    assert chain.find("b.io") is not None
    assert chain.erase("acme.io") == []


HELPER = """#!/bin/sh
here=$(dirname "$0")
case "$1" in
  get) read -r host
       name=$(printf %s "$host" | tr '/:' '__')
       [ -f "$here/$name" ] && cat "$here/$name" || {{ echo "credentials not found in native keychain"; exit 1; }} ;;
  store) cat > "$here/stored" ;;
  erase) read -r host; rm "$here/$(printf %s "$host" | tr '/:' '__')" ;;
esac
"""


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of credential helpers, alone on PATH but for the system's tools."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    _program(folder, "keys", HELPER.replace("{{", "{").replace("}}", "}"))
    return folder


def _program(folder: Path, name: str, text: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(text)
    path.chmod(0o755)


def _login(user: str, secret: str) -> str:
    return json.dumps({"ServerURL": "x", "Username": user, "Secret": secret})


def test_a_helper_for_the_host_wins_over_the_store_over_the_file(chain: Keychain, helpers: Path) -> None:
    _program(helpers, "own", f"#!/bin/sh\ncat >/dev/null\necho '{_login('own', 'x')}'\n")
    (helpers / "b.io").write_text(_login("<token>", "refresh"))
    auths = {host: _auth("file:x") for host in ("a.io", "b.io", "c.io")}
    _write(chain, 1, {"auths": auths, "credHelpers": {"a.io": "own"}, "credsStore": "keys"})
    found = {host: chain.find(host, "x") for host in auths}
    assert {host: (one.username, one.kind) for host, one in found.items() if one} == {
        "a.io": ("own", "password"),
        "b.io": ("<token>", "identity"),
        "c.io": ("file", "password"),
    }


def test_the_hub_is_asked_for_by_the_name_helpers_know(chain: Keychain, helpers: Path) -> None:
    (helpers / "https___index.docker.io_v1_").write_text(_login("hub", "x"))
    _write(chain, 1, {"credsStore": "keys"})
    found = chain.find("docker.io", "library/x")
    assert found is not None
    assert found.username == "hub"


def test_save_and_erase_go_through_the_helper_and_leave_no_secret_in_the_file(chain: Keychain, helpers: Path) -> None:
    file = _write(chain, 1, {"credsStore": "keys"})
    assert chain.save("acme.io", Credential.of("sam", "canary")) == "docker-credential-keys"
    stored = json.loads((helpers / "stored").read_text())
    assert stored == {"ServerURL": "acme.io", "Username": "sam", "Secret": "canary"}
    assert "canary" not in file.read_text()
    (helpers / "acme.io").write_text(_login("sam", "canary"))
    assert chain.erase("acme.io") == ["docker-credential-keys"]
    assert not (helpers / "acme.io").exists()


@pytest.mark.parametrize("name", ["../evil", "a/b", "a b", "a;b", "-\n", "\u00e9", "a\0"])
def test_a_helper_by_a_strange_name_is_never_run(chain: Keychain, helpers: Path, name: str) -> None:
    _write(chain, 1, {"credsStore": name})
    with pytest.raises(PolicyError):
        chain.find("acme.io", "x")


@pytest.mark.parametrize("host", ["a\nb", "a\rb", "a\0b"])
def test_a_host_that_would_inject_a_line_is_never_sent(chain: Keychain, helpers: Path, host: str) -> None:
    _write(chain, 1, {"credsStore": "keys"})
    with pytest.raises(PolicyError):
        chain.find(host, "x")


def test_a_helper_that_fails_keeps_no_other_place_from_being_erased(chain: Keychain, helpers: Path) -> None:
    _write(chain, 0, {"auths": {"acme.io": _auth("a:b")}, "credsStore": "desktop"})
    _write(chain, 1, {"auths": {"acme.io": _auth("a:b")}})
    with pytest.raises(LadingError, match="docker-credential-desktop is not on PATH"):
        chain.erase("acme.io")
    assert all(json.loads(file.read_text())["auths"] == {} for file in chain.files)


def test_a_missing_helper_is_named(chain: Keychain, helpers: Path) -> None:
    _write(chain, 1, {"credsStore": "desktop"})
    with pytest.raises(LadingError, match="docker-credential-desktop is not on PATH"):
        chain.find("acme.io", "x")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("cat >/dev/null; echo canary; exit 3", "exit 3"),
        ("cat >/dev/null; echo canary", "something else"),
        ("cat >/dev/null; echo '{}'", "something else"),
        ("exec cat /dev/zero", "without end"),
        ("exec sleep 60", "does not answer"),
    ],
)
def test_a_helper_that_misbehaves_is_stopped_and_not_quoted(helpers: Path, script: str, words: str) -> None:
    _program(helpers, "bad", f"#!/bin/sh\n{script}\n")
    with pytest.raises(LadingError, match=words) as caught:
        helper.get("bad", "acme.io", limit=1.0)
    assert "canary" not in caught.value.message + caught.value.hint
