from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lading.digest import Digest
from lading.errors import AccessDeniedError, FormatError, IntegrityError, LadingError, NotFoundError
from lading.reference import Hub, parse
from lading.transport.listing import ListedSource
from lading.transport.modelscope import LIMIT, ModelScope

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hub import LoopbackHub

    from lading.content import ByteReader
    from lading.http import Client

WEIGHTS = bytes(index % 249 for index in range(300_000))
FILES = {
    "README.md": b"# Story\n",
    "configuration.json": b"{}\n",
    "story-Q4_K_M.gguf": WEIGHTS,
    "deep/er/story Q8_0 \u00e9#?&.gguf": WEIGHTS[::-1],
}
NAME = "acme/Story-GGUF"


def read(reader: ByteReader) -> bytes:
    try:
        return b"".join(iter(lambda: reader.read(70_000) or b"", b""))
    finally:
        reader.close()


@pytest.fixture
def at(hub: LoopbackHub, client: Client) -> Callable[..., ModelScope]:
    """A repository of the loopback hub, as lading sees it."""

    def make(text: str = f"ms://{NAME}", **settings: Any) -> ModelScope:
        reference = parse(text)
        assert isinstance(reference, Hub)
        return ModelScope(reference, client, endpoint=hub.url, **settings)

    return make


@pytest.mark.parametrize("package", ["modelscope", "modelscope_hub.compat.snapshot_download"])
def test_the_real_client_downloads_a_snapshot_byte_for_byte(hub: LoopbackHub, tmp_path: Path, package: str) -> None:
    hub.add(NAME, FILES, private=True)
    code = f"from {package} import snapshot_download as s; print(s({NAME!r}, local_dir='got'))"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "MODELSCOPE_CACHE": str(tmp_path / "cache"),
        "MODELSCOPE_ENDPOINT": hub.url,
        "MODELSCOPE_DOMAIN": hub.url,
        "MODELSCOPE_API_TOKEN": hub.token,
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for path, data in FILES.items():
        assert (tmp_path / "got" / path).read_bytes() == data
    assert any(asked.path == f"/api/v1/models/{NAME}/repo/files" for asked in hub.asked)
    assert hub.storage_asked


def test_a_repository_is_listed_with_the_digest_of_every_file(hub: LoopbackHub, at: Callable[..., ModelScope]) -> None:
    commit = hub.add(NAME, FILES).refs["main"]
    made = at()
    listing = made.listing()
    assert (listing.source, listing.revision) == (f"ms://{NAME}@{commit}", commit)
    assert {file.path: (file.size, file.digest) for file in listing.files} == {
        path: (len(data), Digest.of(data)) for path, data in FILES.items()
    }
    assert made.revision() == commit
    assert len(hub.asked) == 1


def test_files_arrive_byte_for_byte_from_anywhere_in_them(
    hub: LoopbackHub, at: Callable[..., ModelScope], client: Client
) -> None:
    hub.add(NAME, FILES)
    made = at()
    source = ListedSource(made, client, made.listing(), FILES)
    assert source.unsettled == ()
    for file in source.files:
        blob = source.blob(file)
        assert read(source.open(blob)) == FILES[file.path]
        assert read(source.open(blob, 2)) == FILES[file.path][2:]
        assert source.ranges(blob).read_at(1, 2) == FILES[file.path][1:3]


@pytest.mark.parametrize("revision", ["v1.0", "feature/x y"])
def test_a_branch_is_left_for_its_commit_when_the_hub_tells_it(
    hub: LoopbackHub, at: Callable[..., ModelScope], client: Client, revision: str
) -> None:
    repository = hub.add(NAME, FILES)
    commit = repository.refs[revision] = repository.refs["main"]
    made = ModelScope(Hub("ms", "acme", "Story-GGUF", None, revision), client, endpoint=hub.url)
    listing = made.listing()
    repository.commit({"story-Q4_K_M.gguf": b"other"})
    repository.refs[revision] = repository.refs["main"]
    source = ListedSource(made, client, listing, ["story-Q4_K_M.gguf"])
    assert read(source.open(source.blob(source.files[0]))) == WEIGHTS
    assert listing.revision == commit


def test_the_first_digits_of_a_commit_are_completed_from_its_files(
    hub: LoopbackHub, at: Callable[..., ModelScope]
) -> None:
    commit = hub.add(NAME, FILES).refs["main"]
    hub.tells_commit = False
    assert at().listing().revision == commit


def test_a_hub_that_tells_no_commit_is_asked_by_branch_and_a_change_is_noticed(
    hostile: Any, reply: Any, client: Client
) -> None:
    digest = Digest.of(WEIGHTS)
    body = (
        b'{"Code":200,"Data":{"Files":[{"Path":"s.gguf","Type":"blob","Size":300000,"Sha256":"%s"}],'
        b'"LatestCommitter":%s},"Success":true}'
    )
    for latest, revision in ((b"null", "master"), (b'{"Id":"","ShortId":"0123abcd"}', "0123abcd")):
        hostile.on("GET", "/api/v1/models/acme/s/repo/files", reply(body=body % (digest.hex.encode(), latest)))
        hostile.on("GET", "/api/v1/models/acme/s/repo", reply(body=WEIGHTS[::-1]))
        made = ModelScope(Hub("ms", "acme", "s"), client, endpoint=hostile.url)
        assert made.listing().source == f"ms://acme/s@{revision}"
        source = ListedSource(made, client, made.listing(), ["s.gguf"])
        with pytest.raises(IntegrityError, match=r"s\.gguf"):
            read(source.open(source.blob(source.files[0])))
        assert "Revision=master&" in hostile.asked[-1].target


def test_the_token_reaches_the_hub_and_nobody_else(
    hub: LoopbackHub, at: Callable[..., ModelScope], client: Client
) -> None:
    hub.add(NAME, FILES, private=True)
    made = at(token=hub.token)
    source = ListedSource(made, client, made.listing(), FILES)
    for file in source.files:
        read(source.open(source.blob(file)))
        source.ranges(source.blob(file)).read_at(0, 2)
    said = {(asked.headers["Authorization"], asked.headers["Cookie"]) for asked in hub.asked}
    assert said == {(f"Bearer {hub.token}", f"m_session_id={hub.token}")}
    assert hub.storage_asked
    assert hub.token not in repr([asked.headers for asked in hub.storage_asked])
    assert "Cookie" not in {name for asked in hub.storage_asked for name in asked.headers}
    assert hub.token not in repr([asked.target for asked in (*hub.asked, *hub.storage_asked)])


def test_private_and_missing_are_named(hub: LoopbackHub, at: Callable[..., ModelScope], client: Client) -> None:
    repository = hub.add(NAME, FILES, private=True)
    with pytest.raises(AccessDeniedError, match=r"may not be read without a login that may \(403\)") as caught:
        at().listing()
    assert "MODELSCOPE_API_TOKEN" in caught.value.hint
    with pytest.raises(AccessDeniedError) as caught:
        at(token="wrong-one").listing()
    assert "wrong-one" not in caught.value.message + caught.value.hint
    with pytest.raises(NotFoundError, match="has no revision `master` of acme/none"):
        at("ms://acme/none").listing()
    with pytest.raises(NotFoundError, match="has no revision `v9`"):
        at(f"ms://{NAME}@v9", token=hub.token).listing()
    made = at(token=hub.token)
    listing = made.listing()
    repository.commits[listing.revision].pop("README.md")
    source = ListedSource(made, client, listing, ["README.md"])
    with pytest.raises(NotFoundError, match=r"has no `README\.md`"):
        source.open(source.blob(source.files[0]))


def test_an_error_told_with_status_200_is_an_error(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on(
        "GET", "/api/v1/models/acme/s/repo/files", reply(body=b'{"Code":404,"Message":"gone\\u001b[2J","Data":null}')
    )
    with pytest.raises(NotFoundError, match="lists no files of acme/s: gone") as caught:
        ModelScope(Hub("ms", "acme", "s"), client, endpoint=hostile.url).listing()
    assert caught.value.message.isprintable()


def test_a_listing_that_was_cut_off_is_not_taken_for_whole(hub: LoopbackHub, at: Callable[..., ModelScope]) -> None:
    hub.add(NAME, {f"{number}.json": b"{}" for number in range(LIMIT)})
    with pytest.raises(LadingError, match="only the first 3000 files"):
        at().listing()


@pytest.mark.parametrize("name", ["../../evil.gguf", "/evil.gguf", "a\nb.gguf", "a\x1b[31m.gguf", "a\0.gguf"])
def test_a_hostile_name_in_a_listing_is_never_asked_for(
    hub: LoopbackHub, at: Callable[..., ModelScope], client: Client, name: str
) -> None:
    hub.add(NAME, FILES, listed={"story-Q4_K_M.gguf": name})
    made = at()
    with pytest.raises(FormatError):
        ListedSource(made, client, made.listing(), [name])
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"\xff",
        b'{"Code":"200"}',
        b'{"Code":200,"Data":{"Files":[{"Type":"blob"}]}}',
        b'{"Code":200,"Data":{"Files":[{"Path":"a","Size":-1}]}}',
        b'{"Code":200,"Data":{"Files":[{"Path":"a","Size":1,"Sha256":"../x"}]}}',
    ],
)
def test_an_answer_that_is_none_is_an_error_of_the_tree(hostile: Any, reply: Any, client: Client, body: bytes) -> None:
    hostile.on("GET", "/api/v1/models/acme/s/repo/files", reply(body=body))
    with pytest.raises(FormatError):
        ModelScope(Hub("ms", "acme", "s"), client, endpoint=hostile.url).listing()
