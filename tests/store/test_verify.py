"""The reading half of `verify`: on several threads, biggest first, told as it goes, stopped at once."""

from __future__ import annotations

import json
import random
import signal
from typing import TYPE_CHECKING

import pytest
from sources import Memory, descriptor, ignore, put

from lading import fs
from lading.digest import Digest
from lading.errors import StoppedError
from lading.store import Store, sweep

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CommandLine

SIZES = (1, 70_000, 3_000_000, 9_000_000, 12_000_001)


def blobs(*sizes: int) -> list[bytes]:
    return [random.Random(size).randbytes(size) for size in sizes]


def damage(store: Store, data: bytes, changed: bytes) -> Path:
    path = store.blobs.path(Digest.of(data))
    path.chmod(0o644)
    path.write_bytes(changed)
    return path


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_every_blob_is_read_once_by_any_number_of_threads(store: Store, threads: int) -> None:
    put(store, "a", *blobs(*SIZES))
    told: list[int] = []
    seen = list(sweep.verify(store, threads=threads, progress=told.append))
    assert {digest: size for digest, size, _fault in seen} == {
        digest: store.blobs.size(digest) for digest in store.blobs.digests()
    }
    assert len(seen) == len(list(store.blobs.digests()))
    assert [fault for _digest, _size, fault in seen if fault] == []
    assert told == sorted(told), "the figure for all goes back"
    assert told[-1] == sum(size for _digest, size, _fault in seen)


def test_the_biggest_blobs_are_read_first(store: Store) -> None:
    put(store, "a", *blobs(*SIZES))
    sizes = [size for _digest, size, _fault in sweep.verify(store, threads=1)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("seed", range(8))
def test_a_bit_flipped_anywhere_is_found_whoever_reads_it(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    datas = blobs(*SIZES)
    put(store, "a", *datas)
    bad = set()
    for data in chance.sample(datas, 2):
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        damage(store, data, bytes(flipped))
        bad.add(Digest.of(data))
    assert {digest for digest, _size, fault in sweep.verify(store, threads=4) if fault} == bad


def test_a_progress_that_raises_ends_it_with_that_and_leaves_no_thread_at_work(store: Store) -> None:
    put(store, "a", *blobs(*SIZES))
    heard: list[int] = []

    def stop(done: int) -> None:
        heard.append(done)
        raise StoppedError("enough")  # noqa: EM101 - only its kind matters

    with pytest.raises(StoppedError):
        list(sweep.verify(store, threads=2, progress=stop))
    count = len(heard)
    assert count <= 2 * len(SIZES)
    assert [fault for _digest, _size, fault in sweep.verify(store) if fault] == []
    assert len(heard) == count


def test_what_a_collection_frees_meanwhile_is_no_fault(store: Store) -> None:
    put(store, "kept", b"kept" * 2_000_000)
    put(store, "gone", *(bytes([number]) * 1000 for number in range(20)))
    store.untag("gone")
    freed = []

    def collect(_done: int) -> None:
        freed.append(sweep.prune(store).blobs)

    seen = list(sweep.verify(store, threads=1, progress=collect))
    assert freed[0] == 21
    assert [fault for _digest, _size, fault in seen if fault] == []
    assert {digest for digest, _size, _fault in seen} == set(store.blobs.digests())


def test_what_goes_missing_meanwhile_and_is_needed_is_a_fault(store: Store) -> None:
    put(store, "a", b"big" * 2_000_000, b"small", config=b"{}")

    def lose(_done: int) -> None:
        fs.remove(store.blobs.path(Digest.of(b"{}")))

    faults = [fault for _digest, _size, fault in sweep.verify(store, threads=1, progress=lose) if fault]
    assert [(fault.digest, fault.why, fault.models) for fault in faults] == [(Digest.of(b"{}"), "is missing", ("a",))]


def test_a_blob_that_is_fetched_again_while_the_damaged_one_is_read_counts_as_whole(store: Store) -> None:
    data = random.Random(1).randbytes(9_000_000)
    put(store, "a", data)
    path = damage(store, data, data[:-1] + b"x")

    def mend(_done: int) -> None:
        if path.read_bytes() != data:
            path.unlink()
            store.put_blob(descriptor(data), Memory(data), ignore)

    faults = [fault for _digest, _size, fault in sweep.verify(store, threads=1, progress=mend) if fault]
    assert [fault.digest for fault in faults] == [Digest.of(data)]
    assert store.has(descriptor(data))


def test_an_interrupt_ends_the_command_at_once(lading: CommandLine) -> None:
    store = Store(lading.store)
    put(store, "a", b"1")
    # Without a block on the disk, and minutes of hashing.
    huge = store.blobs.path(Digest("sha256:" + "1" * 64))
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    process = lading.start("verify", "--progress", "json")
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line)["event"] == "advanced":
            break
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert json.loads(error.splitlines()[-1]) == {"event": "failed", "text": "interrupted", "hint": "", "code": 130}
    assert "Traceback" not in error
