"""Locks: flock(2), shared or exclusive, which the kernel drops with their process, so that none is ever stale."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from lading.errors import BusyError
from lading.fs.names import remove_tree
from lading.ranges import os_errors

if TYPE_CHECKING:
    from pathlib import Path

POLL_SECONDS = 0.05
"""Between two looks at a lock that somebody else holds."""

CREATED = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
"""How files of ours are opened that may not be there yet."""


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
            descriptor = os.open(self._path, os.O_RDWR | CREATED, 0o600)
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
            time.sleep(POLL_SECONDS)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file without waiting; False when somebody else holds it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_same_file(descriptor: int, path: Path) -> bool:
    """Say whether an open file still has that name."""
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
            if not try_lock(file.fileno()) or not is_same_file(file.fileno(), path):
                return 0
            if not dry_run:
                path.unlink()
        return status.st_size
    return 0
