"""A user's file packed by hard link, and everything that can happen to it behind the store's back."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from disks import mounted
from sources import descriptor, ignore, put

from lading import fs
from lading.digest import Digest
from lading.errors import IntegrityError, LadingError
from lading.store import Store, sweep
from lading.store.hashing import hash_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workers import Start

    from lading.store import Adopted

    from .conftest import CheckStore

DATA = random.Random(2).randbytes(300_000)
OTHER = random.Random(3).randbytes(300_000)
BLOB = descriptor(DATA)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "story.gguf"
    path.write_bytes(DATA)
    return path


def pack(store: Store, path: Path, *, copy: bool = False) -> Adopted:
    origin = fs.Origin.open(path)
    try:
        with store.lease() as lease:
            return store.adopt(origin, ignore, copy=copy, lease=lease)
    finally:
        origin.close()


def linked(store: Store, path: Path) -> None:
    """Pack by link; the file systems that tests run on have no copy-on-write twins, or this says so."""
    how = pack(store, path).how
    if how == "cloned":
        pytest.skip("this file system clones: nothing is linked")
    assert how == "linked"


def refused(store: Store, path: Path) -> None:
    """Assert that a blob is a missing one, in every way to get at it, and that its origin is named."""
    assert not store.has(BLOB)
    uses: list[Callable[[], object]] = [
        lambda: store.open(BLOB),
        lambda: store.open(BLOB, 5),
        lambda: store.ranges(BLOB),
        lambda: store.read(BLOB),
        lambda: store.view(BLOB.digest, [("story.gguf", BLOB)]),
    ]
    for use in uses:
        with pytest.raises(IntegrityError) as error:
            use()
        assert str(path) in error.value.message
        assert error.value.exit_code == 6
        assert "--copy" in error.value.hint
    assert not (store.root / "models").exists()
    faults = [fault for _digest, _size, fault in sweep.verify(store) if fault]
    assert [fault.digest for fault in faults] == [BLOB.digest]
    assert str(path) in faults[0].why


def served(store: Store) -> None:
    assert store.has(BLOB)
    assert store.read(BLOB) == DATA
    assert [fault for _digest, _size, fault in sweep.verify(store) if fault] == []


def overwrite(path: Path, data: bytes, offset: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def through_a_mapping(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[1000:1004] = b"evil"


def with_its_old_time(path: Path) -> None:
    before = path.stat()
    overwrite(path, b"evil")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "overwritten in place": lambda path: overwrite(path, OTHER),
    "one byte in place": lambda path: overwrite(path, bytes([DATA[7] ^ 1]), 7),
    "truncated": lambda path: os.truncate(path, 1000),
    "emptied": lambda path: os.truncate(path, 0),
    "appended to": lambda path: overwrite(path, b"x", len(DATA)),
    "written through a mapping": through_a_mapping,
    "overwritten, its old time set": with_its_old_time,
    "overwritten by a program": lambda path: subprocess.run(
        ["dd", "if=/dev/zero", f"of={path}", "bs=1", "count=4", "conv=notrunc", "status=none"], check=True
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_file_is_a_missing_blob_that_is_named_and_never_served(
    store: Store, file: Path, change: Callable[[Path], object]
) -> None:
    linked(store, file)
    served(store)
    change(file)
    refused(store, file)
    refused(store, file)  # the verdict is remembered, and stays


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_restored_bytes_are_the_blob_again(store: Store, file: Path, change: Callable[[Path], object]) -> None:
    linked(store, file)
    change(file)
    assert not store.has(BLOB)
    os.truncate(file, len(DATA))
    overwrite(file, DATA)
    served(store)


def replaced(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(OTHER)
    new.replace(path)


HARMLESS: dict[str, Callable[[Path], object]] = {
    "touched": lambda path: path.touch(),
    "same bytes written": lambda path: overwrite(path, DATA),
    "removed": lambda path: path.unlink(),
    "moved": lambda path: path.rename(path.with_name("elsewhere")),
    "replaced by another file": replaced,
    "linked once more": lambda path: path.with_name("more").hardlink_to(path),
    "made read-only": lambda path: path.chmod(0o400),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_leaves_the_bytes_alone_leaves_the_blob_alone(
    store: Store, file: Path, check_store: CheckStore, change: Callable[[Path], object]
) -> None:
    linked(store, file)
    change(file)
    served(store)
    assert check_store(store.root, idle=True) == {BLOB.digest}


def test_an_untouched_file_is_hashed_once_and_a_touched_one_once_more(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def counting(*arguments: object) -> object:
        hashed.append("x")
        return hash_file(*arguments)  # type: ignore[arg-type]  # passed on as they come

    monkeypatch.setattr("lading.store.blobs.hash_file", counting)
    linked(store, file)
    for _attempt in range(3):
        assert store.has(BLOB)
        store.ranges(BLOB).close()
    assert hashed == []
    file.touch()
    time.sleep(0.05)
    for _attempt in range(3):
        assert store.has(BLOB)
    assert hashed == ["x"]


def test_views_keep_the_stamp_right(store: Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linked(store, file)
    monkeypatch.setattr(store.blobs.__class__, "hashes_to_its_name", lambda *_: pytest.fail("hashed again"))
    folder = store.view(Digest.of(b"gone"), [("a.gguf", BLOB), ("deep/b.gguf", BLOB)])
    assert (folder / "deep" / "b.gguf").samefile(file)
    assert store.has(BLOB)
    # The view of a model that is gone is dropped; another model still needs the blob.
    put(store, "other", DATA)
    sweep.prune(store)
    assert not folder.exists()
    assert store.has(BLOB)


def test_pruning_does_not_vouch_for_a_file_that_was_changed(store: Store, file: Path) -> None:
    linked(store, file)
    store.view(BLOB.digest, [("a.gguf", BLOB)])
    put(store, "model", DATA)
    with_its_old_time(file)
    sweep.prune(store)
    assert not store.has(BLOB)


def test_writes_within_one_tick_of_the_clock_are_noticed(store: Store, file: Path) -> None:
    """Race the clock: write, look, write again, as fast as the machine goes."""
    linked(store, file)
    for number in range(200):
        overwrite(file, DATA[:8])
        assert store.has(BLOB), number
        overwrite(file, b"evil%4d" % number)
        assert not store.has(BLOB), number


def test_a_write_at_any_moment_of_packing_is_noticed(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change the file before each system call that the store makes while it packs."""
    calls: list[str] = []
    strike = -1

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            calls.append(name)
            if len(calls) - 1 == strike:
                overwrite(file, b"evil")
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    origin = fs.Origin.open(file)
    for name in ("fsync", "pread", "replace", "link", "open", "pwrite"):
        watch(name)
    pack_at = 0
    while True:
        store = Store(tmp_path / f"store{pack_at}")
        calls.clear()
        strike = pack_at
        try:
            with store.lease() as lease:
                adopted = store.adopt(origin, ignore, copy=False, lease=lease)
        except IntegrityError as error:
            assert str(file) in error.message  # noqa: PT017 - the loop goes on
        else:
            assert adopted.digest in (BLOB.digest, Digest.of(b"evil" + DATA[4:]))
            if strike < len(calls):
                changed = descriptor(b"evil" + DATA[4:])
                struck = changed if adopted.digest == changed.digest else BLOB
                assert store.has(struck) == (struck is changed)
        if strike >= len(calls):
            break
        origin.close()
        strike = -1
        overwrite(file, DATA)
        origin = fs.Origin.open(file)
        pack_at += 1
    origin.close()
    assert pack_at > 20


def test_a_file_that_changes_while_it_is_hashed_is_refused(store: Store, file: Path, check_store: CheckStore) -> None:
    for change in (with_its_old_time, lambda path: overwrite(path, b"x", len(DATA))):
        for copy in (False, True):
            file.write_bytes(DATA)
            origin = fs.Origin.open(file)
            changed = False

            def progress(_done: int, change: Callable[[Path], object] = change) -> None:
                nonlocal changed
                if not changed:
                    changed = True
                    change(file)

            with store.lease() as lease, pytest.raises(IntegrityError, match=r"story\.gguf was changed while"):
                store.adopt(origin, progress, copy=copy, lease=lease)
            origin.close()
    assert check_store(store.root, idle=True) == set()


def test_packing_the_same_file_at_once_in_many_processes_works(
    store: Store, file: Path, start: Start, check_store: CheckStore
) -> None:
    code = """
import sys
from pathlib import Path
from sources import ignore
from lading import fs
from lading.store import Store
store = Store(Path(sys.argv[1]))
for _attempt in range(10):
    origin = fs.Origin.open(Path(sys.argv[2]))
    with store.lease() as lease:
        print(store.adopt(origin, ignore, copy=False, lease=lease).how)
"""
    outputs = [worker.end().split() for worker in [start(code, store.root, file) for _number in range(4)]]
    assert all(len(output) == 10 for output in outputs)
    assert {word for output in outputs for word in output} <= {"linked", "present", "cloned"}
    served(store)
    assert check_store(store.root, idle=True) == {BLOB.digest}


def test_copy_makes_a_linked_blob_the_stores_own(store: Store, file: Path) -> None:
    linked(store, file)
    assert pack(store, file).how == "present"
    assert pack(store, file, copy=True).how == "copied"
    assert pack(store, file, copy=True).how == "present"
    overwrite(file, OTHER)
    served(store)
    assert store.blobs.linked.origin(BLOB.digest) is None


def test_a_changed_file_can_be_packed_again_and_its_old_bytes_too(store: Store, file: Path, tmp_path: Path) -> None:
    linked(store, file)
    overwrite(file, OTHER)
    assert pack(store, file).digest == Digest.of(OTHER)
    assert not store.has(BLOB)
    (tmp_path / "backup").write_bytes(DATA)
    assert pack(store, tmp_path / "backup").how in ("linked", "cloned")
    served(store)
    assert store.has(descriptor(OTHER))


def test_packing_a_symbolic_link_packs_the_file_it_leads_to(store: Store, file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to("story.gguf")
    linked(store, link)
    assert not (store.root / BLOB.digest.path).is_symlink()
    link.unlink()
    file.unlink()
    served(store)


def test_a_file_on_another_file_system_is_copied(store: Store, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 1 << 20) as disk:
        (disk.path / "story.gguf").write_bytes(DATA)
        assert pack(store, disk.path / "story.gguf").how == "copied"
    served(store)


def test_a_file_that_is_gone_or_another_by_the_time_it_is_linked_is_refused(
    store: Store, file: Path, check_store: CheckStore
) -> None:
    for change in (replaced, lambda path: path.unlink()):
        origin = fs.Origin.open(file)
        change(file)
        with store.lease() as lease, pytest.raises(LadingError, match=r"story\.gguf"):
            store.adopt(origin, ignore, copy=False, lease=lease)
        origin.close()
    assert check_store(store.root, idle=True) == set()


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"null", b"[1]", b'{"origin":"x"}', b"[" * 100_000, b"\xff", b"{}" * 99_999]
)
def test_a_damaged_record_vouches_for_nothing(store: Store, file: Path, damage: bytes) -> None:
    linked(store, file)
    record = store.root / "links" / f"{BLOB.digest.file_name}.json"
    record.write_bytes(damage)
    served(store)
    record.write_bytes(damage)
    overwrite(file, OTHER)
    assert not store.has(BLOB)
    with pytest.raises(IntegrityError):
        store.ranges(BLOB)


def test_the_watch_begins_before_the_blob_has_its_name(store: Store, file: Path, start: Start) -> None:
    """Die right before, and right after, the rename that gives the blob its name."""
    code = """
import os, sys
from pathlib import Path
from sources import ignore
from lading import fs
from lading.store import Store
replace = os.replace
def die(source, target):
    if "blobs" in str(target):
        if sys.argv[3] == "after":
            replace(source, target)
        os._exit(9)
    replace(source, target)
os.replace = die
store = Store(Path(sys.argv[1]))
origin = fs.Origin.open(Path(sys.argv[2]))
with store.lease() as lease:
    store.adopt(origin, ignore, copy=False, lease=lease)
"""
    for moment in ("before", "after"):
        worker = start(code, store.root, file, moment)
        worker.end()
        assert worker.process.returncode == 9
    served(store)
    overwrite(file, OTHER)
    assert not store.has(BLOB)


def test_a_large_file_is_hashed_in_blocks_and_the_progress_may_stop_it(tmp_path: Path) -> None:
    path = tmp_path / "large"
    data = random.Random(4).randbytes(9_000_001)
    path.write_bytes(data)
    told: list[int] = []
    descriptor = fs.open_regular(path)
    assert hash_file(descriptor, "sha256", told.append) == (Digest.of(data), len(data))
    assert hash_file(descriptor, "sha512") == (Digest.of(data, "sha512"), len(data))
    assert told == sorted(told)
    assert len(told) >= 3

    def stop(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_file(descriptor, "sha256", stop)
    os.close(descriptor)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user and still link it")
def test_a_file_of_another_user_is_copied_and_not_linked(store: Store, file: Path) -> None:
    os.chown(file, 12345, -1)
    assert pack(store, file).how in ("copied", "cloned")
    assert not store.blobs.path(BLOB.digest).samefile(file)
    file.write_bytes(OTHER)
    assert store.has(BLOB)
    assert store.blobs.hashes_to_its_name(BLOB.digest)
