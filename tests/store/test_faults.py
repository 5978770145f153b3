"""A store after any fault: what was there stays, nothing half made has a name, and repeating the command works."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import faulty
import pytest
from disks import mounted
from sources import Memory, descriptor, ignore, manifest, put

from lading.digest import Digest
from lading.errors import AccessDeniedError, NoSpaceError
from lading.fs import Origin
from lading.store import Store, sweep

if TYPE_CHECKING:
    from pathlib import Path

    from workers import Start

    from .conftest import CheckStore

BIG = bytes(range(256)) * 4096  # 1 MiB


def run(folder: Path, operation: str, fault: str) -> list[tuple[int, int]]:
    done = subprocess.run(
        [sys.executable, faulty.__file__, str(folder), operation, fault], capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    *lines, last = done.stdout.splitlines()
    assert last == f"calls {len(lines)}"
    assert len(lines) > 10
    return [(int(turn), int(code)) for turn, code in (line.split() for line in lines)]


def recovered(folder: Path, operation: str, check_store: CheckStore) -> None:
    """Hold a store that a fault struck to its promises, repeat the operation and hold it again."""
    store = Store(folder / "store")
    old = manifest(faulty.OLD)
    assert {old.digest, *(blob.digest for blob in old.blobs)} <= check_store(store.root)
    assert store.document("old").digest == old.digest
    faulty.OPERATIONS[operation](store)
    if operation in ("pull", "pack"):
        made = store.document("new")
        assert [store.has(blob) for blob in store.reach(made)] == [True] * 3
    assert [fault for _digest, _size, fault in sweep.verify(store) if fault] == []
    sweep.prune(store)
    found = check_store(store.root, idle=True)
    kept = {*(blob.digest for blob in store.reach(store.document("old")))}
    if operation in ("pull", "pack"):
        kept |= {blob.digest for blob in store.reach(store.document("new"))}
    assert found == kept
    assert list(store.leases.iterdir()) == []


@pytest.mark.parametrize("operation", faulty.OPERATIONS)
def test_a_process_that_dies_at_any_call_loses_nothing_and_is_in_nobodys_way(
    tmp_path: Path, check_store: CheckStore, operation: str
) -> None:
    for turn, code in run(tmp_path, operation, "death"):
        assert code == 9
        recovered(tmp_path / str(turn), operation, check_store)


@pytest.mark.parametrize("operation", faulty.OPERATIONS)
@pytest.mark.parametrize("fault", faulty.FAULTS)
def test_a_call_that_fails_is_an_error_of_the_tree_and_loses_nothing(
    tmp_path: Path, check_store: CheckStore, operation: str, fault: str
) -> None:
    codes = run(tmp_path, operation, fault)
    for turn, code in codes:
        assert code in (0, 3), "another error than LadingError left the store"
        recovered(tmp_path / str(turn), operation, check_store)
    # A view is made with the reserve when there is no space left.
    survived = operation == "verify" or (operation, fault) == ("view", "ENOSPC")
    assert {code for _turn, code in codes} >= ({0} if survived else {3})


# -- full disks ------------------------------------------------------------------------------------


def test_a_full_store_says_so_loses_nothing_and_goes_on_once_there_is_space(
    tmp_path: Path, check_store: CheckStore
) -> None:
    with mounted(tmp_path / "disk", 600 * 1024) as disk:
        store = Store(disk.path / "store")
        put(store, "old", b"old")
        made = manifest(BIG)
        source = Memory(BIG, b"{}")
        for _attempt in range(2):
            with pytest.raises(NoSpaceError) as error:
                store.put_blob(made.layers[0], source, ignore)
            assert error.value.exit_code == 7
            assert "prune" in error.value.hint
            assert len(check_store(store.root)) == 3
            assert [fault for _digest, _size, fault in sweep.verify(store) if fault] == []
        disk.resize(4 << 20)
        assert store.put_blob(made.layers[0], source, ignore) == ""
        assert source.opened[-1][1] > 0, "what had come before was thrown away"
        store.put_document(made, "new")
        assert len(check_store(store.root, idle=True)) == 5


def test_a_full_disk_still_serves_what_is_there(tmp_path: Path, check_store: CheckStore) -> None:
    with mounted(tmp_path / "disk", 256 * 1024) as disk:
        store = Store(disk.path / "store")
        made = put(store, "old", b"old")
        file = disk.path / "file.gguf"
        file.write_bytes(b"linked")
        origin = Origin.open(file)
        with store.lease() as lease:
            adopted = store.adopt(origin, ignore, copy=False, lease=lease)
        origin.close()
        with pytest.raises(NoSpaceError):
            store.put_blob(descriptor(BIG), Memory(BIG), ignore)
        file.touch()
        assert store.has(descriptor(b"linked"))
        assert adopted.digest == Digest.of(b"linked")
        assert [store.has(blob) for blob in made.blobs] == [True, True]
        assert store.read(made.layers[0]) == b"old"
        check_store(store.root)


# -- stores that cannot be written to --------------------------------------------------------------


def refuses_writes(store: Store, word: str) -> None:
    """Read all there is, and be denied every write, by an error that says why."""
    made = store.document("old")
    assert [tag.name for tag in store.tags()] == ["old"]
    blobs = [blob for blob in store.reach(made) if blob.digest != made.digest]
    assert all(store.has(blob) for blob in blobs)
    assert [store.read(blob) for blob in blobs] == [b"{}", b"old"]
    store.ranges(blobs[1]).close()
    assert [fault for _digest, _size, fault in sweep.verify(store) if fault] == []
    with store.use([made.digest]):
        pass
    for write in (
        lambda: store.tag("new", made),
        lambda: store.untag("old"),
        lambda: store.put_bytes(b"x"),
        lambda: store.put_blob(descriptor(b"x"), Memory(b"x"), ignore),
        lambda: store.put_unknown("x", 1, Memory(b"x").open(descriptor(b"x")), ignore),
        lambda: sweep.prune(store),
        lambda: store.lease([made.digest]).__enter__(),
        lambda: store.view(made.digest, [("x", blobs[1])]),
    ):
        try:
            write()
        except AccessDeniedError as error:
            assert word in error.message  # noqa: PT017 - this code also runs without pytest
            assert error.exit_code == 4  # noqa: PT017 - as above
            assert error.hint  # noqa: PT017 - as above
        else:
            message = "a write went through"
            raise AssertionError(message)


def test_a_store_on_a_read_only_disk_is_read_and_not_written(tmp_path: Path, check_store: CheckStore) -> None:
    with mounted(tmp_path / "disk", 1 << 20) as disk:
        store = Store(disk.path / "store")
        put(store, "old", b"old")
        disk.freeze()
        refuses_writes(store, "read-only")
        check_store(store.root, idle=True)


def test_a_store_of_another_user_is_read_and_not_written(store: Store, start: Start, check_store: CheckStore) -> None:
    put(store, "old", b"old")
    for path in (store.root, *store.root.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("test_faults", {__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from pathlib import Path
module.refuses_writes(module.Store(Path(sys.argv[1])), "permission denied")
print("well")
"""
    try:
        assert start(code, store.root, powerless=True).end().split() == ["well"]
    finally:
        for path in (store.root, *store.root.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)
    check_store(store.root, idle=True)


def test_a_linked_file_is_watched_in_a_read_only_store_too(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 1 << 20) as disk:
        store = Store(disk.path / "store")
        file = disk.path / "file.gguf"
        file.write_bytes(b"linked")
        origin = Origin.open(file)
        with store.lease() as lease:
            store.adopt(origin, ignore, copy=False, lease=lease)
        origin.close()
        file.write_bytes(b"change")
        disk.freeze()
        for _attempt in range(2):
            assert not store.has(descriptor(b"linked"))


def test_a_place_for_a_store_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    store = Store(tmp_path / "store")
    for use in (store.prepare, lambda: store.put_bytes(b"x")):
        with pytest.raises(Exception, match="store"):
            use()
