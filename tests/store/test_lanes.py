"""Several connections on one blob, from a real registry behind a proxy that limits each of them."""

from __future__ import annotations

import itertools
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from slow_proxy import Asked, Instead, SlowProxy
from sources import Memory, descriptor, ignore, manifest

from lading import copy
from lading.auth import Authorizer
from lading.errors import StoppedError
from lading.events import Silent
from lading.plan import make_plan
from lading.reference import Oci
from lading.store import lanes, stream
from lading.store.connections import Connections, Shared
from lading.transport.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from real_registry import RegistryProcess

    from lading.http import Client
    from lading.store import Store

    from .conftest import CheckStore

pytestmark = pytest.mark.integration

MEBIBYTE = 1 << 20
DATA = random.Random(12).randbytes(24 * MEBIBYTE + 12_345)
OTHER = random.Random(13).randbytes(len(DATA))
BLOB = descriptor(DATA)
SLOW = 12e6


@pytest.fixture(scope="module")
def repository(plain_registry: RegistryProcess) -> str:
    return f"lanes/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def proxy(plain_registry: RegistryProcess) -> Iterator[SlowProxy]:
    made = SlowProxy(plain_registry.host, rate=SLOW)
    yield made
    made.stop()


@pytest.fixture
def registry(proxy: SlowProxy, plain_registry: RegistryProcess, repository: str, client: Client) -> Registry:
    """The registry through the proxy, with the blobs in it."""
    direct = Registry(Oci(plain_registry.host, repository), client, Authorizer(client, lambda *_: None))
    for data in (DATA, OTHER, b"{}"):
        direct.put_blob(descriptor(data), Memory(data), ignore)
    direct.put_document(manifest(DATA), "1")
    return Registry(Oci(proxy.host, repository), client, Authorizer(client, lambda *_: None))


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LEAST", 2 * MEBIBYTE)
    monkeypatch.setattr(lanes, "SPELL", 0.1)
    monkeypatch.setattr(lanes, "STEP", 0.1)
    monkeypatch.setattr(stream, "ENDURANCE", stream.Endurance(tries=3, first=0.01))


def pull(store: Store, registry: Registry, parallel: int = 4, progress: Callable[[int], None] = ignore) -> Connections:
    connections = Connections(parallel)
    with connections.one(lambda: None):
        store.put_blob(BLOB, Shared(registry, connections), progress)
    return connections


def all_free(connections: Connections) -> bool:
    return all(connections.borrow() for _ in range(connections.most)) and not connections.borrow()


def test_a_blob_that_is_slow_over_one_connection_comes_over_several(
    store: Store, check_store: CheckStore, registry: Registry, proxy: SlowProxy
) -> None:
    told: list[int] = []
    threads = threading.active_count()
    connections = pull(store, registry, progress=told.append)
    assert check_store(store.root, idle=True) == {BLOB.digest}
    assert told == sorted(told)
    assert proxy.connections >= 2
    spans = sorted((one.start, one.end or 0) for one in proxy.bounded)
    assert spans[0][0] <= 8 * MEBIBYTE
    assert spans[-1][1] == len(DATA)
    assert all(start <= end for (_, end), (start, _) in itertools.pairwise(spans)), "a gap"
    assert proxy.sent <= len(DATA) + 4 * MEBIBYTE, "what was fetched twice is what the first stream had on its way"
    assert all_free(connections)
    assert threading.active_count() <= threads + proxy.connections, "those of the proxy may still be there"


@pytest.mark.parametrize("parallel", [1, 2, 8])
def test_no_more_connections_are_used_than_there_may_be(
    store: Store, registry: Registry, proxy: SlowProxy, parallel: int
) -> None:
    pull(store, registry, parallel)
    assert bool(proxy.bounded) == (parallel > 1)
    assert proxy.most <= parallel + 1, "the proxy learns late of one that was closed"


def test_what_is_fetched_lies_at_most_eight_mebibytes_ahead_of_what_is_on_the_disk(
    store: Store, registry: Registry, proxy: SlowProxy
) -> None:
    part = store.work / "ingest" / BLOB.digest.file_name
    ahead: list[int] = []

    def look(asked: Asked) -> None:
        if asked.end is not None:
            status = part.stat()
            each = MEBIBYTE if status.st_mode & stat.S_IXGRP else 4 * MEBIBYTE
            ahead.append(asked.end - max(0, status.st_size - 1) // each * each)

    proxy.interfere = look
    pull(store, registry)
    assert len(ahead) > 5
    assert max(ahead) <= 8 * MEBIBYTE


@pytest.mark.parametrize("which", [0, 1, 2, 5])
def test_a_connection_that_stalls_is_taken_over_by_another(
    store: Store,
    check_store: CheckStore,
    registry: Registry,
    proxy: SlowProxy,
    which: int,
) -> None:
    stalled: list[Asked] = []

    def stall(asked: Asked) -> Instead | None:
        if asked.bounded and not stalled and len(proxy.bounded) > which:
            stalled.append(asked)
            return Instead(stall=100_000)
        return None

    proxy.interfere = stall
    pull(store, registry)
    assert check_store(store.root, idle=True) == {BLOB.digest}
    [lost] = stalled
    rest = [one for one in proxy.bounded if one.end == lost.end and one is not lost]
    assert rest
    assert all(one.start >= lost.start for one in rest)


@pytest.mark.parametrize("status", [429, 503, 403, 404, 400, 416])
def test_a_server_that_refuses_more_connections_gives_the_blob_over_one(
    store: Store, registry: Registry, proxy: SlowProxy, status: int, naps: list[float]
) -> None:
    proxy.interfere = lambda asked: Instead(status=status) if asked.bounded else None
    connections = pull(store, registry)
    assert [one.start for one in proxy.asked if not one.bounded] == [0], "the stream went on"
    assert len(proxy.bounded) == 1
    assert naps == []
    assert all_free(connections)


def test_a_server_that_knows_no_ranges_gives_the_blob_over_one(
    store: Store, registry: Registry, proxy: SlowProxy
) -> None:
    proxy.interfere = lambda asked: Instead(whole=True) if asked.bounded else None
    pull(store, registry)
    assert [one.start for one in proxy.asked if not one.bounded] == [0]
    assert len(proxy.bounded) == 1


def test_a_server_that_refuses_some_connections_gives_the_blob_over_fewer(
    store: Store, registry: Registry, proxy: SlowProxy
) -> None:
    proxy.interfere = lambda asked: Instead(status=429) if asked.bounded and proxy.now > 2 else None
    connections = pull(store, registry)
    assert store.has(BLOB)
    assert all_free(connections)


def test_when_all_connections_are_refused_later_the_stream_goes_on_alone(
    store: Store, registry: Registry, proxy: SlowProxy
) -> None:
    proxy.interfere = lambda asked: Instead(status=503) if asked.bounded and len(proxy.bounded) > 4 else None
    pull(store, registry)
    streams = [one.start for one in proxy.asked if not one.bounded]
    assert len(streams) == 2
    assert streams[1] > 2 * MEBIBYTE
    assert store.has(BLOB)


def test_an_address_that_is_redirected_to_is_used_until_it_runs_out_and_then_asked_for_anew(
    store: Store, registry: Registry, proxy: SlowProxy
) -> None:
    issued = 0
    uses: dict[str, int] = {}
    lock = threading.Lock()

    def sign(asked: Asked) -> Instead | None:
        nonlocal issued
        path, _, signature = asked.path.partition("?")
        with lock:
            if not signature:
                issued += 1
                return Instead(location=f"{path}?signed={issued}")
            uses[signature] = uses.get(signature, 0) + 1
            return Instead(status=403) if uses[signature] > 3 else None

    proxy.interfere = sign
    pull(store, registry)
    assert store.has(BLOB)
    assert max(uses.values()) > 3, "none ran out"
    assert issued < len([one for one in proxy.bounded if "?" in one.path])


def test_wrong_bytes_from_several_connections_are_dropped_and_the_blob_is_read_once_more_over_one(
    store: Store, check_store: CheckStore, registry: Registry, proxy: SlowProxy
) -> None:
    other = descriptor(OTHER).digest

    def swap(asked: Asked) -> Instead | None:
        wrong = asked.bounded and other not in asked.path
        return Instead(location=asked.path.replace(BLOB.digest, other)) if wrong else None

    proxy.interfere = swap
    pull(store, registry)
    assert check_store(store.root, idle=True) == {BLOB.digest}
    assert [one.start for one in proxy.asked if not one.bounded] == [0, 0]
    assert not proxy.asked[-1].bounded


def test_who_hears_the_progress_may_stop_it_and_no_thread_is_left(
    store: Store, registry: Registry, proxy: SlowProxy
) -> None:
    def stop(done: int) -> None:
        if done > 12 * MEBIBYTE:
            message = "enough"
            raise StoppedError(message)

    before = set(threading.enumerate())
    with pytest.raises(StoppedError):
        pull(store, registry, progress=stop)
    assert len(proxy.bounded) > 1
    mine = {thread for thread in set(threading.enumerate()) - before if "process_request" not in thread.name}
    assert not mine
    held = (store.work / "ingest" / BLOB.digest.file_name).stat().st_size
    assert held >= 11 * MEBIBYTE
    proxy.forget()
    pull(store, registry)
    assert proxy.asked[0].start == held


def test_a_stop_ends_connections_that_are_stalled_at_once(store: Store, registry: Registry, proxy: SlowProxy) -> None:
    proxy.interfere = lambda asked: Instead(stall=100_000) if len(proxy.bounded) > 3 else None
    begun = 0.0

    def stop(_done: int) -> None:
        nonlocal begun
        if proxy.now > 1 and len(proxy.bounded) > 5:
            begun = begun or time.monotonic()
            message = "enough"
            raise StoppedError(message)

    with pytest.raises(StoppedError):
        pull(store, registry, progress=stop)
    assert time.monotonic() - begun < 4, "it waited until the silent ones were given up"


def test_big_blobs_share_the_connections_of_their_copy(store: Store, registry: Registry, proxy: SlowProxy) -> None:
    made = manifest(DATA, OTHER)
    copy.run(make_plan(made, store.has), registry, store, "it", Silent(), parallel=3)
    assert store.has(BLOB)
    assert store.has(descriptor(OTHER))
    assert proxy.bounded
    assert proxy.most <= 4, "the proxy learns late of one that was closed"


def test_a_kill_while_several_connections_fetch_costs_at_most_eight_mebibytes(
    tmp_path: Path, registry: Registry, proxy: SlowProxy
) -> None:
    code = (
        "import sys; from pathlib import Path; from lading.store import lanes, Store;"
        "from lading import copy; from lading.events import Silent; from lading.http import Client;"
        "from lading.auth import Authorizer; from lading.plan import make_plan; from lading.reference import Oci;"
        "from lading.transport.registry import Registry;"
        "lanes.SPELL = lanes.STEP = 0.1; lanes.LEAST = 1 << 20; client = Client();"
        "source = Registry(Oci(sys.argv[1], sys.argv[2]), client, Authorizer(client, lambda *_: None));"
        "store = Store(Path(sys.argv[3])); made = source.document('1');"
        "copy.run(make_plan(made, store.has), source, store, 'it', Silent())"
    )
    command = [sys.executable, "-c", code, proxy.host, registry.repository, str(tmp_path / "store")]
    with subprocess.Popen(command, env={"PATH": os.defpath}) as process:
        deadline = time.monotonic() + 30
        while len(proxy.bounded) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = subprocess.run(command, env={"PATH": os.defpath}, check=False, timeout=60)
    assert done.returncode == 0
    on_their_way = 3 * MEBIBYTE  # what the first stream of each run had in the sockets when others took over
    assert proxy.sent <= len(DATA) + 8 * MEBIBYTE + on_their_way


def test_only_a_slow_stream_that_is_waited_for_is_worth_more_connections() -> None:
    def rates(seconds: float, count: int, working: float = 0.0) -> list[float]:
        gauge, now, told = lanes.Gauge(), 100.0, []
        for _ in range(int(3 / (seconds + working))):
            told.append(gauge.note(now, now + seconds, count))
            now += seconds + working
        return [rate for rate in told if rate]

    assert rates(0.01, 200_000)[0] == pytest.approx(20e6, rel=0.1)
    assert rates(0.001, 1 << 20) == [], "fast"
    assert rates(0.01, 200_000, working=0.02) == [], "the disk or the hash is what takes time"
