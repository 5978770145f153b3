"""What steps of builds made: kept whole, kept from collection, and let go of when told."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lading.digest import Digest
from lading.errors import StoppedError
from lading.store import Store, sweep

KEY = "a" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    made.prepare()
    return made


def test_a_record_is_read_as_it_was_written(store: Store) -> None:
    assert store.build_cache.read(KEY) is None
    store.build_cache.write(KEY, b"one")
    store.build_cache.write(KEY, b"two")
    assert store.build_cache.read(KEY) == b"two"


def test_what_a_record_mentions_is_kept_until_records_are_dropped(store: Store) -> None:
    kept, other = store.put_bytes(b"kept"), store.put_bytes(b"other")
    store.build_cache.write(KEY, f'{{"files":["{kept}","sha256:none"]}}'.encode())
    assert list(store.build_cache.mentioned()) == [kept]
    assert sweep.prune(store).blobs == 1
    assert store.blobs.size(other) is None
    assert sweep.prune(store, dry_run=True, build_cache=True).blobs == 1
    assert store.blobs.size(kept) == 4
    assert sweep.prune(store, build_cache=True).blobs == 1
    assert store.build_cache.read(KEY) is None


def test_a_file_that_was_made_here_becomes_a_blob_without_a_copy(store: Store) -> None:
    with store.build_cache.making(KEY, lambda: None) as folder, store.lease() as lease:
        made = folder / "made"
        made.write_bytes(b"weights")
        inode = made.stat().st_ino
        adopted = store.take_over(made, lease)
        assert (adopted.digest, adopted.size) == (Digest.of(b"weights"), 7)
        assert store.blobs.path(adopted.digest).stat().st_ino == inode
        assert not made.exists()
        made.write_bytes(b"weights")
        assert store.take_over(made, lease).how == "present"
        assert not made.exists()
    assert not folder.exists()


def test_one_maker_at_a_time_has_the_folder_and_others_wait(store: Store) -> None:
    order: list[str] = []
    first_in = threading.Event()

    def second() -> None:
        first_in.wait()
        with store.build_cache.making(KEY, lambda: None):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with store.build_cache.making(KEY, lambda: None):
        first_in.set()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_who_waits_can_give_up(store: Store) -> None:
    def give_up() -> None:
        msg = "enough"
        raise StoppedError(msg)

    with store.build_cache.making(KEY, lambda: None), pytest.raises(StoppedError, match="enough"):
        store.build_cache.making(KEY, give_up).__enter__()


def test_what_a_killed_maker_left_is_cleared_and_what_one_is_at_is_not(store: Store) -> None:
    code = (
        "import sys; from pathlib import Path; from lading.store import Store\n"
        "with Store(Path(sys.argv[1])).build_cache.making(sys.argv[2], lambda: None) as folder:\n"
        "    (folder / 'half').write_bytes(b'x'); print(folder, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(store.root), KEY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        half = Path(process.stdout.readline().strip(), "half")
        sweep.prune(store)
        assert half.exists()
        process.send_signal(signal.SIGKILL)
    assert half.exists()
    sweep.prune(store)
    assert not half.parent.exists()
