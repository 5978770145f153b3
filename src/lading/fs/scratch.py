"""Files that programs write: made in a private folder beside their place, synced, and moved there whole."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lading.errors import BusyError
from lading.fs.lock import is_same_file, try_lock
from lading.fs.names import move_durably, remove_tree
from lading.ranges import as_lading_error, os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST = 200  # bytes of the target's name; 255 is what file systems take
_PROBE = 1024 * 1024
_SYNC_SECONDS = 0.25


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`, private to this user, and remove it with all in it at the end.

    What one that was killed left behind is removed first. Raises BusyError while another process makes `target`.
    """
    stem = os.fsdecode(os.fsencode(target.name)[:_LONGEST])
    folder = target.with_name(f".{stem}.making")
    descriptor = _held(folder, target)
    try:
        with os_errors(folder):
            for entry in os.scandir(folder):
                remove_tree(folder / entry.name)
        yield folder
    finally:
        try:
            remove_tree(folder)
        finally:
            os.close(descriptor)


def _held(folder: Path, target: Path) -> int:
    """Return the open and locked folder; it may be removed by its earlier holder while we wait to open it."""
    while True:
        with os_errors(target.parent):
            os.stat(target.parent)
        with os_errors(folder):
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        if not try_lock(descriptor):
            os.close(descriptor)
            msg = f"{target} is being made by another process"
            raise BusyError(msg, hint="wait for it to end, or stop it, and repeat")
        if is_same_file(descriptor, folder):
            return descriptor
        os.close(descriptor)


def clear_scratch(folder: Path) -> None:
    """Remove what killed makers left in a folder; what somebody is at work in stays."""
    with os_errors(folder):
        left = sorted(folder.glob(".*.making")) if folder.is_dir() else []
    for one in left:
        with os_errors(one), suppress(FileNotFoundError):
            descriptor = os.open(one, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if try_lock(descriptor):
                    remove_tree(one)
            finally:
                os.close(descriptor)


@contextmanager
def written_back(folder: Path) -> Iterator[None]:
    """Bring what a program writes in a folder to the disk while it writes, so that `put` has little left to wait for."""
    ended = threading.Event()
    failed: list[OSError] = []

    def sync() -> None:
        while not ended.wait(_SYNC_SECONDS):
            try:
                for entry in os.scandir(folder):
                    if entry.is_file(follow_symlinks=False):
                        _sync(entry.path)
            except FileNotFoundError:
                continue  # a program's passing file
            except OSError as error:
                # The kernel tells of a lost page once, and this was it.
                failed.append(error)
                return

    thread = threading.Thread(target=sync, name="sync", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise as_lading_error(failed[0], folder)


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put(made: Path, target: Path) -> None:
    """Sync a file that a program wrote and give it its name, in place of what had it; its mode stays."""
    with os_errors(target):
        _sync(made)
    move_durably(made, target)


def check_space(folder: Path) -> None:
    """Raise NoSpaceError unless a mebibyte can be written in a folder: programs do not always say why they failed."""
    probe = folder / ".space"
    with os_errors(folder):
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            left = memoryview(bytes(_PROBE))
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            os.unlink(probe)
