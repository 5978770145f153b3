"""Adoption: a user's file becomes a blob, by copy-on-write twin, watched hard link or copy."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import fs
from lading.digest import Digest, new_hasher
from lading.errors import IntegrityError
from lading.store.hashing import hash_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lading.content import Progress
    from lading.store.blobs import Blobs

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Adopted:
    """A file as a blob: `how` is cloned, linked, copied, received or present; `size` in bytes."""

    digest: Digest
    size: int
    how: str


def adopt(
    blobs: Blobs, origin: fs.Origin, progress: Progress, *, copy: bool, keep: Callable[[Digest], None]
) -> Adopted:
    """Hash a user's file and make it a blob.

    A copy-on-write twin is best, then a hard link that is watched from then on, if the file is the user's own, then a
    copy, hashed again while it is made; `copy` forces the last, and makes a linked blob the store's own. `keep` is told the
    digest before the blob gets its name, so that a lease protects it. Raises IntegrityError for a file
    that changes meanwhile.
    """
    if not copy:
        # Pages that are dirty in somebody's mapping would take further writes without a trace in the times.
        origin.flush()
    digest, size = _hash(origin, progress)
    keep(digest)
    to_own = copy and blobs.linked.origin(digest) is not None
    if not to_own and blobs.is_whole(digest, size):
        return Adopted(digest, size, "present")
    staged = blobs.stage(digest, f"{os.getpid()}-{threading.get_ident():x}")
    fs.remove(staged)
    try:
        if not copy and _clone(blobs, origin, digest, staged):
            return Adopted(digest, size, "cloned")
        if not copy and _link(blobs, origin, digest, staged):
            return Adopted(digest, size, "linked")
        _copy(blobs, origin, digest, staged)
    finally:
        # What failed leaves nothing; renaming one name of a file to another of its names leaves both.
        fs.remove(staged)
    return Adopted(digest, size, "copied")


def _hash(origin: fs.Origin, progress: Progress) -> tuple[Digest, int]:
    with fs.os_errors(origin.path):
        first = hash_file(origin.descriptor, "sha256", progress)
        after = os.fstat(origin.descriptor)
        _refuse_changed(origin, after)
        # Another name or mode changes the ctime alone; so does one who writes and sets the mtime back.
        if after.st_ctime_ns != origin.before.st_ctime_ns and hash_file(origin.descriptor, "sha256") != first:
            raise _changed(origin)
    return first


def _clone(blobs: Blobs, origin: fs.Origin, digest: Digest, staged: Path) -> bool:
    if not fs.clone(origin.descriptor, staged):
        return False
    with fs.os_errors(origin.path):
        _refuse_changed(origin, os.fstat(origin.descriptor))
    fs.move_durably(staged, blobs.path(digest))
    blobs.linked.drop(digest)
    return True


def _link(blobs: Blobs, origin: fs.Origin, digest: Digest, staged: Path) -> bool:
    # Root may link anybody's file; its owner could still write to it.
    if origin.before.st_uid != os.geteuid() or not fs.hard_link(origin.path, staged):
        return False
    with fs.os_errors(staged):
        _refuse_changed(origin, staged.lstat())
    # The watch begins before the blob has its name, with the times of before it was hashed: a write at
    # any later moment, and a death at any, is noticed.
    blobs.linked.add(digest, origin.before, origin.path)
    fs.move_durably(staged, blobs.path(digest))
    blobs.linked.renew(digest, blobs.path(digest))
    return True


def _copy(blobs: Blobs, origin: fs.Origin, digest: Digest, staged: Path) -> None:
    partial = fs.Partial(staged)
    try:
        buffer = memoryview(bytearray(_CHUNK))
        hasher = new_hasher(digest.algorithm)
        offset = 0
        while count := _read(origin, buffer, offset):
            hasher.update(buffer[:count])
            partial.write_at(offset, buffer[:count])
            offset += count
        if Digest.result(digest.algorithm, hasher) != digest:
            raise _changed(origin)
        blobs.commit(partial, digest)
    finally:
        partial.close()


def _read(origin: fs.Origin, buffer: memoryview, offset: int) -> int:
    with fs.os_errors(origin.path):
        return os.preadv(origin.descriptor, [buffer], offset)


def _refuse_changed(origin: fs.Origin, after: os.stat_result) -> None:
    before = origin.before
    if (
        not os.path.samestat(before, after)
        or before.st_size != after.st_size
        or before.st_mtime_ns != after.st_mtime_ns
    ):
        raise _changed(origin)


def _changed(origin: fs.Origin) -> IntegrityError:
    msg = f"{origin.path} was changed while it was packed"
    return IntegrityError(msg, hint="pack it again when nothing writes to it")
