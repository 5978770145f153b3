from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import stat
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from disks import mounted
from workers import workers

from lading import fs
from lading.errors import (
    AccessDeniedError,
    BusyError,
    FormatError,
    LadingError,
    NoSpaceError,
    NotFoundError,
)
from lading.fs import partial as part_room

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers import Start, Worker


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def descriptors() -> int:
    return len(names(Path("/proc/self/fd")))


@pytest.fixture
def start() -> Iterator[Start]:
    with workers() as start:
        yield start


HOLD_LOCK = """
import sys
from itertools import pairwise
from pathlib import Path
from lading import fs
with fs.Lock(Path(sys.argv[1]), "it", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""

HOLD_PARTIAL = """
import sys
from itertools import pairwise
from pathlib import Path
from lading import fs
partial = fs.Partial(Path(sys.argv[1]))
partial.write_at(partial.size, memoryview(sys.argv[2].encode()))
print(partial.size, flush=True)
sys.stdin.read()
"""


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOSPC, NoSpaceError, 7),
        (errno.EDQUOT, NoSpaceError, 7),
        (errno.EACCES, AccessDeniedError, 4),
        (errno.EPERM, AccessDeniedError, 4),
        (errno.EROFS, AccessDeniedError, 4),
        (errno.ENOENT, NotFoundError, 3),
        (errno.ENOTDIR, NotFoundError, 3),
        (errno.EIO, LadingError, 1),
        (errno.ELOOP, LadingError, 1),
        (errno.ENAMETOOLONG, LadingError, 1),
    ],
)
def test_an_os_error_becomes_the_error_of_the_tree_that_names_the_file(
    number: int, kind: type[LadingError], code: int
) -> None:
    with pytest.raises(LadingError) as error, fs.os_errors("the/file"):
        raise OSError(number, os.strerror(number))
    assert type(error.value) is kind
    assert error.value.exit_code == code
    assert "the/file" in error.value.message
    assert isinstance(error.value.__cause__, OSError)


# -- reading ---------------------------------------------------------------------------------------


def special(kind: str, folder: Path) -> Path:
    path = folder / kind
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            # Bound through a short relative name: addresses of sockets are at most 108 bytes long.
            with socket.socket(socket.AF_UNIX) as made:
                before = Path.cwd()
                os.chdir(folder)
                try:
                    made.bind(kind)
                finally:
                    os.chdir(before)
        case "zero":
            path = Path("/dev/zero")
    return path


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "zero"])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    began = time.monotonic()
    path = special(kind, tmp_path)
    with pytest.raises(FormatError) as error:
        fs.open_regular(path)
    assert time.monotonic() - began < 5
    assert str(path) in error.value.message
    assert error.value.exit_code == 6
    with pytest.raises(FormatError):
        fs.Origin.open(path)


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        fs.open_regular(tmp_path / "nothing")
    with pytest.raises(NotFoundError):
        fs.open_regular(tmp_path / "nothing" / "inside")


def test_links_are_followed_only_where_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    os.close(fs.open_regular(tmp_path / "link"))
    with pytest.raises(FormatError):
        fs.open_regular(tmp_path / "link", follow=False)


def test_no_descriptor_is_left_open_by_a_refusal(tmp_path: Path) -> None:
    before = descriptors()
    for _attempt in range(20):
        with pytest.raises(FormatError):
            fs.open_regular(tmp_path)
    assert descriptors() == before


def test_an_origin_is_opened_once_a_further_write_would_leave_another_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    origin = fs.Origin.open(path)
    path.write_bytes(b"two")
    assert os.fstat(origin.descriptor).st_mtime_ns != origin.before.st_mtime_ns
    origin.flush()
    origin.close()


def test_times_in_whole_seconds_and_in_the_future_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    now = time.time_ns()
    for mtime, settled in (
        (now - 10**9 + 7 - now % 10**9, True),
        (now, False),
        (now - now % 10**9, False),  # such times come from clocks of whole seconds
        (now + 3600 * 10**9, True),
        (now - 3600 * 10**9, True),
    ):
        os.utime(path, ns=(mtime, mtime))
        assert fs.settled(path.stat()) is settled, mtime - now


# -- writing ---------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_and_a_link_at_its_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "name").symlink_to("victim")
    fs.atomic_write(tmp_path / "name", b"new", mode=0o640)
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert (tmp_path / "name").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "name").lstat().st_mode) == 0o640
    assert names(tmp_path) == ["name", "victim"]


def test_a_link_planted_where_the_new_bytes_are_put_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / ".name.new").symlink_to("victim")
    with pytest.raises(LadingError):
        fs.atomic_write(tmp_path / "name", b"new")
    assert (tmp_path / "victim").read_bytes() == b"mine"


def test_a_full_disk_leaves_the_old_bytes_and_nothing_else(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 256 * 1024) as disk:
        path = disk.path / "file"
        fs.atomic_write(path, b"old")
        with pytest.raises(NoSpaceError, match="file"):
            fs.atomic_write(path, b"x" * 1024 * 1024)
        assert path.read_bytes() == b"old"
        assert names(disk.path) == ["file"]
        disk.resize(4 * 1024 * 1024)
        fs.atomic_write(path, b"x" * 1024 * 1024)
        assert path.stat().st_size == 1024 * 1024


def test_a_file_size_limit_leaves_the_old_bytes_and_nothing_else(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "file"
    fs.atomic_write(path, b"old")
    code = """
import resource, signal, sys
from itertools import pairwise
from pathlib import Path
from lading import fs
from lading.errors import LadingError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    fs.atomic_write(Path(sys.argv[1]), b"x" * 5000)
except LadingError as error:
    print(error.message)
"""
    worker = start(code, path)
    assert str(tmp_path) in worker.line()
    worker.end()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_read_only_disk_denies_access(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 256 * 1024) as disk:
        disk.freeze()
        with pytest.raises(AccessDeniedError, match="read-only"):
            fs.atomic_write(disk.path / "file", b"x")
        with pytest.raises(AccessDeniedError, match="read-only"):
            fs.make_folder(disk.path / "a" / "b")
        with pytest.raises(AccessDeniedError, match="read-only"), fs.Lock(disk.path / "lock", "it"):
            pass
        fs.make_folder(disk.path)


def test_killed_writers_leave_old_or_new_bytes_and_their_successor_tidies_up(tmp_path: Path, start: Start) -> None:
    code = """
import sys
from itertools import pairwise
from pathlib import Path
from lading import fs
print("go", flush=True)
while True:
    for byte in (b"a", b"b"):
        fs.atomic_write(Path(sys.argv[1]), byte * 300_000)
"""
    path = tmp_path / "file"
    for delay in (0.0, 0.003, 0.007, 0.013, 0.02):
        worker = start(code, path)
        worker.line()
        time.sleep(delay)
        worker.kill()
        worker.end()
        assert not path.exists() or path.read_bytes() in (b"a" * 300_000, b"b" * 300_000)
    fs.atomic_write(path, b"last")
    assert path.read_bytes() == b"last"
    assert names(tmp_path) == ["file"]


def test_folders_are_private_whatever_the_umask(tmp_path: Path, start: Start) -> None:
    code = """
import os, sys
from itertools import pairwise
from pathlib import Path
from lading import fs
os.umask(int(sys.argv[2], 8))
fs.make_folder(Path(sys.argv[1]) / "a" / "b")
"""
    for mask in ("000", "022", "077"):
        start(code, tmp_path / mask, mask).end()
        for name in (mask, f"{mask}/a", f"{mask}/a/b"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


def test_a_file_where_a_folder_is_due_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(LadingError, match="file"):
            fs.make_folder(path)


def test_removing_a_tree_never_leaves_it_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"x")
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "tree" / "file").write_bytes(b"x")
    (tmp_path / "top").symlink_to(tmp_path / "precious")
    (tmp_path / "stray").write_bytes(b"x")
    for name in ("tree", "top", "stray", "nothing"):
        fs.remove_tree(tmp_path / name)
    assert names(tmp_path) == ["precious"]
    assert (tmp_path / "precious" / "file").read_bytes() == b"x"


def test_a_second_name_of_a_link_is_a_name_of_the_file_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert fs.hard_link(tmp_path / "link", tmp_path / "name")
    assert not (tmp_path / "name").is_symlink()
    assert (tmp_path / "name").samefile(tmp_path / "file")
    with pytest.raises(NotFoundError, match="gone"):
        fs.hard_link(tmp_path / "gone", tmp_path / "other")


def test_another_file_system_is_an_answer_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with mounted(tmp_path / "disk", 256 * 1024) as disk:
        assert fs.hard_link(tmp_path / "file", disk.path / "name") is False
        descriptor = fs.open_regular(tmp_path / "file")
        assert fs.clone(descriptor, disk.path / "twin") is False
        os.close(descriptor)
        assert names(disk.path) == []


def test_free_bytes_are_those_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 512 * 1024) as disk:
        assert fs.free_bytes(disk.path / "not" / "yet") == 512 * 1024


# -- locks -----------------------------------------------------------------------------------------


@pytest.fixture
def holder(tmp_path: Path, start: Start) -> Worker:
    worker = start(HOLD_LOCK, tmp_path / "lock", "exclusive")
    assert worker.line() == "held"
    return worker


def test_a_lock_keeps_other_processes_out_until_it_is_given_up(tmp_path: Path, holder: Worker) -> None:
    for shared in (False, True):
        began = time.monotonic()
        with (
            pytest.raises(BusyError, match="the thing is in use") as error,
            fs.Lock(tmp_path / "lock", "the thing", shared=shared, timeout=0.2),
        ):
            pass
        assert 0.2 <= time.monotonic() - began < 5
        assert error.value.exit_code == 10
    holder.end()
    with fs.Lock(tmp_path / "lock", "the thing", timeout=0):
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path, holder: Worker) -> None:
    holder.kill()
    with fs.Lock(tmp_path / "lock", "it", timeout=5):
        pass


def test_shared_locks_exclude_only_exclusive_ones(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "lock"
    worker = start(HOLD_LOCK, path, "shared")
    assert worker.line() == "held"
    with fs.Lock(path, "it", shared=True, timeout=0):
        pass
    with pytest.raises(BusyError), fs.Lock(path, "it", timeout=0):
        pass
    worker.end()


def test_a_lock_excludes_threads_too_and_waits_without_end(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "lock"
    order: list[str] = []

    def wait() -> None:
        with fs.Lock(path, "it"):
            order.append("second")

    with fs.Lock(path, "it"):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_failed_lock_leaves_no_descriptor(tmp_path: Path, holder: Worker) -> None:
    before = descriptors()
    for _attempt in range(5):
        with pytest.raises(BusyError), fs.Lock(tmp_path / "lock", "it", timeout=0):
            pass
    assert descriptors() == before
    assert holder.process.poll() is None


# -- parts -----------------------------------------------------------------------------------------


def test_a_part_is_taken_over_within_a_second_when_its_holder_is_killed(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "part"
    worker = start(HOLD_PARTIAL, path, "half")
    assert worker.line() == "4"
    seen: list[int] = []
    killed: list[float] = []

    def waiting(size: int) -> None:
        seen.append(size)
        if len(seen) == 3:
            worker.kill()
            killed.append(time.monotonic())

    partial = fs.Partial(path, waiting=waiting)
    assert time.monotonic() - killed[0] < 1
    assert set(seen) == {4}
    assert partial.size == 4
    assert path.read_bytes() == b"half"
    partial.close()
    worker.end()


def test_who_waits_for_a_part_may_give_up(tmp_path: Path, start: Start) -> None:
    worker = start(HOLD_PARTIAL, tmp_path / "part", "half")
    worker.line()

    def waiting(_size: int) -> None:
        raise KeyboardInterrupt

    before = descriptors()
    with pytest.raises(KeyboardInterrupt):
        fs.Partial(tmp_path / "part", waiting=waiting)
    assert descriptors() == before
    worker.end()


def test_who_waited_while_the_part_got_its_name_makes_a_new_one(tmp_path: Path) -> None:
    first = fs.Partial(tmp_path / "part")
    first.write_at(0, memoryview(b"whole"))

    def waiting(_size: int) -> None:
        first.commit(tmp_path / "name", mode=0o444)
        first.close()

    second = fs.Partial(tmp_path / "part", waiting=waiting)
    assert second.size == 0
    second.write_at(0, memoryview(b"other"))
    assert (tmp_path / "name").read_bytes() == b"whole"
    second.discard()
    second.close()
    assert names(tmp_path) == ["name"]


def test_a_part_that_was_swept_away_is_never_committed_as_anothers(tmp_path: Path) -> None:
    first = fs.Partial(tmp_path / "part")
    first.write_at(0, memoryview(b"whole"))
    (tmp_path / "part").unlink()
    second = fs.Partial(tmp_path / "part")
    second.write_at(0, memoryview(b"ha"))
    with pytest.raises(LadingError, match="was removed"):
        first.commit(tmp_path / "name")
    assert not (tmp_path / "name").exists()
    first.discard()
    assert (tmp_path / "part").read_bytes() == b"ha"
    first.close()
    second.close()


def test_bytes_that_cannot_be_synced_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = fs.Partial(tmp_path / "part")
    partial.write_at(0, memoryview(b"x"))

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(LadingError, match="name"):
        partial.commit(tmp_path / "name")
    partial.close()
    assert names(tmp_path) == []


def test_a_part_whose_writer_died_at_any_moment_can_be_written_to_by_its_owner(tmp_path: Path, start: Start) -> None:
    code = """
import os, sys
from itertools import pairwise
from pathlib import Path
from lading import fs
folder = Path(sys.argv[1])
replace = os.replace
def die(*_paths):
    os._exit(9)
os.replace = die
if (pid := os.fork()) == 0:
    partial = fs.Partial(folder / "part")
    partial.write_at(0, memoryview(b"whole"))
    partial.commit(folder / "name")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
os.replace = replace
partial = fs.Partial(folder / "part")
print(partial.size)
partial.commit(folder / "name")
"""
    worker = start(code, tmp_path, powerless=True)
    assert worker.line() == "5"
    worker.end()
    assert (tmp_path / "name").read_bytes() == b"whole"
    assert stat.S_IMODE((tmp_path / "name").stat().st_mode) == 0o444


def test_only_what_nobody_holds_is_swept(tmp_path: Path, start: Start) -> None:
    worker = start(HOLD_PARTIAL, tmp_path / "held", "abc")
    worker.line()
    (tmp_path / "left").write_bytes(b"four")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("held")
    assert fs.remove_if_idle(tmp_path / "left", dry_run=True) == 4
    freed = [fs.remove_if_idle(tmp_path / name) for name in ("held", "left", "folder", "link", "nothing")]
    assert freed == [0, 4, 0, 0, 0]
    assert names(tmp_path) == ["held"]
    assert fs.read_if_locked(tmp_path / "held") == b"abc"
    worker.end()
    assert fs.read_if_locked(tmp_path / "held") is None
    assert fs.read_if_locked(tmp_path / "nothing") is None
    assert fs.remove_if_idle(tmp_path / "held") == 3


@pytest.mark.parametrize(
    ("size", "kept"),
    [
        (0, 0),
        (1, 0),
        (fs.SYNCED_EACH, 0),
        (fs.SYNCED_EACH + 1, fs.SYNCED_EACH),
        (3 * fs.SYNCED_EACH - 1, 2 * fs.SYNCED_EACH),
    ],
)
def test_of_a_part_whose_writer_died_only_what_was_synced_is_trusted(tmp_path: Path, size: int, kept: int) -> None:
    (tmp_path / "part").write_bytes(b"x" * size)
    partial = fs.Partial(tmp_path / "part")
    assert partial.reopen() == kept
    assert partial.size == kept
    partial.close()


def test_a_part_that_was_settled_is_trusted_whole_and_only_until_more_is_appended(tmp_path: Path) -> None:
    partial = fs.Partial(tmp_path / "part")
    partial.append(0, memoryview(b"abcde"))
    assert partial.frontier == 0
    partial.settle()
    partial.close()
    again = fs.Partial(tmp_path / "part")
    assert again.reopen() == 5
    again.append(5, memoryview(b"f"))
    assert again.frontier == 0
    assert (tmp_path / "part").read_bytes() == b"abcdef"
    again.close()


@pytest.mark.parametrize("flag", [part_room._O_DIRECT, 0], ids=["direct", "cached"])
def test_what_is_appended_is_there_whatever_its_place_and_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: int
) -> None:
    monkeypatch.setattr(part_room, "_O_DIRECT", flag)
    data = memoryview(mmap.mmap(-1, 3 * fs.SYNCED_EACH))
    data[:] = os.urandom(len(data))
    synced: list[int] = []
    real = os.fdatasync

    def count(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", count)
    partial = fs.Partial(tmp_path / "part")
    ends = [1, 4096, 1 << 20, (1 << 20) + 5, 9 << 20, (9 << 20) + 8192, len(data)]
    for start, end in pairwise([0, *ends]):
        partial.append(start, data[start:end])
    assert (tmp_path / "part").read_bytes() == data
    assert synced == [fs.SYNCED_EACH, 2 * fs.SYNCED_EACH, 3 * fs.SYNCED_EACH]
    partial.close()


@pytest.mark.parametrize("flag", [part_room._O_DIRECT, 0], ids=["direct", "cached"])
def test_what_is_read_back_is_right_whatever_its_place_and_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: int
) -> None:
    monkeypatch.setattr(part_room, "_O_DIRECT", flag)
    data = os.urandom(3 * 4096 + 5)
    partial = fs.Partial(tmp_path / "part")
    partial.append(0, memoryview(data))
    room = memoryview(mmap.mmap(-1, 4 * 4096))
    # A buffer on no page's start is what direct reading refuses.
    for start, buffer in ((0, room), (0, room[:4096]), (4096, room[:8192]), (5, room[:4096]), (4096, room[1:4097])):
        count = partial.read_into(start, buffer)
        assert buffer[:count] == data[start : start + len(buffer)]
    assert partial.read_into(len(data), room) == 0
    partial.append(len(data), memoryview(b"more"))
    assert (tmp_path / "part").read_bytes() == data + b"more"
    partial.close()


@pytest.mark.skipif(not part_room._O_DIRECT, reason="this system cannot read past the page cache")
def test_what_is_read_back_by_pages_is_read_past_the_page_cache(tmp_path: Path) -> None:
    partial = fs.Partial(tmp_path / "part")
    room = memoryview(mmap.mmap(-1, 4096))
    partial.append(0, room)
    partial.read_into(0, room[:5])
    assert partial._reading
    assert not fcntl.fcntl(partial._reading.descriptor, fcntl.F_GETFL) & os.O_DIRECT
    partial.read_into(0, room)
    assert fcntl.fcntl(partial._reading.descriptor, fcntl.F_GETFL) & os.O_DIRECT
    partial.append(4096, room[:5])
    assert fcntl.fcntl(partial._reading.descriptor, fcntl.F_GETFL) & os.O_DIRECT, "appending goes another way"
    partial.close()


def test_a_part_that_is_synced_finely_says_so_once_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    each, fine = fs.SYNCED_EACH, fs.SYNCED_FINELY
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    partial = fs.Partial(tmp_path / "part")
    partial.append(0, memoryview(b"x"))
    partial.sync_finely()
    partial.append(1, memoryview(bytes(fine)))
    assert partial.frontier == 0, "what came before was not synced finely"
    partial.append(fine + 1, memoryview(bytes(each)))
    assert synced == [each, each + fine]
    assert partial.frontier == each + fine
    partial.close()
    again = fs.Partial(tmp_path / "part")
    assert again.reopen() == each + fine
    again.append(each + fine, memoryview(b"x"))
    assert again.frontier == each
    again.close()


def test_what_could_not_be_synced_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    partial = fs.Partial(tmp_path / "part")
    partial.append(0, memoryview(bytes(fs.SYNCED_EACH + 1)))
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(LadingError, match="part"):
        partial.append(fs.SYNCED_EACH + 1, memoryview(bytes(fs.SYNCED_EACH)))
    assert partial.size == fs.SYNCED_EACH
    partial.close()
