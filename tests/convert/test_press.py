from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from archives import Layers, files

from lading.artifact import image
from lading.convert import Press
from lading.convert.overlay import Wrapped
from lading.digest import Digest
from lading.errors import IntegrityError
from lading.events import Silent, Skipped
from lading.manifest import Descriptor
from lading.model import Member, Part, Role
from lading.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from lading.content import Progress, Unnamed
    from lading.events import Event
    from lading.formats.archive import Wrapping

WEIGHTS = b"GGUF" + bytes(range(256)) * 9000


class Taking:
    """A target for unnamed streams that reads them as a registry over a bad line does: some bytes twice."""

    def __init__(self, *, breaks: int = 0, willing: bool = True) -> None:
        self.taken: list[bytes] = []
        self.breaks = breaks
        self.willing = willing

    def put_unnamed(self, stream: Unnamed, progress: Progress, /) -> Digest | None:
        if not self.willing:
            return None
        got = b""
        for _time in range(self.breaks):
            got = got[: len(got) // 2]
            reader = stream.open(len(got))
            got += reader.read(700_000) or b""
            reader.close()
        reader = stream.open(len(got))
        while piece := reader.read(100_000):
            got += piece
        reader.close()
        digest = stream.finish()
        progress(len(got))
        self.taken.append(got)
        return digest


class Log:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def source() -> Layers:
    return Layers(WEIGHTS)


@pytest.fixture
def part() -> Part:
    return Part(Role.WEIGHTS, "a.gguf", Descriptor.of(WEIGHTS, "x/y"))


@pytest.fixture
def wrapping(part: Part) -> Wrapping:
    assert image.ROW.wrap is not None
    return image.ROW.wrap(part.name, part.size)


@pytest.fixture
def archive(wrapping: Wrapping) -> bytes:
    return wrapping.head + WEIGHTS + wrapping.tail


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    made.prepare()
    return made


@pytest.mark.parametrize("breaks", [0, 1, 4])
def test_a_layer_is_sent_while_its_digest_is_found_out(
    store: Store, source: Layers, part: Part, wrapping: Wrapping, archive: bytes, breaks: int
) -> None:
    target = Taking(breaks=breaks)
    press = Press(store, Silent(), target)
    assert press.layer(part, wrapping, source) == Digest.of(archive)
    assert target.taken == [archive]
    assert press.sent == {Digest.of(archive): len(archive)}


@pytest.mark.parametrize("target", [None, Taking(willing=False)])
def test_without_a_target_that_takes_it_a_layer_is_hashed(
    store: Store, source: Layers, part: Part, wrapping: Wrapping, archive: bytes, target: Taking | None
) -> None:
    log = Log()
    press = Press(store, log, target)
    assert press.layer(part, wrapping, source) == Digest.of(archive)
    assert source.opened == 1
    assert not press.sent
    assert isinstance(log.events[-1], Skipped)
    assert log.events[-1].why == "hashed"


def test_what_was_found_out_is_not_read_for_again(
    store: Store, source: Layers, part: Part, wrapping: Wrapping, archive: bytes
) -> None:
    Press(store, Silent()).layer(part, wrapping, source)
    again = Press(store, Silent())
    assert again.layer(part, wrapping, source) == Digest.of(archive)
    assert source.opened == 1
    assert again.hinted
    again.forget()
    assert not again.hinted
    assert again.layer(part, wrapping, source) == Digest.of(archive)
    assert source.opened == 2


def test_a_store_that_is_not_there_is_not_made_for_a_hint(
    tmp_path: Path, source: Layers, part: Part, wrapping: Wrapping
) -> None:
    Press(Store(tmp_path / "none"), Silent()).layer(part, wrapping, source)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("target", [None, Taking(), Taking(breaks=3)], ids=["hashed", "sent", "broken"])
def test_a_file_that_is_not_what_its_digest_says_is_never_sent(
    store: Store, source: Layers, part: Part, wrapping: Wrapping, target: Taking | None
) -> None:
    source.bodies[part.blob.digest] = WEIGHTS[:-1] + b"?"
    with pytest.raises(IntegrityError, match=f"blob {part.blob.digest.short} has digest"):
        Press(store, Silent(), target).layer(part, wrapping, source)
    assert target is None or target.taken == []


def test_files_in_a_layer_are_hashed_once_it_is_held_to_its_own_digest(store: Store) -> None:
    layer = files(("a.gguf", b"GGUF one"), ("b.gguf", b"GGUF two"))
    source = Layers()
    blob = source.add(layer, "x/tar")
    parts = [
        Part(Role.WEIGHTS, name, blob, Member(name, layer.index(body), len(body)))
        for name, body in (("b.gguf", b"GGUF two"), ("a.gguf", b"GGUF one"))
    ]
    press = Press(store, Silent())
    assert press.files(parts, source) == {"a.gguf": Digest.of(b"GGUF one"), "b.gguf": Digest.of(b"GGUF two")}
    assert source.opened == 1
    source.bodies[blob.digest] = layer.replace(b"GGUF two", b"GGUF TWO")
    with pytest.raises(IntegrityError, match="has digest"):
        press.files(parts, source)


def test_a_file_that_is_not_where_it_was_is_named(store: Store) -> None:
    layer = files(("a.gguf", b"GGUF one"))
    source = Layers()
    blob = source.add(layer, "x/tar")
    part = Part(Role.WEIGHTS, "a.gguf", blob, Member("a.gguf", 0, 8))
    with pytest.raises(IntegrityError, match=r"a\.gguf is not where it was"):
        Press(store, Silent()).files([part], source)


def test_an_archive_can_be_opened_at_any_place(source: Layers, part: Part, wrapping: Wrapping, archive: bytes) -> None:
    recipe = Wrapped("it", wrapping, part.blob, source)
    edges = (len(wrapping.head), len(wrapping.head) + part.size)
    for offset in sorted(
        {0, 1, len(archive) - 1, len(archive), *edges, *(edge + by for edge in edges for by in (-1, 1))}
    ):
        reader = recipe.open(offset)
        assert b"".join(iter(lambda: reader.read(1 << 20) or b"", b"")) == archive[offset:]  # noqa: B023 - read at once
        reader.close()
