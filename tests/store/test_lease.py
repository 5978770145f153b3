from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from sources import Memory, descriptor, ignore, put

from lading import fs
from lading.digest import Digest
from lading.store import Store, sweep
from lading.store.lease import living

if TYPE_CHECKING:
    from pathlib import Path

    from workers import Start, Worker

LEASE = """
import sys
from pathlib import Path
from lading.digest import Digest
from lading.store import Store
with Store(Path(sys.argv[1])).lease() as lease:
    for digest in sys.argv[2:]:
        lease.add([Digest(digest)])
    print("held", flush=True)
    sys.stdin.read()
"""
ONE, TWO, THREE = (Digest.of(data) for data in (b"one", b"two", b"three"))


def leases(store: Store) -> list[str]:
    return [path.name for path in store.leases.iterdir()]


@pytest.fixture
def holder(store: Store, start: Start) -> Worker:
    for data in (b"one", b"two", b"three"):
        store.put_bytes(data)
    worker = start(LEASE, store.root, ONE, TWO)
    assert worker.line() == "held"
    return worker


def test_what_a_living_process_leases_is_never_freed(store: Store, holder: Worker) -> None:
    assert sweep.prune(store).blobs == 1
    assert set(store.blobs.digests()) == {ONE, TWO}
    assert sweep.prune(store).blobs == 0
    holder.end()
    assert leases(store) == []
    assert sweep.prune(store).blobs == 2


def test_what_a_killed_process_leased_is_freed_at_once_and_its_lease_swept(store: Store, holder: Worker) -> None:
    holder.kill()
    assert len(leases(store)) == 1
    assert sweep.prune(store).blobs == 3
    assert leases(store) == []


def test_a_lease_keeps_in_its_own_process_too(store: Store) -> None:
    store.put_bytes(b"one")
    with store.lease([ONE]):
        assert sweep.prune(store).blobs == 0
    with store.use([ONE]):
        assert sweep.prune(store).blobs == 0
    assert sweep.prune(store).blobs == 1


def test_a_lease_that_breaks_off_in_a_line_keeps_what_is_added_later(store: Store) -> None:
    with store.lease([ONE]) as lease:
        path = next(store.leases.iterdir())
        with path.open("ab") as file:
            file.write(b"\nsha256:abc")
        lease.add([TWO])
        assert set(living(store.leases)) == {ONE, TWO}


def test_taking_a_lease_waits_for_a_running_collection(store: Store) -> None:
    store.prepare()
    order: list[str] = []

    def take() -> None:
        with store.lease([ONE]):
            order.append("leased")

    with fs.Lock(store.gate, "the store"):
        thread = threading.Thread(target=take)
        thread.start()
        time.sleep(0.1)
        order.append("collected")
    thread.join(10)
    assert order == ["collected", "leased"]


def test_a_name_given_while_a_collection_begins_is_seen_by_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the reading of the names and of the leases somebody names his model and gives up his lease."""
    made = put(store, None, b"one")
    lease = store.lease([made.digest, *(blob.digest for blob in made.blobs)])
    lease.__enter__()

    def finished(folder: Path, *, dry_run: bool) -> list[Digest]:
        found = list(living(folder, dry_run=dry_run))
        store.index.set("a", made.descriptor, {})
        lease.__exit__(None, None, None)
        return found

    monkeypatch.setattr(sweep, "living", finished)
    sweep.prune(store)
    monkeypatch.undo()
    assert len(list(store.blobs.digests())) == 3


def test_a_lease_that_ends_while_leases_are_read_stops_nobody(store: Store) -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            with store.lease([ONE]):
                pass

    store.prepare()
    threads = [threading.Thread(target=come_and_go) for _number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _turn in range(100):
            with fs.Lock(store.gate, "the store"):
                assert set(living(store.leases)) <= {ONE}
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


def test_a_stream_without_a_digest_is_leased_before_it_has_a_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = store.blobs.__class__.commit

    def collected(self: object, partial: fs.Partial, digest: Digest) -> None:
        commit(self, partial, digest)  # type: ignore[arg-type]  # the blobs themselves
        assert sweep.prune(store).blobs == 0

    monkeypatch.setattr(store.blobs.__class__, "commit", collected)
    with store.lease() as lease:
        store.put_unknown("x", None, Memory(b"one").open(descriptor(b"one")), ignore, lease=lease)
        assert set(store.blobs.digests()) == {ONE}
    assert sweep.prune(store).blobs == 1
