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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from lading.errors import (
    AccessDeniedError,
    BusyError,
    FormatError,
    LadingError,
    NoSpaceError,
    NotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FICLONE = 0x40049409  # ioctl-ficlone(2)
_POLL_SECONDS = 0.05
_TICK_NS = 20_000_000  # twice the coarsest kernel tick, CONFIG_HZ=100
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FILE = {errno.ENOENT, errno.ENOTDIR}
_CANNOT_CLONE = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM}
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def os_errors(thing: str | Path) -> Iterator[None]:
    """Turn an OSError in the block into the error of the tree that says what happened to `thing`."""
    try:
        yield
    except OSError as error:
        raise as_lading_error(error, thing) from error


def as_lading_error(error: OSError, thing: str | Path) -> LadingError:
    """Return the error of the tree for an OSError that happened to `thing`."""
    if error.errno in _NO_SPACE:
        return NoSpaceError(f"no space left for {thing}", hint="free some space (`lading prune` helps) and repeat")
    if error.errno in _NO_ACCESS:
        reason = "the file system is read-only" if error.errno == errno.EROFS else "permission denied"
        return AccessDeniedError(f"cannot use {thing}: {reason}", hint="another place can be named with --store")
    if error.errno in _NO_FILE:
        return NotFoundError(f"{thing} does not exist")
    return LadingError(f"{thing}: {os.strerror(error.errno) if error.errno else error}")


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor, without ever blocking.

    Raises FormatError for a FIFO, device, socket or folder, NotFoundError and AccessDeniedError as they are.
    """
    with os_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        msg = f"{path} is not a regular file"
        raise FormatError(msg, hint="a model is read from files, not from devices, pipes or folders")
    return descriptor


@dataclass(frozen=True, slots=True)
class Origin:
    """A user's file, open for reading: what is read, hashed and linked is this and no other.

    `before` is its status when it was opened; `close` is the owner's duty.
    """

    path: Path
    descriptor: int
    before: os.stat_result

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a regular file once its last change is older than the file system's clock can tell apart.

        Within one tick of that clock a second write leaves the same time behind as the first.
        """
        descriptor = open_regular(path)
        while time.time_ns() - _TICK_NS < (status := os.fstat(descriptor)).st_mtime_ns < time.time_ns() + _TICK_NS:
            time.sleep(_TICK_NS / 1e9)
        return cls(path, descriptor, status)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, private to the user; harmless when it exists."""
    with os_errors(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that, at any moment and after any death, it holds the old or the new bytes.

    The folder must exist. A symbolic link at `path` is replaced, not followed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns():x}")
    with os_errors(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)


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
    """Delete a folder of plain files and links, if it is there, without following links out of it."""
    with os_errors(path), suppress(FileNotFoundError):
        for folder, folders, files in os.walk(path, topdown=False):
            for name in files:
                os.unlink(os.path.join(folder, name))
            for name in folders:
                inner = os.path.join(folder, name)
                (os.unlink if os.path.islink(inner) else os.rmdir)(inner)
        path.rmdir()


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
    with os_errors(target):
        try:
            os.link(source, target, follow_symlinks=True)
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
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with os_errors(folder):
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
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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

    Opening waits for another writer. `size` is what an earlier writer left behind.
    """

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        with os_errors(path):
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # The earlier holder may have renamed or removed the file while we waited for it.
                if _same_file(descriptor, path):
                    break
                os.close(descriptor)
        self._descriptor = descriptor

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset` on."""
        with os_errors(self.path):
            return os.pread(self._descriptor, length, offset)

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

    def commit(self, target: Path, *, mode: int = 0o444) -> None:
        """Sync the bytes and give the file its final name and mode."""
        with os_errors(target):
            os.fchmod(self._descriptor, mode)
            os.fsync(self._descriptor)
            move_durably(self.path, target)

    def discard(self) -> None:
        """Remove the file: its bytes are of no use."""
        remove(self.path)

    def close(self) -> None:
        """Let go of the file; what was written stays unless it was discarded."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def create_locked(path: Path) -> int:
    """Create a new file for appending, locked for this process, and return its descriptor."""
    with os_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def append(descriptor: int, data: bytes, path: Path) -> None:
    """Write all of `data` at the end of an open file."""
    with os_errors(path):
        while data:
            data = data[os.write(descriptor, data) :]


def read_if_locked(path: Path) -> bytes | None:
    """Return a file's bytes while another process holds its lock; None when nobody does."""
    with os_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            return None if try_lock(descriptor, shared=True) else file.read()
