from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from sources import Memory, descriptor, manifest

from lading import copy
from lading.events import Silent
from lading.pace import Pace, Paced
from lading.plan import make_plan
from lading.store import Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("streams", [1, 4])
def test_all_streams_together_keep_to_the_rate(streams: int) -> None:
    blobs = [bytes([number]) * (400_000 // streams) for number in range(streams)]
    source = Paced(Memory(*blobs), Pace(800_000))
    got: list[int] = []

    def drain(data: bytes) -> None:
        reader = source.open(descriptor(data))
        buffer = bytearray(1 << 20)
        while count := reader.readinto(buffer):
            got.append(count)
        reader.close()

    threads = [threading.Thread(target=drain, args=(data,)) for data in blobs]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    took = time.monotonic() - begun
    assert sum(got) == 400_000
    assert 0.5 <= took < 2.5
    assert max(got) <= 80_000, "it comes in bursts"


def test_what_was_not_used_is_not_saved_up() -> None:
    pace = Pace(1_000_000)
    pace.spend(1)
    time.sleep(0.3)
    begun = time.monotonic()
    pace.spend(200_000)
    assert time.monotonic() - begun >= 0.2


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_copy_keeps_to_its_pace(tmp_path: Path, parallel: int) -> None:
    blobs = [bytes([number]) * 100_000 for number in range(3)]
    made = manifest(*blobs)
    store = Store(tmp_path / "store")
    begun = time.monotonic()
    plan = make_plan(made, store.has)
    copy.run(plan, Memory(*blobs, b"{}"), store, "it", Silent(), parallel=parallel, pace=Pace(500_000))
    assert time.monotonic() - begun >= 0.6
    assert all(store.has(blob) for blob in made.blobs)


def test_a_paced_source_gives_what_the_source_gives() -> None:
    data = bytes(range(256)) * 20
    source = Paced(Memory(data, manifest(data).raw), Pace(10**9))
    assert source.open(descriptor(data), 100).read(10) == data[100:110]
    assert source.document(manifest(data).digest) == manifest(data)
