"""Reading files on this machine: opened without blocking, at any offset, failures told in the tree's words."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from lading.errors import AccessDeniedError, FormatError, LadingError, NoSpaceError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TICK_NS = 20_000_000  # twice the coarsest kernel tick, CONFIG_HZ=100
_COARSE_TICK_NS = 2_000_000_000  # FAT's, the longest of file systems that keep whole seconds
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FILE = {errno.ENOENT, errno.ENOTDIR}
_CANNOT_SYNC = {errno.EINVAL, errno.EROFS}  # what file systems that cannot be written to answer to fsync


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
        if error.errno == errno.EROFS:
            msg = f"cannot write {thing}: the file system is read-only"
            return AccessDeniedError(msg, hint="another store can be named with --store")
        return AccessDeniedError(f"cannot use {thing}: permission denied", hint="its owner and mode decide who may")
    if error.errno in _NO_FILE:
        return NotFoundError(f"{thing} does not exist", hint="check how it is written, and from which folder")
    return LadingError(f"{thing}: {os.strerror(error.errno) if error.errno else error}")


def open_regular(path: Path, *, follow: bool = True) -> int:
    """Open a regular file for reading and return its descriptor, without ever blocking.

    Raises FormatError for a FIFO, device, socket or folder, and for a symbolic link unless `follow`;
    NotFoundError and AccessDeniedError as they are.
    """
    hint = "a model is read from files, not from devices, pipes or folders"
    with os_errors(path):
        try:
            descriptor = os.open(
                path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
            )
        except OSError as error:
            # A socket answers ENXIO, a link that is not followed ELOOP.
            if error.errno == errno.ENXIO or (error.errno == errno.ELOOP and not follow):
                msg = f"{path} is not a regular file"
                raise FormatError(msg, hint=hint) from error
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                msg = f"{path} is not a regular file"
                raise FormatError(msg, hint=hint)
        except BaseException:
            os.close(descriptor)
            raise
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
        """Open a regular file once its last change is `settled`."""
        descriptor = open_regular(path)
        with os_errors(path):
            while not settled(status := os.fstat(descriptor)):
                time.sleep(_TICK_NS / 1e9)
        return cls(path, descriptor, status)

    def flush(self) -> None:
        """Bring the file to disk; from then on every write, through a mapping too, leaves a new time behind."""
        try:
            os.fsync(self.descriptor)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise as_lading_error(error, self.path) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


def settled(status: os.stat_result) -> bool:
    """Say whether a file's last change is older than the file system's clock can tell apart.

    Within one tick of that clock a second write leaves the same time behind as the first.
    """
    tick = _TICK_NS if status.st_mtime_ns % 1_000_000_000 else _COARSE_TICK_NS
    return not -tick < time.time_ns() - status.st_mtime_ns < tick


class FileRanges:
    """A RangeReader over an open file descriptor, which it owns from then on and closes.

    `size` is what the opener saw, None takes the present one; a file that has shrunk since yields fewer bytes, which
    header readers notice.
    Raises FormatError if the descriptor is not of a regular file: a FIFO or device has no size to trust.
    """

    __slots__ = ("_descriptor", "name", "size")

    def __init__(self, descriptor: int, name: str, size: int | None = None) -> None:
        with os_errors(name):
            status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            msg = f"{name} is not a regular file"
            raise FormatError(msg, hint="devices, pipes, sockets and folders are not read as models")
        self._descriptor = descriptor
        self.name = name
        self.size = status.st_size if size is None else size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the file ends. Raises LadingError on a disk error."""
        left = max(0, min(length, self.size - offset))
        parts = []
        while left:
            try:
                part = os.pread(self._descriptor, left, offset)
            except OSError as error:
                msg = f"cannot read {self.name}: {error.strerror}"
                raise LadingError(msg) from error
            if not part:
                break
            parts.append(part)
            offset += len(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the descriptor; harmless when repeated."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class BytesRanges:
    """A RangeReader over bytes at hand."""

    __slots__ = ("_data", "name", "size")

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self.name = name
        self.size = len(data)

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the bytes end."""
        return self._data[offset : offset + length]

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
