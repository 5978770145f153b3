"""Secrets stay with whom they were given to: in no argument, output, log or file, and at no other origin (S11 to S14)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from real_registry import PASSWORD, USER
from small_artifact import CONFIG, WEIGHTS, manifest

from lading.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostile_server import Asked, Hostile, Reply
    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from conftest import CommandLine

    from .conftest import Registry

pytestmark = pytest.mark.integration

CANARY = "canary-3f9c1b: d7"
LOUD = ((), ("--debug",), ("--json", "--progress", "json"))
FOREIGN = "127.0.0.1.example"
REDIRECTS = (301, 302, 303, 307, 308)


def spellings(secret: str) -> set[str]:
    """Return the ways in which a secret may be written down."""
    pair = f"{USER}:{secret}".encode()
    plain = {secret, quote(secret), quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}
    return plain | {base64.b64encode(pair).decode(), base64.urlsafe_b64encode(pair).decode()}


@dataclass
class Watched:
    """Runs commands under strace, and looks for secrets in all that they say, start and leave behind."""

    lading: CommandLine
    strace: str
    secrets: set[str] = field(default_factory=set)
    may_hold: set[Path] = field(default_factory=set)

    def keep(self, *secrets: str) -> None:
        for secret in secrets:
            self.secrets |= spellings(secret)

    def __call__(self, *words: str, code: int = 0, stdin: str = "", more: dict[str, str] | None = None) -> str:
        """Run a command, require its exit code, and return what it said."""
        log = self.lading.folder.parent / "execve"
        watch = (self.strace, "-f", "-qq", "-s", "100000", "-o", str(log), "-e", "trace=execve")
        done = subprocess.run(
            [*watch, sys.executable, "-m", "lading", *words],
            cwd=self.lading.folder,
            env={**self.lading.environment, **(more or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        self.hold("output", said)
        started = log.read_text(errors="replace")
        assert "execve(" in started
        self.hold("arguments", started)
        for path in self.lading.folder.rglob("*"):
            if path.is_file() and path not in self.may_hold:
                self.hold(str(path), path.read_bytes().decode("latin-1"))
        return said

    def hold(self, where: str, text: str) -> None:
        found = [secret for secret in self.secrets if secret in text]
        assert not found, f"{found} in {where}:\n{text[:3000]}"


@pytest.fixture
def watched(lading: CommandLine) -> Watched:
    program = shutil.which("strace")
    if program is None or subprocess.run([program, "-qq", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace is missing, or may not trace here: apt-get install strace")
    return Watched(lading, program)


def login(watched: Watched, host: str, secret: str) -> None:
    """Give the user a login in the file that docker and podman read, too."""
    file = watched.lading.folder / ".config/containers/auth.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(f"{USER}:{secret}".encode()).decode()}}}))
    watched.keep(secret)
    watched.may_hold.add(file)


def test_the_watch_sees_a_secret_wherever_it_is(watched: Watched) -> None:
    watched.keep(CANARY)
    with pytest.raises(AssertionError, match="in output"):
        watched("rm", CANARY, code=2)
    (watched.lading.folder / "left").write_text(quote(CANARY))
    with pytest.raises(AssertionError, match="left"):
        watched("list")


@pytest.mark.parametrize("loud", LOUD)
def test_a_registrys_password_is_told_nowhere(
    watched: Watched, login_registry: RegistryProcess, story: Path, loud: tuple[str, ...]
) -> None:
    """S14: through the real registry: pushed, pulled, looked at, and refused."""
    place = f"{login_registry.host}/secrets/{'-'.join(loud).replace('--', '') or 'quiet'}:1"
    login(watched, login_registry.host, PASSWORD)
    watched("pack", str(story), "-t", "story:1", *loud)
    watched("push", "story:1", place, *loud)
    watched("pull", place, *loud)
    watched("inspect", place, *[word for word in loud if word not in ("--progress", "json")])
    login(watched, login_registry.host, CANARY)
    watched("push", "story:1", place, *loud, code=4)
    watched("pull", place, *loud, code=4)


def test_a_password_that_is_typed_is_kept_where_it_belongs(watched: Watched, login_registry: RegistryProcess) -> None:
    """S14: from standard input into the file of logins, and into the helper that keeps them, by its standard input."""
    watched.keep(PASSWORD, CANARY)
    folder = watched.lading.folder / ".docker"
    watched.may_hold |= {folder / "config.json", folder / "stored"}
    words = ("login", login_registry.host, "-u", USER, "--password-stdin")
    watched(*words, stdin=f"{CANARY}\n", code=4)
    watched(*words, stdin=f"{PASSWORD}\n")
    watched("logout", login_registry.host)
    watched.may_hold.remove(folder / "config.json")
    (folder / "config.json").write_text('{"credsStore": "kept"}')
    helper = watched.lading.folder / "bin/docker-credential-kept"
    helper.parent.mkdir()
    helper.write_text(f"#!/bin/sh\ncat > {folder}/stored\n")
    helper.chmod(0o700)
    watched(*words, stdin=f"{PASSWORD}\n", more={"PATH": f"{helper.parent}:{watched.lading.environment['PATH']}"})
    assert PASSWORD in (folder / "stored").read_text()


@pytest.mark.parametrize("transport", ["hf", "ms"])
def test_a_hubs_token_is_told_nowhere(watched: Watched, hub: LoopbackHub, transport: str) -> None:
    """S14: right, wrong, and malformed; the storage that the hub redirects to does not hear it (S12)."""
    variable = {"hf": "HF_TOKEN", "ms": "MODELSCOPE_API_TOKEN"}[transport]
    watched.lading.environment |= {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
    watched.keep(hub.token, CANARY)
    hub.add("team/private", {"small-Q4_K_M.gguf": WEIGHTS}, private=True)
    place = f"{transport}://team/private:Q4_K_M"
    watched("pull", place, "--debug", more={variable: hub.token})
    watched("rm", f"{transport}:team/private:Q4_K_M")
    watched("pull", place, code=4, more={variable: "canary-wrong"})
    watched("pull", place, code=2, more={variable: CANARY})
    assert any(hub.token in str(asked.headers) for asked in hub.asked)
    assert hub.storage_asked
    assert not any(secret in str(asked) for asked in hub.storage_asked for secret in (hub.token, "canary"))


def test_a_password_in_an_address_is_refused_and_not_repeated(watched: Watched, registry: Registry) -> None:
    """S14: it would stand in the list of processes and in the history of the shell; it is said that it may not."""
    watched.keep("canary-word")
    log = watched.lading.folder.parent / "execve"
    for address in ("https://sam:canary-word@localhost:1/a.gguf", "oci://sam:canary-word@localhost:1/a/b:1"):
        done = watched.lading("pull", address, code=2)
        watched.hold("output", done.stdout + done.stderr)
    assert not log.exists()
    proxied = {"HTTPS_PROXY": "http://sam:canary-word@127.0.0.1:1", "NO_PROXY": ""}
    watched("pull", "https://example.invalid/a.gguf", code=5, more=proxied)
    watched("pull", "https://example.invalid/a.gguf", "--debug", code=5, more=proxied)


@pytest.mark.parametrize("status", REDIRECTS)
def test_a_redirect_to_another_origin_carries_no_login(
    watched: Watched, registry: Registry, canary: Hostile, reply: type[Reply], status: int
) -> None:
    """S12: of a blob and of a manifest; the canary asks for a login, and is given none."""
    host = registry.server.host
    login(watched, host, CANARY)
    reference = registry.serve(manifest())
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}

    def guarded(answer: Reply) -> Callable[[Asked], Reply]:
        return lambda asked: answer if "Authorization" in asked.headers else reply(401, b"", challenge)

    for path in (f"/v2/team/small/blobs/{Digest.of(WEIGHTS)}", f"/v2/team/small/blobs/{Digest.of(CONFIG)}"):
        there = f"/there/{path.rpartition('/')[2]}"
        registry.server.on("GET", path, guarded(reply(status, b"", {"Location": f"{canary.url}{there}"})))
        canary.on("GET", there, reply(401, b"", {"WWW-Authenticate": f'Bearer realm="{canary.url}/token"'}))
    canary.on("GET", "/token", reply(200, b'{"token": "t"}'))
    watched("pull", reference, code=4)
    tag = "/v2/team/small/manifests/1"
    registry.server.on("GET", tag, guarded(reply(status, b"", {"Location": f"{canary.url}{tag}"})))
    canary.on("GET", tag, reply(401, b"", challenge))
    watched("pull", reference, code=4)
    heard(canary, watched)
    assert any("Authorization" in asked.headers for asked in registry.server.asked)


def heard(canary: Hostile, watched: Watched) -> None:
    """Require that the canary was asked, and heard no secret."""
    assert canary.asked
    for asked in canary.asked:
        names = {name.lower() for name in asked.headers}
        assert not names & {"authorization", "cookie", "proxy-authorization"}, asked
        watched.hold("the canary's ear", f"{asked}")


@pytest.mark.parametrize("what", ["realm", "location", "page", "token"])
def test_no_answer_sends_a_login_to_another_host(
    watched: Watched, registry: Registry, canary: Hostile, reply: type[Reply], what: str
) -> None:
    """S11 to S13: a realm, an upload's place, the next page, and where the token server redirects to."""
    host = registry.server.host
    login(watched, host, CANARY)
    reference = registry.serve(manifest())
    watched("pull", reference)
    basic = {"WWW-Authenticate": 'Basic realm="x"'}
    own = {"WWW-Authenticate": f'Bearer realm="http://{host}/token",service="x"'}
    foreign = {"WWW-Authenticate": f'Bearer realm="http://{FOREIGN}:{canary.host.partition(":")[2]}/token",service="x"'}
    tag, tags = "/v2/team/small/manifests/1", "/v2/team/small/tags/list"

    def guarded(answer: Reply) -> Callable[[Asked], Reply]:
        return lambda asked: answer if "Authorization" in asked.headers else reply(401, b"", basic)

    if what == "realm":
        registry.server.on("GET", tag, reply(401, b"", foreign))
        watched("pull", reference, code=9)
    elif what == "token":
        registry.server.on("GET", tag, reply(401, b"", own))
        registry.server.on("GET", "/token", reply(307, b"", {"Location": f"{canary.url}/token"}))
        canary.on("GET", "/token", reply(401, b"", basic))
        watched("pull", reference, code=4)
        heard(canary, watched)
    elif what == "page":
        # Asked for once a tag is missing, to say what there is.
        registry.server.on("GET", tag, guarded(reply(404)))
        pages = {"Link": f'<{canary.url}/v2/team/small/tags/list?last=a>; rel="next"'}
        registry.server.on("GET", tags, guarded(reply(200, b'{"tags": ["a"]}', pages)))
        watched("pull", reference, code=3)
        assert any(asked.path == tags for asked in registry.server.asked)
    else:
        for data in (CONFIG, WEIGHTS):
            registry.server.on("HEAD", f"/v2/team/copy/blobs/{Digest.of(data)}", guarded(reply(404)))
        uploads = guarded(reply(202, b"", {"Location": f"{canary.url}/take"}))
        registry.server.on("POST", "/v2/team/copy/blobs/uploads/", uploads)
        watched("push", reference, f"{host}/team/copy:1", code=9)
    if what != "token":
        assert canary.asked == []
    assert what == "realm" or any("Authorization" in asked.headers for asked in registry.server.asked)
