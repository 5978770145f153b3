"""Files whose digest nobody tells: kept, found, taken up and waited for by their version."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sources import Folder, Memory, descriptor, ignore

from lading.digest import Digest
from lading.errors import IntegrityError, NetworkError, NoSpaceError
from lading.store import Store, Version, stream, sweep
from lading.store.receive import CHUNK

if TYPE_CHECKING:
    from pathlib import Path

    from workers import Start

    from lading.content import ByteReader
    from lading.manifest import Descriptor
    from lading.store import Adopted

    from .conftest import CheckStore

DATA = random.Random(4).randbytes(12_000_000)
ONE = Version("https://models.example/a.gguf?token=canary", "a.gguf", len(DATA), '"one"')
MEBIBYTE = 1 << 20


class File(Memory):
    """A source of one file, whatever blob it is asked for. It breaks off at `stop`, for good."""

    def __init__(self, data: bytes = DATA, *, stop: int | None = None) -> None:
        super().__init__(data)
        self.data = data
        self.stop = stop
        self.offsets: list[int] = []

    def open(self, _blob: Descriptor, /, offset: int = 0) -> ByteReader:
        self.offsets.append(offset)
        if self.stop is not None and offset >= self.stop:
            message = "the line is dead"
            raise NetworkError(message)
        stop = len(self.data) if self.stop is None else self.stop
        inner = super().open(descriptor(self.data), offset)
        if self.stop is None:
            return inner

        def break_off(_digest: str, at: int) -> None:
            if at >= stop:
                message = "the line broke"
                raise NetworkError(message)

        self.before_read = break_off
        return inner


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ENDURANCE", stream.Endurance(tries=2, first=0.001))


def put(store: Store, source: Memory, version: Version = ONE) -> Adopted:
    with store.lease() as lease:
        return store.put_version(version, source, ignore, lease=lease)


def test_what_a_version_turned_out_to_be_is_not_fetched_again(store: Store, check_store: CheckStore) -> None:
    source = File()
    adopted = put(store, source)
    assert (adopted.digest, adopted.size, adopted.how) == (Digest.of(DATA), len(DATA), "received")
    assert put(store, source).how == "present"
    with store.lease() as lease:
        assert store.find_version(ONE, lease) == replace(adopted, how="present")
        assert store.find_version(replace(ONE, validator='"two"'), lease) is None
    assert source.offsets == [0]
    assert check_store(store.root, idle=True) == {adopted.digest}


@pytest.mark.parametrize(
    "other",
    [
        replace(ONE, validator='"two"'),
        replace(ONE, size=len(DATA) - 1),
        replace(ONE, place="https://models.example/a.gguf?token=other"),
    ],
)
def test_a_part_is_taken_up_for_its_own_version_alone(store: Store, check_store: CheckStore, other: Version) -> None:
    with pytest.raises(NetworkError):
        put(store, File(stop=10_000_000))
    held = store.received(ONE.blob)
    assert held > 10_000_000 - 2 * CHUNK
    of_another = File(DATA[: other.size])
    put(store, of_another, other)
    assert of_another.offsets == [0]
    source = File()
    put(store, source)
    assert source.offsets == [held]
    check_store(store.root, idle=True)


def test_no_token_of_an_address_is_written_anywhere(store: Store) -> None:
    with pytest.raises(NetworkError):
        put(store, File(stop=10_000_000))
    put(store, File(DATA[:10]), replace(ONE, size=10))
    written = [path for path in store.root.rglob("*") if path.is_file()]
    assert len(written) > 4
    assert not any(b"canary" in path.read_bytes() or "canary" in path.name for path in written)


def test_a_file_of_another_size_than_told_leaves_nothing(store: Store, check_store: CheckStore) -> None:
    for size, why in ((len(DATA) - 1, "a.gguf is longer"), (len(DATA) + 1, "a.gguf ended after")):
        with pytest.raises(IntegrityError, match=why):
            put(store, File(), replace(ONE, size=size))
    assert check_store(store.root, idle=True) == set()


def test_a_part_can_be_dropped_and_a_collection_frees_it(store: Store) -> None:
    with pytest.raises(NetworkError):
        put(store, File(stop=10_000_000))
    store.blobs.forget_part(ONE.blob.digest)
    assert store.received(ONE.blob) == 0
    with pytest.raises(NetworkError):
        put(store, File(stop=10_000_000))
    held = store.received(ONE.blob)
    assert sweep.prune(store).partial_bytes == held > 0
    assert store.received(ONE.blob) == 0


def test_what_is_known_of_a_version_goes_with_its_bytes(store: Store, check_store: CheckStore) -> None:
    adopted = put(store, File())
    with store.lease([adopted.digest]):
        sweep.prune(store, dry_run=True)
        sweep.prune(store)
        assert store.blobs.versions.digest(ONE) == adopted.digest
    sweep.prune(store, dry_run=True)
    assert store.blobs.versions.digest(ONE) == adopted.digest
    sweep.prune(store)
    assert store.blobs.versions.digest(ONE) is None
    assert [path for path in (store.root / "cache").rglob("*") if path.is_file()] == []
    again = File()
    assert put(store, again).how == "received"
    assert again.offsets == [0]
    check_store(store.root, idle=True)


@pytest.mark.parametrize("damage", [b"", b"sha256:12", b"\xff" * 300, b"{}"])
def test_a_note_that_makes_no_sense_is_no_note(store: Store, damage: bytes) -> None:
    put(store, File())
    [note] = (store.root / "cache/versions").iterdir()
    note.write_bytes(damage)
    assert put(store, File()).how == "present"
    assert store.blobs.versions.digest(ONE) == Digest.of(DATA)


def test_a_death_before_the_blob_has_its_name_costs_no_byte(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_arguments: object) -> None:
        message = "no space left"
        raise NoSpaceError(message)

    for place, name in ((type(store.blobs.versions), "remember"), (type(store.blobs), "commit")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, dies)
            with pytest.raises(NoSpaceError):
                put(store, File())
        held = store.received(ONE.blob)
        assert held > len(DATA) - 8 * MEBIBYTE
    source = File()
    assert put(store, source).how == "received"
    assert 0 not in source.offsets


@pytest.mark.parametrize("end", ["finishes", "dies"])
def test_who_wants_the_same_version_waits_and_takes_over_from_the_dead(
    store: Store, start: Start, tmp_path: Path, check_store: CheckStore, end: str
) -> None:
    data = random.Random(5).randbytes(12 * MEBIBYTE)
    origin = Folder(tmp_path / "origin")
    blob = origin.add(data)
    code = """
import sys
from pathlib import Path
from sources import Folder, descriptor
from lading.manifest import Descriptor
from lading.digest import Digest
from lading.store import Store, Version
role = sys.argv[3]
class One(Folder):
    def open(self, _blob, /, offset=0):
        return super().open(Descriptor(media_type="x", digest=Digest(sys.argv[4]), size=12 << 20), offset)
said = []
def progress(done):
    if role == "leader" and done > 9 << 20 and not said:
        said.append(print("far", flush=True))
        sys.stdin.read()
    if role == "waiter" and done > 4 << 20 and not said:
        said.append(print("seen", flush=True))
store = Store(Path(sys.argv[1]))
with store.lease() as lease:
    version = Version("http://here/a", "a", 12 << 20, '"one"')
    print(store.put_version(version, One(Path(sys.argv[2])), progress, lease=lease).how, flush=True)
"""
    leader = start(code, store.root, tmp_path / "origin", "leader", blob.digest)
    assert leader.line() == "far"
    waiter = start(code, store.root, tmp_path / "origin", "waiter", blob.digest)
    assert waiter.line() == "seen", "a waiter tells how far the leader is"
    if end == "dies":
        leader.kill()
        assert waiter.line() == "received"
        first, second = origin.log
        assert first == 0
        assert second >= 9 * MEBIBYTE - 8 * MEBIBYTE
    else:
        leader.end()
        assert waiter.line() == "present"
        assert origin.log == [0]
    waiter.end()
    assert check_store(store.root, idle=True) == {blob.digest}
