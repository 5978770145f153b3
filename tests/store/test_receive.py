from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from sources import Folder, Memory, descriptor, ignore

from lading import fs
from lading.digest import Digest
from lading.errors import IntegrityError, LadingError, NetworkError, StoppedError
from lading.manifest import Descriptor
from lading.store import behind, receive, stream

if TYPE_CHECKING:
    from pathlib import Path

    from workers import Start

    from lading.content import ByteReader
    from lading.store import Store

    from .conftest import CheckStore

DATA = random.Random(1).randbytes(3_500_000)  # more than three blocks of reading
LONG = random.Random(2).randbytes(21_000_000)  # more than ten blocks of syncing

RECEIVE = """
import sys
from pathlib import Path
from sources import Folder
from lading.digest import Digest
from lading.manifest import Descriptor
from lading.store import Store
root, source, digest, size, step, pause = sys.argv[1:]
def progress(done):
    print(done, flush=True)
store = Store(Path(root))
source = Folder(Path(source), step=int(step), pause=float(pause))
blob = Descriptor(media_type="x", digest=Digest(digest), size=int(size))
print("start", flush=True)
print("end", store.put_blob(blob, source, progress), flush=True)
"""


@pytest.fixture(params=["hashed first", "hashed behind"])
def much(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any part for one that is worth to be hashed while more comes, or none."""
    monkeypatch.setattr(receive, "_MUCH", 1 if request.param == "hashed behind" else 1 << 60)


def partial_of(store: Store, blob: Descriptor) -> Path:
    return store.work / "ingest" / blob.digest.file_name


def leave_partial(store: Store, blob: Descriptor, data: bytes) -> None:
    """Leave what a receiver leaves that ended in order."""
    store.prepare()
    partial_of(store, blob).write_bytes(data)
    partial_of(store, blob).chmod(0o700)


def drain(reader: ByteReader) -> None:
    while reader.read(1 << 20):
        pass


def in_store(store: Store, blob: Descriptor) -> bytes:
    return (store.root / blob.digest.path).read_bytes()


@pytest.mark.parametrize("data", [b"", b"x", DATA[: 1 << 20], DATA])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_received_blob_has_its_name_and_bytes_and_leaves_no_part(
    store: Store, check_store: CheckStore, data: bytes, algorithm: str
) -> None:
    blob = descriptor(data, algorithm)
    told: list[int] = []
    assert store.put_blob(blob, Memory(data), told.append) == ""
    assert in_store(store, blob) == data
    assert told == sorted(told)
    assert told[-1] == len(data)
    assert store.has(blob)
    assert check_store(store.root, idle=True) == {blob.digest}


def test_a_blob_that_is_there_is_not_asked_for(store: Store) -> None:
    source = Memory(DATA)
    store.put_blob(descriptor(DATA), source, ignore)
    assert store.put_blob(descriptor(DATA), source, ignore) == "present"
    assert len(source.opened) == 1


WRONG = {
    "other bytes": DATA[:-1] + b"\0",
    "other bytes in the middle": DATA[:9] + b"\0" + DATA[10:],
    "truncated": DATA[:-1],
    "empty": b"",
    "longer": DATA + b"x",
    "much longer": DATA * 4,
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_a_wrong_body_gets_no_name_and_leaves_nothing(store: Store, check_store: CheckStore, body: bytes) -> None:
    blob = descriptor(DATA)
    source = Memory()
    source.bodies[blob.digest] = body
    with pytest.raises(IntegrityError) as error:
        store.put_blob(blob, source, ignore)
    assert blob.digest.short in error.value.message
    assert error.value.hint
    assert source.opened == [(blob.digest, 0)] * 2, "read once more, and no more than that"
    assert check_store(store.root, idle=True) == set()


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_a_body_that_is_wrong_once_is_read_once_more(store: Store, check_store: CheckStore, body: bytes) -> None:
    class WrongOnce(Memory):
        def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
            self.bodies[blob.digest] = DATA if self.opened else body
            return super().open(blob, offset)

    blob = descriptor(DATA)
    source = WrongOnce()
    store.put_blob(blob, source, ignore)
    assert source.opened == [(blob.digest, 0)] * 2
    assert in_store(store, blob) == DATA
    assert check_store(store.root, idle=True) == {blob.digest}


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 0])
def test_a_wrong_size_in_the_descriptor_gets_no_name(store: Store, check_store: CheckStore, size: int) -> None:
    blob = Descriptor(media_type="x", digest=Digest.of(DATA), size=size)
    with pytest.raises(IntegrityError):
        store.put_blob(blob, Memory(DATA), ignore)
    assert check_store(store.root, idle=True) == set()


def test_an_endless_body_is_stopped_a_block_past_its_size(store: Store) -> None:
    source = Memory(DATA)
    source.bodies[Digest.of(DATA[:100])] = DATA
    told: list[int] = []
    with pytest.raises(IntegrityError, match="longer than the 100 bytes"):
        store.put_blob(descriptor(DATA[:100]), source, told.append)
    assert max(told) <= 100


@pytest.mark.parametrize("left", [1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, len(DATA) - 1])
@pytest.mark.usefixtures("much")
def test_a_left_part_is_taken_up_where_it_ends(store: Store, check_store: CheckStore, left: int) -> None:
    blob = descriptor(DATA)
    leave_partial(store, blob, DATA[:left])
    source = Memory(DATA)
    store.put_blob(blob, source, ignore)
    assert source.opened == [(blob.digest, left)]
    assert check_store(store.root, idle=True) == {blob.digest}


def test_a_part_that_is_to_be_forgotten_is_not_taken_up(store: Store) -> None:
    blob = descriptor(DATA)
    leave_partial(store, blob, DATA[:1000])
    store.blobs.forget_part(blob.digest)
    store.blobs.forget_part(blob.digest)
    source = Memory(DATA)
    store.put_blob(blob, source, ignore)
    assert source.opened == [(blob.digest, 0)]


def test_a_whole_part_needs_no_request(store: Store) -> None:
    blob = descriptor(DATA)
    leave_partial(store, blob, DATA)
    source = Memory()
    store.put_blob(blob, source, ignore)
    assert source.opened == []
    assert in_store(store, blob) == DATA


def test_a_part_longer_than_the_blob_is_dropped(store: Store) -> None:
    blob = descriptor(DATA)
    leave_partial(store, blob, DATA + b"x")
    source = Memory(DATA)
    store.put_blob(blob, source, ignore)
    assert source.opened == [(blob.digest, 0)]


@pytest.mark.parametrize("left", [100, len(DATA)])
@pytest.mark.usefixtures("much")
def test_a_wrong_part_is_dropped_and_the_blob_read_once_more(store: Store, left: int) -> None:
    blob = descriptor(DATA)
    leave_partial(store, blob, b"\0" * left)
    source = Memory(DATA)
    told: list[int] = []
    store.put_blob(blob, source, told.append)
    assert [offset for _digest, offset in source.opened] == ([100, 0] if left == 100 else [0])
    assert in_store(store, blob) == DATA
    assert 0 in told


@pytest.mark.usefixtures("much")
def test_a_wrong_part_and_a_wrong_source_end_after_one_restart(store: Store, check_store: CheckStore) -> None:
    blob = descriptor(DATA)
    leave_partial(store, blob, b"\0" * 100)
    source = Memory()
    source.bodies[blob.digest] = b"\1" * len(DATA)
    with pytest.raises(IntegrityError):
        store.put_blob(blob, source, ignore)
    assert [offset for _digest, offset in source.opened] == [100, 0]
    assert check_store(store.root, idle=True) == set()


@pytest.mark.usefixtures("much")
def test_what_came_before_a_break_is_kept_for_the_next_attempt(
    store: Store, check_store: CheckStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ENDURANCE", stream.Endurance(tries=1, first=0.001))
    blob = descriptor(DATA)
    source = Memory(DATA)

    def breaks(_digest: str, offset: int) -> None:
        if offset >= 2 << 20:
            msg = "the line broke"
            raise NetworkError(msg)

    source.before_read = breaks
    for _attempt in range(3):
        with pytest.raises(NetworkError):
            store.put_blob(blob, source, ignore)
        assert check_store(store.root) == set()
    source.before_read = lambda _digest, _offset: None
    store.put_blob(blob, source, ignore)
    assert [offset for _digest, offset in source.opened] == [0, *[2 << 20] * 6]  # each attempt opens it twice
    assert check_store(store.root, idle=True) == {blob.digest}


@pytest.mark.usefixtures("much")
def test_a_longer_body_after_a_left_part_is_refused(store: Store, check_store: CheckStore) -> None:
    blob = descriptor(DATA)
    leave_partial(store, blob, DATA[: 1 << 20])
    source = Memory()
    source.bodies[blob.digest] = DATA + b"x"
    with pytest.raises(IntegrityError, match="longer than"):
        store.put_blob(blob, source, ignore)
    assert check_store(store.root, idle=True) == set()


def test_a_slow_source_is_hashed_as_it_comes_once_what_was_left_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "_MUCH", 1)
    blob = descriptor(LONG)
    leave_partial(store, blob, LONG[: 5 << 20])
    read: list[int] = []
    read_into = fs.Partial.read_into

    def noted(partial: fs.Partial, offset: int, buffer: memoryview) -> int:
        read.append(offset)
        return read_into(partial, offset, buffer)

    monkeypatch.setattr(fs.Partial, "read_into", noted)
    source = Memory(LONG)
    source.before_read = lambda _digest, _offset: time.sleep(0.05)
    store.put_blob(blob, source, ignore)
    assert read == sorted(read)
    assert max(read) < 10 << 20, "the rest was not read back"
    assert in_store(store, blob) == LONG


def test_a_fast_source_waits_until_what_was_left_is_hashed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "_MUCH", 1)
    monkeypatch.setattr(behind, "_TELLING", 4 << 20)
    blob = descriptor(LONG)
    leave_partial(store, blob, LONG[: 5 << 20])
    read: list[int] = []
    read_into = fs.Partial.read_into

    def slowly(partial: fs.Partial, offset: int, buffer: memoryview) -> int:
        read.append(offset)
        time.sleep(0.05)
        return read_into(partial, offset, buffer)

    monkeypatch.setattr(fs.Partial, "read_into", slowly)
    told: list[int] = []
    store.put_blob(blob, Memory(LONG), told.append)
    assert max(read) < 14 << 20, "what came after the wait was not read back"
    assert told == sorted(told)
    assert in_store(store, blob) == LONG


def test_a_disk_that_fails_while_a_fast_source_waits_ends_the_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "_MUCH", 1)
    monkeypatch.setattr(behind, "_TELLING", 4 << 20)
    blob = descriptor(LONG)
    leave_partial(store, blob, LONG[: 5 << 20])
    read_into = fs.Partial.read_into

    def slowly(partial: fs.Partial, offset: int, buffer: memoryview) -> int:
        time.sleep(0.05)
        return read_into(partial, offset, buffer)

    def broken(_partial: fs.Partial, _offset: int, _data: memoryview) -> None:
        message = "the disk cannot be written"
        raise LadingError(message)

    monkeypatch.setattr(fs.Partial, "read_into", slowly)
    monkeypatch.setattr(fs.Partial, "append", broken)
    with pytest.raises(LadingError, match="cannot be written"):
        store.put_blob(blob, Memory(LONG), ignore)


def test_a_part_that_cannot_be_read_stops_the_transfer_soon(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "_MUCH", 1)
    blob = descriptor(LONG)
    leave_partial(store, blob, LONG[: 5 << 20])

    def broken(_partial: fs.Partial, _offset: int, _buffer: memoryview) -> int:
        message = "the disk cannot be read"
        raise LadingError(message)

    monkeypatch.setattr(fs.Partial, "read_into", broken)
    source = Memory(LONG)
    source.before_read = lambda _digest, _offset: time.sleep(0.02)
    told: list[int] = []
    with pytest.raises(LadingError, match="cannot be read"):
        store.put_blob(blob, source, told.append)
    assert max(told) < len(LONG)


def test_one_who_gives_up_while_the_hash_is_behind_leaves_the_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "_MUCH", 1)
    blob = descriptor(LONG)
    leave_partial(store, blob, LONG[: 1 << 20])

    def stop(done: int) -> None:
        if done == len(LONG):
            msg = "enough"
            raise StoppedError(msg)

    threads = threading.active_count()
    with pytest.raises(StoppedError):
        store.put_blob(blob, Memory(LONG), stop)
    assert threading.active_count() == threads
    assert partial_of(store, blob).stat().st_size == len(LONG)
    source = Memory()
    store.put_blob(blob, source, ignore)
    assert source.opened == []


def test_who_hears_the_progress_may_stop_it_and_the_part_stays(store: Store) -> None:
    blob = descriptor(DATA)

    def stop(done: int) -> None:
        if done > 1 << 20:
            msg = "enough"
            raise StoppedError(msg)

    with pytest.raises(StoppedError):
        store.put_blob(blob, Memory(DATA), stop)
    assert partial_of(store, blob).stat().st_size == 2 << 20


def test_a_damaged_blob_of_the_right_size_is_received_anew_once_it_is_known(
    store: Store, check_store: CheckStore
) -> None:
    blob = descriptor(DATA)
    store.put_blob(blob, Memory(DATA), ignore)
    path = store.root / blob.digest.path
    path.chmod(0o644)
    path.write_bytes(b"\0" * len(DATA))
    reader = store.open(blob)
    with pytest.raises(IntegrityError, match="has digest"):
        drain(reader)
    reader.close()
    store.blobs.condemn(blob.digest, store.blobs.path(blob.digest).stat())
    assert not store.has(blob)
    with pytest.raises(IntegrityError, match="is damaged"):
        store.ranges(blob)
    assert store.put_blob(blob, Memory(DATA), ignore) == ""
    assert store.has(blob)
    assert check_store(store.root, idle=True) == {blob.digest}


def test_a_symbolic_link_in_place_of_a_blob_is_never_followed(store: Store, tmp_path: Path) -> None:
    blob = descriptor(DATA)
    store.prepare()
    (tmp_path / "elsewhere").write_bytes(DATA)
    (store.root / blob.digest.path).symlink_to(tmp_path / "elsewhere")
    assert not store.has(blob)
    for use in (store.open, store.ranges, store.read):
        with pytest.raises(IntegrityError):
            use(blob)
    store.put_blob(blob, Memory(DATA), ignore)
    assert not (store.root / blob.digest.path).is_symlink()


def test_a_stream_without_a_digest_gets_the_name_that_follows_from_it(store: Store, check_store: CheckStore) -> None:
    first = store.put_unknown("a file", len(DATA), Memory(DATA).open(descriptor(DATA)), ignore)
    again = store.put_unknown("a file", None, Memory(DATA).open(descriptor(DATA)), ignore)
    assert (first.digest, first.size, first.how, again.how) == (Digest.of(DATA), len(DATA), "received", "present")
    with pytest.raises(IntegrityError, match="a file ended after"):
        store.put_unknown("a file", len(DATA) + 1, Memory(DATA).open(descriptor(DATA)), ignore)
    with pytest.raises(IntegrityError, match="a file is longer"):
        store.put_unknown("a file", len(DATA) - 1, Memory(DATA).open(descriptor(DATA)), ignore)
    assert check_store(store.root, idle=True) == {Digest.of(DATA)}


def test_small_blobs_of_our_own_are_written_once_and_repaired_when_damaged(
    store: Store, check_store: CheckStore
) -> None:
    digest = store.put_bytes(b"small")
    path = store.root / digest.path
    before = path.stat()
    assert store.put_bytes(b"small") == digest
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    for damage in (b"smalX", b"sm", b""):
        path.chmod(0o644)
        path.write_bytes(damage)
        assert store.put_bytes(b"small") == digest
        assert check_store(store.root, idle=True) == {digest}


def test_threads_that_want_the_same_blob_fetch_it_once(store: Store) -> None:
    source = Memory(DATA)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(store.put_blob(descriptor(DATA), source, ignore)))
        for _number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == ["", *["present"] * 5]
    assert len(source.opened) == 1


@pytest.mark.parametrize("count", [2, 8])
def test_processes_that_want_the_same_blob_fetch_it_once_and_all_succeed(
    tmp_path: Path, start: Start, check_store: CheckStore, count: int
) -> None:
    source = Folder(tmp_path / "source")
    blob = source.add(DATA)
    arguments = (tmp_path / "store", tmp_path / "source", blob.digest, blob.size, 100_000, 0.005)
    outputs = [worker.end() for worker in [start(RECEIVE, *arguments) for _number in range(count)]]
    ends = [output.splitlines()[-1].strip() for output in outputs]
    assert sorted(ends) == ["end", *["end present"] * (count - 1)]
    assert source.log == [0]
    assert check_store(tmp_path / "store", idle=True) == {blob.digest}


def test_who_waits_sees_the_others_progress_and_takes_over_when_that_one_is_killed(
    tmp_path: Path, start: Start, check_store: CheckStore
) -> None:
    source = Folder(tmp_path / "source")
    blob = source.add(LONG)
    arguments = (tmp_path / "store", tmp_path / "source", blob.digest, blob.size, 1 << 20)
    leader = start(RECEIVE, *arguments, 0.2)
    while not leader.line().isdigit():
        pass
    heir = start(RECEIVE, *arguments, 0)
    assert heir.line() == "start"
    while int(heir.line()) < 9 << 20:
        pass
    leader.kill()
    assert heir.end().splitlines()[-1].strip() == "end"
    offsets = source.log
    assert len(offsets) == 2
    assert offsets[0] == 0
    assert offsets[1] >= 4 << 20
    assert check_store(tmp_path / "store", idle=True) == {blob.digest}


@pytest.mark.parametrize("after", [0, 1, 2, 20, 50, 80, 104])
def test_a_receiver_killed_at_any_moment_is_taken_up_and_fetches_at_most_8_mib_again(
    tmp_path: Path, start: Start, check_store: CheckStore, after: int
) -> None:
    source = Folder(tmp_path / "source")
    blob = source.add(LONG)
    arguments = (tmp_path / "store", tmp_path / "source", blob.digest, blob.size, 200_000)
    worker = start(RECEIVE, *arguments, 0.001)
    seen = 0
    for _line in range(after + 1):
        word = worker.line()
        seen = int(word) if word.isdigit() else seen
    worker.kill()
    assert check_store(tmp_path / "store") <= {blob.digest}
    assert start(RECEIVE, *arguments, 0).end().splitlines()[-1].startswith("end")
    assert all(offset >= seen - (8 << 20) for offset in source.log[1:])
    assert check_store(tmp_path / "store", idle=True) == {blob.digest}


def test_only_errors_of_the_tree_leave_the_store_when_ingest_is_no_folder(store: Store) -> None:
    store.prepare()
    (store.work / "ingest").rmdir()
    (store.work / "ingest").write_bytes(b"")
    with pytest.raises(LadingError, match="ingest"):
        store.put_blob(descriptor(DATA), Memory(DATA), ignore)
