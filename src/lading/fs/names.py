"""Names on the disk: folders, links and renames that outlive a power cut."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lading.ranges import os_errors

if TYPE_CHECKING:
    from pathlib import Path

_FICLONE = 0x40049409  # ioctl-ficlone(2)
_CANNOT_CLONE = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM}
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}


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


def move_durably(source: Path, target: Path) -> None:
    """Rename a file whose bytes are synced, then make its new name durable.

    The old name need not be: a file system with a journal takes it away in the same step, and one without leaves at
    worst both, of which `ingest/` may hold one.
    """
    with os_errors(target):
        os.replace(source, target)
        sync_folder(target.parent)


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
