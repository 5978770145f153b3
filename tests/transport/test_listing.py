from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from lading.artifact import modelpack
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError, NetworkError, NotFoundError, PolicyError, UsageError
from lading.manifest import Descriptor, Manifest
from lading.model import Model, ModelFacts, Role, role_of
from lading.transport.listing import (
    MAX_FILES,
    MAX_SMALL,
    REVISION,
    Endpoint,
    ListedFile,
    ListedSource,
    Listing,
    annotated,
    check_small,
    git_sha1,
    parts_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lading.content import ByteReader
    from lading.http import Client, Response

COMMIT = "a" * 40
LARGE = bytes(index % 253 for index in range(100_000))
SMALL = b'{"model_type": "llama"}\n'
FACTS = ModelFacts(format="gguf", architecture="llama", file_type="Q4_K_M", parameters=1000)


def listing(*files: ListedFile) -> Listing:
    return Listing(f"hf://acme/story@{COMMIT}", COMMIT, files)


def named(*paths: str) -> Listing:
    return listing(*(ListedFile(path, 1, Digest.of(repr(path).encode())) for path in paths))


def read(reader: ByteReader) -> bytes:
    try:
        return b"".join(iter(lambda: reader.read(7000) or b"", b""))
    finally:
        reader.close()


class Scripted:
    """A repository whose hub is a scripted server: each file at its own path."""

    host = "hub.test"

    def __init__(self, url: str, client: Client) -> None:
        self._endpoint = Endpoint(url, client, token=None)

    def revision(self) -> str:
        return COMMIT

    def listing(self) -> Listing:
        return listing()

    def get(self, file: ListedFile, headers: Mapping[str, str], /) -> Response:
        return self._endpoint.get(file.path, headers)


FILES = (
    ListedFile("large.gguf", len(LARGE), Digest.of(LARGE)),
    ListedFile("config.json", len(SMALL), None, git_sha1(SMALL)),
)


@pytest.fixture
def source(hostile: Any, reply: Any, client: Client) -> Callable[..., ListedSource]:
    """Files at a scripted hub, as a Source; what a test does not script otherwise is served right, without ranges."""
    hostile.on("GET", "/large.gguf", reply(body=LARGE))
    hostile.on("GET", "/config.json", reply(body=SMALL))

    def make(files: Sequence[ListedFile] = FILES) -> ListedSource:
        return ListedSource(Scripted(hostile.url, client), client, listing(*files), [file.path for file in files])

    return make


# -- names -----------------------------------------------------------------------


def test_chosen_files_come_in_the_order_they_were_chosen() -> None:
    assert [file.path for file in named("a", "b", "c/d").select(["c/d", "a"])] == ["c/d", "a"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.gguf",
        "a/../../evil.gguf",
        "/etc/passwd",
        "a//b",
        "./a",
        "a/",
        "",
        "..",
        "a\\b.gguf",
        "a\0b.gguf",
        "a\nb.gguf",
        "a\x1b[2Jb.gguf",
        "a\x7fb",
        "\ud800.gguf",
        "x" * 300 + ".gguf",
        "a/" * 600 + "b",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_when_it_is_chosen(name: str) -> None:
    hostile = named("good.gguf", name)
    with pytest.raises(FormatError) as caught:
        hostile.select([name])
    assert (caught.value.message + caught.value.hint).isprintable()
    assert [file.path for file in hostile.select(["good.gguf"])] == ["good.gguf"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Model.gguf", "model.gguf"),
        ("a/B.gguf", "A/b.gguf"),
        ("caf\u00e9.gguf", "cafe\u0301.gguf"),
        ("STRASSE.gguf", "stra\u00dfe.gguf"),
        ("a", "A/b"),
    ],
)
def test_names_that_are_one_file_on_some_disks_are_refused_together(one: str, other: str) -> None:
    both = named(one, other)
    with pytest.raises(FormatError):
        both.select([one, other])
    assert [file.path for file in both.select([other])] == [other]


def test_a_file_listed_twice_and_too_many_files_are_refused() -> None:
    with pytest.raises(FormatError, match="has a twice"):
        named("a", "a").select(["a"])
    many = [f"{number}.safetensors" for number in range(MAX_FILES + 1)]
    with pytest.raises(FormatError, match=f"a model of {MAX_FILES + 1} files"):
        named(*many).select(many)


@pytest.mark.parametrize("size", [-1, 2**63])
def test_a_size_that_no_file_has_is_refused(size: int) -> None:
    with pytest.raises(FormatError, match="impossible size"):
        ListedFile("a", size)


# -- bytes -----------------------------------------------------------------------


def test_git_and_lading_name_a_file_alike(tmp_path: Path) -> None:
    for data in (b"", b"one\n", LARGE):
        file = tmp_path / "file"
        file.write_bytes(data)
        made = subprocess.run(
            ["git", "hash-object", "--no-filters", str(file)], capture_output=True, check=True, text=True
        )
        assert git_sha1(data) == made.stdout.strip()


def test_a_large_file_is_known_before_its_first_byte_and_a_small_one_once_it_is_read(
    source: Callable[..., ListedSource], hostile: Any
) -> None:
    made = source()
    assert made.digests == {"large.gguf": Digest.of(LARGE)}
    assert [file.path for file in made.unsettled] == ["config.json"]
    kept: dict[str, bytes] = {}
    made.settle(lambda file, data: kept.update({file.path: data}))
    assert kept == {"config.json": SMALL}
    assert made.digests["config.json"] == Digest.of(SMALL)
    assert [asked.path for asked in hostile.asked] == ["/config.json"]
    made.settle(lambda file, data: pytest.fail(f"{file} {data!r} again"))
    for file, data in zip(made.files, (LARGE, SMALL), strict=True):
        assert read(made.open(made.blob(file))) == data


def test_of_small_files_only_so_many_bytes_are_handed_over(
    source: Callable[..., ListedSource], hostile: Any, reply: Any
) -> None:
    bodies = {f"{number}.json": str(number).encode() * 1000 for number in range(9)}
    for path, data in bodies.items():
        hostile.on("GET", f"/{path}", reply(body=data))
    made = source([ListedFile(path, len(data), None, git_sha1(data)) for path, data in bodies.items()])
    kept: dict[str, bytes] = {}
    made.settle(lambda file, data: kept.update({file.path: data}), room=2999)
    assert kept == {path: bodies[path] for path in ("0.json", "1.json")}
    assert made.unsettled == ()
    for file in made.files:
        assert made.digests[file.path] == Digest.of(bodies[file.path])
        assert read(made.open(made.blob(file))) == bodies[file.path]


def test_a_server_without_ranges_is_read_past_what_is_there(source: Callable[..., ListedSource]) -> None:
    made = source()
    blob = made.blob(made.files[0])
    assert read(made.open(blob, 60_000)) == LARGE[60_000:]
    assert read(made.open(blob, len(LARGE))) == b""
    assert made.ranges(blob).read_at(5, 10) == LARGE[5:15]


@pytest.mark.parametrize("wrong", [SMALL[:-1] + b"x", SMALL[:-1], SMALL + b"x", b""])
def test_a_small_file_of_other_bytes_is_never_accepted(
    source: Callable[..., ListedSource], hostile: Any, reply: Any, wrong: bytes
) -> None:
    for chunked in (False, True):
        hostile.on("GET", "/config.json", reply(body=wrong, chunked=chunked))
        made = source()
        with pytest.raises(IntegrityError, match=r"config\.json"):
            made.settle(lambda file, data: pytest.fail(f"{file} {data!r} was kept"))
        assert "config.json" not in made.digests


@pytest.mark.parametrize("wrong", [LARGE[:-1] + b"x", LARGE[:-1], LARGE + b"x"])
def test_a_large_file_of_other_bytes_is_never_read_to_its_end(
    source: Callable[..., ListedSource], hostile: Any, reply: Any, wrong: bytes
) -> None:
    for chunked in (False, True):
        hostile.on("GET", "/large.gguf", reply(body=wrong, chunked=chunked))
        made = source()
        with pytest.raises(IntegrityError):
            read(made.open(made.blob(made.files[0])))


def test_a_page_a_gzipped_body_and_another_range_are_refused(
    source: Callable[..., ListedSource], hostile: Any, reply: Any
) -> None:
    made = source()
    blob = made.blob(made.files[0])
    hostile.on("GET", "/large.gguf", reply(body=LARGE, headers={"Content-Type": "text/html; charset=utf-8"}))
    with pytest.raises(NetworkError, match="web page"):
        made.open(blob)
    hostile.on("GET", "/large.gguf", reply(body=LARGE, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(IntegrityError, match="encoded"):
        made.open(blob)
    shifted = reply(206, LARGE[11:], {"Content-Range": f"bytes 11-{len(LARGE) - 1}/{len(LARGE)}"})
    hostile.on("GET", "/large.gguf", shifted)
    with pytest.raises(IntegrityError, match="another part"):
        made.open(blob, 10)


def test_a_long_file_without_a_digest_and_an_unknown_blob_are_refused(source: Callable[..., ListedSource]) -> None:
    with pytest.raises(FormatError, match=r"`big\.json` without its digest"):
        source([ListedFile("big.json", MAX_SMALL + 1, None, COMMIT)])
    with pytest.raises(NotFoundError, match="has no blob"):
        source().open(Descriptor.of(b"other", "x/y"))
    with pytest.raises(NotFoundError, match="has no manifest"):
        source().document("latest")


def test_a_file_without_any_digest_is_held_to_its_size() -> None:
    check_small(ListedFile("a", 3), b"abc")
    with pytest.raises(IntegrityError, match="2 bytes, and is listed with 3"):
        check_small(ListedFile("a", 3), b"ab")


# -- the model ---------------------------------------------------------------------


def test_one_commit_gives_one_digest_everywhere(source: Callable[..., ListedSource]) -> None:
    """The same files of a commit: whatever their order in the listing, or how often and when they are fetched."""

    def manifest(files: Sequence[ListedFile]) -> Manifest:
        made = source(files)
        made.settle(lambda _file, _data: None)
        written = modelpack.ROW.write(Model(parts_of(made, role_of), FACTS), None)
        return annotated(written.manifest, listing(*files))

    first = manifest(FILES)
    assert manifest(FILES[::-1]) == first
    assert first.digest == "sha256:" + hashlib.sha256(first.raw).hexdigest()
    # Written down, so that another machine or a later version is held to it.
    assert first.digest == "sha256:568fe8d1e752532745f0ed5e51c95495028aa1f3296faddf7375b249b92721bd"
    assert first.annotations["io.lading.source"] == f"hf://acme/story@{COMMIT}"
    assert first.annotations[REVISION] == COMMIT
    assert b"created" not in first.raw


def test_parts_have_the_roles_of_their_names(source: Callable[..., ListedSource]) -> None:
    made = source()
    made.settle(lambda _file, _data: None)
    parts = parts_of(made, role_of)
    assert [(part.role, part.name, part.blob.size) for part in parts] == [
        (Role.WEIGHTS, "large.gguf", len(LARGE)),
        (Role.CONFIG, "config.json", len(SMALL)),
    ]


# -- the endpoint ------------------------------------------------------------------


def test_plain_http_beyond_this_machine_needs_a_word_and_never_gets_the_token(client: Client) -> None:
    with pytest.raises(PolicyError, match="plain http"):
        Endpoint("http://hub.acme.test", client, token=None)
    assert Endpoint("http://hub.acme.test", client, token="secret", insecure=True).token is None
    assert Endpoint("https://hub.acme.test/", client, token="secret").token == "secret"


def test_a_url_of_another_origin_is_refused(hostile: Any, canary: Any, client: Client) -> None:
    endpoint = Endpoint(hostile.url, client, token="secret")
    for url in (f"{canary.url}/x", "https://127.0.0.1/x", "http://localhost:1/x"):
        with pytest.raises(PolicyError, match="points elsewhere"):
            endpoint.get(url)
    assert canary.asked == hostile.asked == []


@pytest.mark.parametrize("token", ["two words", "new\nline", "semi;colon", "gr\u00fcn", 'quo"te', "nul\0"])
def test_what_cannot_be_a_token_is_refused_and_not_repeated(client: Client, token: str) -> None:
    with pytest.raises(UsageError, match="character that no token has") as caught:
        Endpoint("https://hub.acme.test", client, token=token)
    assert token not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("url", ["https://sam:secret@hub.test", "https://hub.test?x=secret", "https://hub.test#secret"])
def test_an_address_with_more_than_a_host_is_refused_and_not_repeated(client: Client, url: str) -> None:
    with pytest.raises(UsageError, match=r"on hub\.test") as caught:
        Endpoint(url, client, token=None)
    assert "secret" not in caught.value.message + caught.value.hint
