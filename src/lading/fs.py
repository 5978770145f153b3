"""Files that survive: the one room that writes to disk.

A file appears under its name whole or not at all: written beside it, synced, renamed, and the
folder synced. Locks are flock(2) locks, shared or exclusive, on files that are never deleted
while in use; the kernel drops them with their process, so none is ever stale.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from lading.errors import BusyError, LadingError
from lading.ranges import Origin, as_lading_error, open_regular, os_errors, settled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = [
    "Lock",
    "Origin",
    "Partial",
    "as_lading_error",
    "atomic_write",
    "clone",
    "free_bytes",
    "hard_link",
    "make_folder",
    "move_durably",
    "open_regular",
    "os_errors",
    "read_if_locked",
    "remove",
    "remove_if_idle",
    "remove_tree",
    "settled",
    "symbolic_link",
    "sync_folder",
    "try_lock",
]

SYNCED_EACH = 4 * 1024 * 1024
"""Bytes. A part is synced at each multiple of this before anything is written beyond it."""

SYNCED_FINELY = 1024 * 1024
"""Bytes. The same for a part of which that was asked: more calls, less to lose."""

_DIRECT_ALIGNED = 4096
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)  # macOS has none
_SETTLED = stat.S_IXUSR
_FINE = stat.S_IXGRP
_FICLONE = 0x40049409  # ioctl-ficlone(2)
_POLL_SECONDS = 0.05
_CANNOT_CLONE = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM}
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
_CREATE = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def make_folder(path: Path) -> None:
    """Create a folder and its parents, private to the user; harmless when it exists."""
    with os_errors(path):
        if path.is_dir():
            return
        if path.parent != path:
            make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, data: bytes, *, mode: int = 0o644, staging: Path | None = None) -> None:
    """Write a file so that, at any moment and after any death, it holds the old or the new bytes.

    The folder must exist. A symbolic link at `path` is replaced, not followed. `staging` is where the new
    bytes are put first, on the same file system; by default beside the file.
    """
    partial = Partial(staging or path.with_name(f".{path.name}.new"))
    try:
        partial.truncate(0)
        partial.write_at(0, memoryview(data))
        partial.commit(path, mode=mode)
    except BaseException:
        partial.discard()
        raise
    finally:
        partial.close()


def move_durably(source: Path, target: Path) -> None:
    """Rename a file whose bytes are synced, then sync both folders' names."""
    with os_errors(target):
        os.replace(source, target)
        sync_folder(target.parent)
        if source.parent != target.parent:
            sync_folder(source.parent)


def remove(path: Path) -> None:
    """Delete a file if it is there."""
    with os_errors(path), suppress(FileNotFoundError):
        path.unlink()


def remove_tree(path: Path) -> None:
    """Delete a folder with all in it, or a file, if it is there; links are removed and never followed."""
    import shutil  # noqa: PLC0415 - it loads the compressors, and only upkeep needs it

    with os_errors(path), suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def clone(source_descriptor: int, target: Path, *, mode: int = 0o444) -> bool:
    """Make `target` a copy-on-write twin of an open file; False where the file system cannot."""
    with os_errors(target):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            fcntl.ioctl(descriptor, _FICLONE, source_descriptor)
            os.fsync(descriptor)
        except OSError as error:
            os.unlink(target)
            if error.errno in _CANNOT_CLONE:
                return False
            raise
        finally:
            os.close(descriptor)
    return True


def hard_link(source: Path, target: Path) -> bool:
    """Give a file a second name; False where that cannot be (other file system or owner)."""
    with os_errors(source):
        # link(2) would give the second name to a symbolic link itself.
        real = os.path.realpath(source, strict=True)
    with os_errors(target):
        try:
            os.link(real, target)
        except OSError as error:
            if error.errno in _CANNOT_LINK:
                return False
            raise
        sync_folder(target.parent)
    return True


def symbolic_link(source: Path, target: Path) -> None:
    """Make `target` a symbolic link to `source`."""
    with os_errors(target):
        target.symlink_to(source)


def free_bytes(folder: Path) -> int:
    """Return the bytes that this user may still write where `folder` is or would be."""
    with os_errors(folder):
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        figures = os.statvfs(folder)
    return figures.f_bavail * figures.f_frsize


class Lock:
    """A flock(2) lock on a file; a context manager, not reentrant.

    `shared` locks exclude only exclusive ones. `timeout` in seconds, None waits for ever, 0 not at all;
    running out raises BusyError, naming `thing`.
    """

    __slots__ = ("_descriptor", "_path", "_shared", "_thing", "_timeout")

    def __init__(self, path: Path, thing: str, *, shared: bool = False, timeout: float | None = None) -> None:
        self._path = path
        self._thing = thing
        self._shared = shared
        self._timeout = timeout
        self._descriptor = -1

    def __enter__(self) -> Self:
        with os_errors(self._path):
            descriptor = os.open(self._path, os.O_RDWR | _CREATE, 0o600)
        try:
            self._acquire(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def _acquire(self, descriptor: int) -> None:
        mode = fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX
        if self._timeout is None:
            with os_errors(self._path):
                fcntl.flock(descriptor, mode)
            return
        deadline = time.monotonic() + self._timeout
        while not try_lock(descriptor, shared=self._shared):
            if time.monotonic() >= deadline:
                msg = f"{self._thing} is in use by another process"
                raise BusyError(msg, hint="wait for it to end, or stop it, and repeat")
            time.sleep(_POLL_SECONDS)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file without waiting; False when somebody else holds it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Partial:
    """A file in the making, held by one process at a time and kept when its writer dies.

    Opening waits for another holder; `waiting` is then called again and again with the bytes that one
    has so far, and may raise to give up. What is appended is synced at each multiple of `SYNCED_EACH`
    before anything is written beyond it, so that a part's size alone tells what a power cut left whole of it.
    One that was let go of in order has a mode (0700) that says that all of it is synced, one that is synced at each
    multiple of `SYNCED_FINELY` a mode (0610) that says that.
    """

    __slots__ = ("_descriptor", "_direct", "_each", "_finely", "path")

    def __init__(self, path: Path, *, waiting: Callable[[int], None] | None = None) -> None:
        self.path = path
        with os_errors(path):
            while True:
                descriptor = os.open(path, os.O_RDWR | _CREATE, 0o600)
                try:
                    while waiting and not try_lock(descriptor):
                        waiting(os.fstat(descriptor).st_size)
                        time.sleep(_POLL_SECONDS)
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    # The earlier holder may have renamed or removed the file while we waited for it.
                    if _same_file(descriptor, path):
                        break
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
        self._descriptor = descriptor
        self._direct: bool | None = False if _O_DIRECT else None
        self._each = SYNCED_EACH
        self._finely = False

    @property
    def size(self) -> int:
        """Bytes in the file now; at first what an earlier holder left behind."""
        with os_errors(self.path):
            return os.fstat(self._descriptor).st_size

    @property
    def frontier(self) -> int:
        """Bytes that are on the disk for certain: all that was settled, else all before the block begun last."""
        with os_errors(self.path):
            status = os.fstat(self._descriptor)
        if status.st_mode & _SETTLED:
            return status.st_size
        each = SYNCED_FINELY if status.st_mode & _FINE else SYNCED_EACH
        return max(0, status.st_size - 1) // each * each

    def reopen(self) -> int:
        """Drop what may not be on the disk, make ready for more to be appended and return the bytes that are left."""
        frontier = self.frontier
        self.truncate(frontier)
        with os_errors(self.path):
            os.fchmod(self._descriptor, 0o600)
        self._each = SYNCED_EACH
        return frontier

    def sync_finely(self) -> None:
        """Have what is appended from the next multiple of `SYNCED_EACH` on be synced at those of `SYNCED_FINELY`."""
        self._finely = True

    def settle(self) -> None:
        """Sync what was appended, and have the next holder trust all of it."""
        with os_errors(self.path):
            os.fsync(self._descriptor)
            os.fchmod(self._descriptor, 0o600 | _SETTLED)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` with the bytes from `offset` on and return their number; fewer only at the end.

        Page-aligned buffers are filled past the page cache where that is possible, for the reasons of `append`.
        """
        self._bypass(not (offset % _DIRECT_ALIGNED or len(buffer) % _DIRECT_ALIGNED))
        try:
            return self._read_at(offset, buffer)
        except LadingError as error:
            # The buffer's address counts, too, and some file systems take the flag and not the read.
            if not self._direct or not _is_refused(error):
                raise
            self._bypass(False)
            return self._read_at(offset, buffer)

    def append(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at `offset`, where the part ends, and sync at each multiple that the class tells of.

        Page-aligned data goes past the page cache where that is possible: it costs a fifth of the processor's time,
        and leaves in memory what others have there.
        """
        while len(data):
            piece = data[: self._each - offset % self._each]
            self._bypass(not (offset % _DIRECT_ALIGNED or len(piece) % _DIRECT_ALIGNED))
            try:
                self.write_at(offset, piece)
            except LadingError as error:
                # Some file systems take the flag and not the write.
                if not self._direct or not _is_refused(error):
                    raise
                self._bypass(False)
                self._direct = None
                self.write_at(offset, piece)
            offset += len(piece)
            data = data[len(piece) :]
            if not offset % self._each:
                self._sync_or_drop()
                if self._finely and self._each == SYNCED_EACH:
                    # All before is synced, and from here on all that the mode promises.
                    with os_errors(self.path):
                        os.fchmod(self._descriptor, 0o600 | _FINE)
                    self._each = SYNCED_FINELY

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        with os_errors(self.path):
            os.ftruncate(self._descriptor, size)

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at `offset`."""
        with os_errors(self.path):
            while len(data):
                count = os.pwrite(self._descriptor, data, offset)
                offset += count
                data = data[count:]

    def _read_at(self, offset: int, buffer: memoryview) -> int:
        with os_errors(self.path):
            return os.preadv(self._descriptor, [buffer], offset)

    def _sync_or_drop(self) -> None:
        with os_errors(self.path):
            try:
                (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(self._descriptor)
            except OSError:
                # The kernel reports a lost page once; a second try would tell that all is well.
                self.reopen()
                raise

    def _bypass(self, wanted: bool) -> None:  # noqa: FBT001 - the one thing it takes
        if self._direct is None or self._direct == wanted:
            return
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | _O_DIRECT if wanted else flags & ~_O_DIRECT)
        except OSError:
            self._direct = None
            return
        self._direct = wanted

    def commit(self, target: Path, *, mode: int = 0o444) -> None:
        """Sync the bytes and give the file its final name and mode; bytes that cannot be synced are dropped."""
        with os_errors(target):
            try:
                os.fsync(self._descriptor)
            except OSError:
                # The kernel reports a lost page once; what it still shows of the file may not be on the disk.
                self.discard()
                raise
            if not _same_file(self._descriptor, self.path):
                msg = f"{self.path} was removed while it was written"
                raise LadingError(msg, hint="repeat the command")
            move_durably(self.path, target)
            # Last, so that one who dies before leaves a part that its successor may write to.
            with suppress(PermissionError):
                os.fchmod(self._descriptor, mode)

    def discard(self) -> None:
        """Remove the file, unless it has its final name: its bytes are of no use."""
        with os_errors(self.path), suppress(FileNotFoundError):
            if _same_file(self._descriptor, self.path):
                self.path.unlink()

    def close(self) -> None:
        """Let go of the file; what was written stays unless it was discarded."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_refused(error: LadingError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EINVAL


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def read_if_locked(path: Path) -> bytes | None:
    """Return a file's bytes while another process holds its lock; None when nobody does."""
    with os_errors(path), suppress(FileNotFoundError), open(path, "rb") as file:
        return None if try_lock(file.fileno(), shared=True) else file.read()
    return None


def remove_if_idle(path: Path, *, dry_run: bool = False) -> int:
    """Delete a file that nobody holds locked and return its bytes; 0 for one that is held."""
    with os_errors(path), suppress(FileNotFoundError):
        status = path.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            remove_tree(path)
            return 0
        with open(path, "rb") as file:
            if not try_lock(file.fileno()) or not _same_file(file.fileno(), path):
                return 0
            if not dry_run:
                path.unlink()
        return status.st_size
    return 0
