from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lading.digest import Digest
from lading.errors import (
    AccessDeniedError,
    FormatError,
    LadingError,
    NetworkError,
    NotFoundError,
    PolicyError,
    UsageError,
)
from lading.reference import Hub, parse
from lading.transport.huggingface import HuggingFace
from lading.transport.listing import ListedSource, git_sha1

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hub import LoopbackHub

    from lading.content import ByteReader
    from lading.http import Client

WEIGHTS = bytes(index % 251 for index in range(300_000))
FILES = {
    ".gitattributes": b"*.gguf filter=lfs\n",
    "README.md": b"---\nlicense: cc0-1.0\n---\n# Story\n",
    "story-Q4_K_M.gguf": WEIGHTS,
    "deep/er/story Q8_0 \u00e9#?.gguf": WEIGHTS[::-1],
}
NAME = "acme/Story-GGUF"


def read(reader: ByteReader) -> bytes:
    try:
        return b"".join(iter(lambda: reader.read(70_000) or b"", b""))
    finally:
        reader.close()


@pytest.fixture
def at(hub: LoopbackHub, client: Client) -> Callable[..., HuggingFace]:
    """A repository of the loopback hub, as lading sees it."""

    def make(text: str = f"hf://{NAME}", **settings: Any) -> HuggingFace:
        reference = parse(text)
        assert isinstance(reference, Hub)
        return HuggingFace(reference, client, endpoint=hub.url, **settings)

    return make


# -- the real client ---------------------------------------------------------------


def real_client(hub: LoopbackHub, folder: Path, code: str, token: str = "") -> str:
    """Run a piece of Python with huggingface_hub in a process of its own, and return what it prints."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **({"HF_TOKEN": token} if token else {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_real_client_downloads_a_snapshot_byte_for_byte(hub: LoopbackHub, tmp_path: Path) -> None:
    repository = hub.add(NAME, FILES)
    hub.page_size = 2
    code = f"from huggingface_hub import snapshot_download as s; print(s({NAME!r}, local_dir='got', max_workers=2))"
    real_client(hub, tmp_path, code)
    for path, data in FILES.items():
        assert (tmp_path / "got" / path).read_bytes() == data
    assert any(asked.path.endswith(f"/tree/{repository.refs['main']}") for asked in hub.asked)
    assert hub.storage_asked


def test_the_real_client_downloads_one_file_of_a_revision_with_its_token(hub: LoopbackHub, tmp_path: Path) -> None:
    repository = hub.add(NAME, FILES, private=True)
    repository.commit({**FILES, "story-Q4_K_M.gguf": b"new"})
    repository.refs["v1"] = next(iter(repository.commits))
    code = f"from huggingface_hub import hf_hub_download as d; print(d({NAME!r}, 'story-Q4_K_M.gguf', revision='v1'))"
    place = real_client(hub, tmp_path, code, hub.token)
    assert repository.refs["v1"] in place
    with open(place, "rb") as file:  # noqa: PTH123 - the name as the client prints it
        assert file.read() == WEIGHTS
    assert all("Authorization" not in asked.headers for asked in hub.storage_asked)


def test_the_real_client_meets_the_errors_it_knows(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.add("acme/gated", FILES, gated=True)
    hub.add("acme/private", FILES, private=True)
    code = (
        "from huggingface_hub import hf_hub_download as d\n"
        "for repo, file, revision in (\n"
        f"    ({NAME!r}, 'none.gguf', None), ({NAME!r}, 'README.md', 'none'),\n"
        "    ('acme/gated', 'README.md', None), ('acme/private', 'README.md', None),\n"
        "):\n"
        "    try:\n"
        "        d(repo, file, revision=revision)\n"
        "    except Exception as error:\n"
        "        print(type(error.__cause__ or error).__name__, type(error).__name__)\n"
    )
    told = real_client(hub, tmp_path, code)
    for name in ("RemoteEntryNotFoundError", "RevisionNotFoundError", "GatedRepoError", "RepositoryNotFoundError"):
        assert name in told


# -- listing and files ----------------------------------------------------------------


def test_a_repository_is_listed_at_a_commit_with_what_is_known_of_each_file(
    hub: LoopbackHub, at: Callable[..., HuggingFace]
) -> None:
    commit = hub.add(NAME, FILES, xet={"story-Q4_K_M.gguf"}).refs["main"]
    made = at()
    listing = made.listing()
    assert listing.source == f"hf://{NAME}@{commit}"
    assert listing.revision == made.revision() == commit
    assert {file.path: (file.size, file.digest, file.git_sha1, file.xet) for file in listing.files} == {
        path: (
            len(data),
            Digest.of(data) if path.endswith(".gguf") else None,
            "" if path.endswith(".gguf") else git_sha1(data),
            path == "story-Q4_K_M.gguf",
        )
        for path, data in FILES.items()
    }
    assert [asked.path for asked in hub.asked] == [
        f"/api/models/{NAME}/revision/main",
        f"/api/models/{NAME}/tree/{commit}",
    ]


def test_files_arrive_byte_for_byte_from_anywhere_in_them(
    hub: LoopbackHub, at: Callable[..., HuggingFace], client: Client
) -> None:
    hub.add(NAME, FILES)
    made = at()
    source = ListedSource(made, client, made.listing(), FILES)
    source.settle(lambda file, data: None if data == FILES[file.path] else pytest.fail(file.path))
    for file in source.files:
        blob = source.blob(file)
        assert read(source.open(blob)) == FILES[file.path]
        assert read(source.open(blob, 7)) == FILES[file.path][7:]
        assert source.ranges(blob).read_at(3, 4) == FILES[file.path][3:7]


def test_a_long_listing_is_followed_page_by_page(hub: LoopbackHub, at: Callable[..., HuggingFace]) -> None:
    files = {f"model-{number:05d}-of-00025.safetensors": bytes([number]) for number in range(1, 26)}
    hub.add(NAME, files)
    hub.page_size = 10
    assert at().listing().names == tuple(files)
    assert len(hub.asked) == 1 + 3


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/7"])
def test_a_branch_or_tag_is_resolved_once_and_the_commit_asked_for_from_then_on(
    hub: LoopbackHub, at: Callable[..., HuggingFace], client: Client, revision: str
) -> None:
    repository = hub.add(NAME, FILES)
    commit = repository.refs[revision] = repository.refs["main"]
    made = at(f"hf://{NAME}@{revision}")
    listing = made.listing()
    # The branch moves on while the model is fetched.
    repository.commit({"story-Q4_K_M.gguf": b"other"})
    repository.refs[revision] = repository.refs["main"]
    source = ListedSource(made, client, listing, ["story-Q4_K_M.gguf"])
    assert read(source.open(source.blob(source.files[0]))) == WEIGHTS
    assert made.revision() == listing.revision == commit
    assert sum("/revision/" in asked.path for asked in hub.asked) == 1


def test_a_commit_need_not_be_asked_for(hub: LoopbackHub, at: Callable[..., HuggingFace]) -> None:
    commit = hub.add(NAME, FILES).refs["main"]
    assert at(f"hf://{NAME}@{commit}").listing().revision == commit
    assert len(hub.asked) == 1


def test_an_address_that_ran_out_is_asked_for_anew(
    hub: LoopbackHub, at: Callable[..., HuggingFace], client: Client
) -> None:
    hub.add(NAME, FILES)
    made = at()
    source = ListedSource(made, client, made.listing(), ["story-Q4_K_M.gguf"])
    ranges = source.ranges(source.blob(source.files[0]))
    assert ranges.read_at(0, 10) == WEIGHTS[:10]
    asked = len(hub.asked)
    assert ranges.read_at(10, 10) == WEIGHTS[10:20]
    assert len(hub.asked) == asked
    hub.forget_signatures()
    assert ranges.read_at(20, 10) == WEIGHTS[20:30]
    assert len(hub.asked) == asked + 1


# -- the token ---------------------------------------------------------------------------


def test_the_token_reaches_the_hub_and_nobody_else(
    hub: LoopbackHub, at: Callable[..., HuggingFace], client: Client
) -> None:
    hub.add(NAME, FILES, private=True)
    made = at(token=hub.token)
    source = ListedSource(made, client, made.listing(), FILES)
    source.settle(lambda _file, _data: None)
    for file in source.files:
        read(source.open(source.blob(file)))
        source.ranges(source.blob(file)).read_at(0, 5)
    assert {asked.headers["Authorization"] for asked in hub.asked} == {f"Bearer {hub.token}"}
    assert hub.storage_asked
    assert hub.token not in repr([asked.headers for asked in hub.storage_asked])
    assert hub.token not in repr([asked.target for asked in (*hub.asked, *hub.storage_asked)])


def test_pages_of_another_origin_are_not_followed(
    hub: LoopbackHub, at: Callable[..., HuggingFace], canary: Any
) -> None:
    hub.add(NAME, FILES)
    hub.page_size, hub.next_origin = 2, canary.url
    with pytest.raises(PolicyError, match="points elsewhere"):
        at(token=hub.token).listing()
    assert canary.asked == []


# -- refusals ------------------------------------------------------------------------------


def test_a_gated_repository_says_where_to_ask_for_access(
    hub: LoopbackHub, at: Callable[..., HuggingFace], client: Client
) -> None:
    hub.add(NAME, FILES, gated=True)
    for token, hint in ((None, "set HF_TOKEN"), (hub.token, "the token that was sent does not suffice")):
        made = at(token=token)
        source = ListedSource(made, client, made.listing(), ["story-Q4_K_M.gguf"])
        with pytest.raises(AccessDeniedError, match=f"{NAME} at {hub.host} is gated") as caught:
            source.open(source.blob(source.files[0]))
        assert hint in caught.value.hint
        assert f"{hub.url}/{NAME}" in caught.value.hint
        assert hub.token not in caught.value.message + caught.value.hint


def test_private_missing_and_refused_are_told_apart_as_far_as_the_hub_does(
    hub: LoopbackHub, at: Callable[..., HuggingFace]
) -> None:
    hub.add(NAME, FILES, private=True)
    for text in (f"hf://{NAME}", "hf://acme/none"):
        with pytest.raises(AccessDeniedError, match="private or gated, or does not exist") as caught:
            at(text).listing()
        assert "HF_TOKEN" in caught.value.hint
    with pytest.raises(NotFoundError, match=f"{hub.host} has no model acme/none"):
        at("hf://acme/none", token=hub.token).listing()
    with pytest.raises(AccessDeniedError, match="refuses the token") as caught:
        at(token="hf_wrong").listing()
    assert "hf_wrong" not in caught.value.message + caught.value.hint


def test_a_revision_and_a_file_that_are_not_there_are_named(
    hub: LoopbackHub, at: Callable[..., HuggingFace], client: Client
) -> None:
    repository = hub.add(NAME, FILES)
    with pytest.raises(NotFoundError, match="has no revision `v9`"):
        at(f"hf://{NAME}@v9").listing()
    with pytest.raises(NotFoundError, match="has no commit bbbbbbbbbbbb"):
        at(f"hf://{NAME}@{'b' * 40}").listing()
    made = at()
    listing = made.listing()
    repository.commits[listing.revision].pop("README.md")
    source = ListedSource(made, client, listing, ["README.md"])
    with pytest.raises(NotFoundError, match=r"has no `README\.md` at commit"):
        source.settle(lambda _file, _data: None)


@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        ({}, "try again in 56 s"),
        ({"RateLimit": "", "Retry-After": "130"}, "try again in 131 s"),
        ({"RateLimit": "x"}, "try again later"),
    ],
)
def test_a_rate_limit_says_when_it_ends(
    hub: LoopbackHub, at: Callable[..., HuggingFace], naps: list[float], headers: dict[str, str], hint: str
) -> None:
    hub.add(NAME, FILES)
    hub.limited, hub.limit_headers = 99, headers
    with pytest.raises(NetworkError, match="answers no more for now") as caught:
        at().listing()
    assert hint in caught.value.hint
    assert len(naps) <= 2
    hub.limited = 1
    hub.limit_headers = {"RateLimit": ""}
    assert at().listing().names == tuple(FILES)


@pytest.mark.parametrize("how", ["refused", "empty"])
def test_a_file_that_only_xet_serves_is_named(
    hub: LoopbackHub, at: Callable[..., HuggingFace], client: Client, how: str
) -> None:
    hub.add(NAME, FILES, xet_only={"story-Q4_K_M.gguf": how})
    made = at()
    source = ListedSource(made, client, made.listing(), ["story-Q4_K_M.gguf"])
    blob = source.blob(source.files[0])
    for ask in (lambda: source.open(blob), lambda: source.open(blob, 5), lambda: source.ranges(blob).read_at(0, 4)):
        with pytest.raises(LadingError, match=r"`story-Q4_K_M\.gguf` lies in Xet") as caught:
            ask()
        assert caught.value.exit_code == 1
        assert f"hf download {NAME}" in caught.value.hint


def test_a_file_in_xet_that_the_hub_serves_plainly_is_read(
    hub: LoopbackHub, at: Callable[..., HuggingFace], client: Client
) -> None:
    hub.add(NAME, {**FILES, "empty.gguf": b""}, xet={*FILES, "empty.gguf"})
    made = at()
    source = ListedSource(made, client, made.listing(), ["story-Q4_K_M.gguf", "empty.gguf", "README.md"])
    source.settle(lambda _file, _data: None)
    assert [len(read(source.open(source.blob(file)))) for file in source.files] == [
        len(WEIGHTS),
        0,
        len(FILES["README.md"]),
    ]


@pytest.mark.parametrize(
    "name", ["../../evil.gguf", "/etc/cron.d/evil.gguf", "a\nb.gguf", "a\x1b[31m.gguf", "a\0.gguf"]
)
def test_a_hostile_name_in_a_listing_is_never_asked_for(
    hub: LoopbackHub, at: Callable[..., HuggingFace], client: Client, name: str
) -> None:
    hub.add(NAME, FILES, listed={"story-Q4_K_M.gguf": name})
    made = at()
    listing = made.listing()
    with pytest.raises(FormatError) as caught:
        ListedSource(made, client, listing, [name])
    assert caught.value.message.isprintable()
    assert not any("resolve" in asked.target for asked in hub.asked)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/models/acme/s/revision/main", b"[]"),
        ("/api/models/acme/s/revision/main", b'{"sha": "main"}'),
        ("/api/models/acme/s/revision/main", b'{"sha": 7}'),
        ("/api/models/acme/s/revision/main", b"\xff"),
        ("/api/models/acme/s/revision/main", b"[" * 100_000),
        (f"/api/models/acme/s/tree/{'c' * 40}", b"{}"),
        (f"/api/models/acme/s/tree/{'c' * 40}", b'[{"type": "file", "path": "a", "size": -1, "oid": ""}]'),
        (f"/api/models/acme/s/tree/{'c' * 40}", b'[{"type": "file", "path": "a", "size": 1e99, "oid": ""}]'),
        (f"/api/models/acme/s/tree/{'c' * 40}", b'[{"type": "file", "path": "a", "lfs": {"oid": "../x", "size": 1}}]'),
        (f"/api/models/acme/s/tree/{'c' * 40}", b'[{"type": "file", "path": "a", "lfs": {"oid": 1, "size": 1}}]'),
    ],
)
def test_an_answer_that_is_none_is_an_error_of_the_tree(
    hostile: Any, reply: Any, client: Client, path: str, body: bytes
) -> None:
    hostile.on("GET", "/api/models/acme/s/revision/main", reply(body=json.dumps({"sha": "c" * 40}).encode()))
    hostile.on("GET", path, reply(body=body))
    with pytest.raises(FormatError):
        HuggingFace(Hub("hf", "acme", "s"), client, endpoint=hostile.url).listing()


def test_a_page_instead_of_a_hub_and_an_endless_listing_are_told(hostile: Any, reply: Any, client: Client) -> None:
    reference = Hub("hf", "acme", "s", revision="c" * 40)
    path = f"/api/models/acme/s/tree/{'c' * 40}"
    hostile.on("GET", path, reply(body=b"<html>", headers={"Content-Type": "text/html"}))
    with pytest.raises(NetworkError, match="web page"):
        HuggingFace(reference, client, endpoint=hostile.url).listing()
    hostile.on("GET", path, reply(body=b"[]", headers={"Link": f'<{path}>; rel="next"'}))
    with pytest.raises(NetworkError, match="without end"):
        HuggingFace(reference, client, endpoint=hostile.url).listing()


def test_a_listing_of_too_many_files_is_not_read_to_its_end(hostile: Any, reply: Any, client: Client) -> None:
    path = f"/api/models/acme/s/tree/{'c' * 40}"
    body = json.dumps([{"type": "file", "path": "a"}] * 60_000).encode()
    hostile.on("GET", path, reply(body=body, headers={"Link": f'<{path}?cursor=1>; rel="next"'}))
    with pytest.raises(NetworkError, match="without end"):
        HuggingFace(Hub("hf", "acme", "s", revision="c" * 40), client, endpoint=hostile.url).listing()
    assert len(hostile.asked) == 2


def test_a_mirror_with_a_path_is_an_endpoint_too(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on("GET", "/mirror/hf/api/models/acme/s/revision/main", reply(body=json.dumps({"sha": "c" * 40}).encode()))
    made = HuggingFace(Hub("hf", "acme", "s"), client, endpoint=f"{hostile.url}/mirror/hf/")
    assert made.revision() == "c" * 40
    with pytest.raises(UsageError, match="no http or https URL"):
        HuggingFace(Hub("hf", "acme", "s"), client, endpoint="hub.acme.test")
