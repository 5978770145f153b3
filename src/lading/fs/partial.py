"""Files in the making: written beside their place, synced, renamed, and the folder synced."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from lading.errors import LadingError
from lading.fs.lock import CREATED, POLL_SECONDS, is_same_file, try_lock
from lading.fs.names import move_durably
from lading.ranges import os_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    T = TypeVar("T")

SYNCED_EACH = 2 * 1024 * 1024
"""Bytes. A part is synced at each multiple of this before anything is written beyond it."""

SYNCED_FINELY = 1024 * 1024
"""Bytes. The same for a part of which that was asked: more calls, less to lose."""

_DIRECT_ALIGNED = 4096
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)  # macOS has none
_SETTLED = stat.S_IXUSR
_FINE = stat.S_IXGRP


class Partial:
    """A file in the making, held by one process at a time and kept when its writer dies.

    Opening waits for another holder; `waiting` is then called again and again with the bytes that one
    has so far, and may raise to give up. What is appended is synced at each multiple of `SYNCED_EACH`
    before anything is written beyond it, so that a part's size alone tells what a power cut left whole of it.
    One that was let go of in order has a mode (0700) that says that all of it is synced, one that is synced at each
    multiple of `SYNCED_FINELY` a mode (0610) that says that.
    """

    __slots__ = ("_descriptor", "_each", "_finely", "_reading", "_writing", "path")

    def __init__(self, path: Path, *, waiting: Callable[[int], None] | None = None) -> None:
        self.path = path
        with os_errors(path):
            while True:
                descriptor = os.open(path, os.O_RDWR | CREATED, 0o600)
                try:
                    while waiting and not try_lock(descriptor):
                        waiting(os.fstat(descriptor).st_size)
                        time.sleep(POLL_SECONDS)
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    # The earlier holder may have renamed or removed the file while we waited for it.
                    if is_same_file(descriptor, path):
                        break
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
        self._descriptor = descriptor
        self._writing = _Way(descriptor)
        self._reading: _Way | None = None
        self._each = SYNCED_EACH
        self._finely = False

    @property
    def size(self) -> int:
        """Bytes in the file now; at first what an earlier holder left behind."""
        with os_errors(self.path):
            return os.fstat(self._descriptor).st_size

    @property
    def synced_each(self) -> int:
        """Bytes at whose multiples what is appended now is synced."""
        return self._each

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

        One thread may read while another appends. Page-aligned buffers are filled past the page cache where that is
        possible, for the reasons of `append`.
        """
        with os_errors(self.path):
            if self._reading is None:
                # Of its own: whether the cache is passed by is a property of the descriptor.
                self._reading = _Way(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC))
            way = self._reading
            way.bypass(not (offset % _DIRECT_ALIGNED or len(buffer) % _DIRECT_ALIGNED))
            return way.insist(lambda: os.preadv(way.descriptor, [buffer], offset))

    def append(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at `offset`, where the part ends, and sync at each multiple that the class tells of.

        Page-aligned data goes past the page cache where that is possible: it costs a fifth of the processor's time,
        and leaves in memory what others have there.
        """
        while len(data):
            piece = data[: self._each - offset % self._each]
            with os_errors(self.path):
                self._writing.bypass(not (offset % _DIRECT_ALIGNED or len(piece) % _DIRECT_ALIGNED))
                self._writing.insist(partial(self._write_all, offset, piece))
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
            self._write_all(offset, data)

    def _write_all(self, offset: int, data: memoryview) -> None:
        while len(data):
            count = os.pwrite(self._descriptor, data, offset)
            offset += count
            data = data[count:]

    def _sync_or_drop(self) -> None:
        with os_errors(self.path):
            try:
                (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(self._descriptor)
            except OSError:
                # The kernel reports a lost page once; a second try would tell that all is well.
                self.reopen()
                raise

    def commit(self, target: Path, *, mode: int = 0o444) -> None:
        """Sync the bytes and give the file its final name and mode; bytes that cannot be synced are dropped."""
        with os_errors(target):
            try:
                os.fsync(self._descriptor)
            except OSError:
                # The kernel reports a lost page once; what it still shows of the file may not be on the disk.
                self.discard()
                raise
            if not is_same_file(self._descriptor, self.path):
                msg = f"{self.path} was removed while it was written"
                raise LadingError(msg, hint="repeat the command")
            move_durably(self.path, target)
            # Last, so that one who dies before leaves a part that its successor may write to.
            with suppress(PermissionError):
                os.fchmod(self._descriptor, mode)

    def discard(self) -> None:
        """Remove the file, unless it has its final name: its bytes are of no use."""
        with os_errors(self.path), suppress(FileNotFoundError):
            if is_same_file(self._descriptor, self.path):
                self.path.unlink()

    def close(self) -> None:
        """Let go of the file; what was written stays unless it was discarded."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._reading is not None:
            os.close(self._reading.descriptor)
            self._reading = None


class _Way:
    """A descriptor by which bytes go through the page cache or past it."""

    __slots__ = ("_direct", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._direct: bool | None = False if _O_DIRECT else None

    def bypass(self, wanted: bool) -> None:  # noqa: FBT001 - the one thing it takes
        """Pass the cache by from now on, or do not; without effect where that cannot be had."""
        if self._direct is None or self._direct == wanted:
            return
        flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags | _O_DIRECT if wanted else flags & ~_O_DIRECT)
        except OSError:
            self._direct = None
            return
        self._direct = wanted

    def insist(self, move: Callable[[], T]) -> T:
        """Return what `move` does, through the cache if it is refused past it."""
        try:
            return move()
        except OSError as error:
            # The buffer's address counts, too, and some file systems take the flag and not what follows.
            if not self._direct or error.errno != errno.EINVAL:
                raise
            self.bypass(False)
            self._direct = None
            return move()


def atomic_write(path: Path, data: bytes, *, mode: int = 0o644, staging: Path | None = None) -> None:
    """Write a file so that, at any moment and after any death, it holds the old or the new bytes.

    The folder must exist. A symbolic link at `path` is replaced, not followed. `staging` is where the new
    bytes are put first, on the same file system; by default beside the file.
    """
    part = Partial(staging or path.with_name(f".{path.name}.new"))
    try:
        part.truncate(0)
        part.write_at(0, memoryview(data))
        part.commit(path, mode=mode)
    except BaseException:
        part.discard()
        raise
    finally:
        part.close()
