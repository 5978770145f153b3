"""Blobs that are a user's own file under a second name, and the watch over them.

A file packed by hard link can be changed behind the store's back. Its stamp (device, inode, size,
times) is recorded when it is packed and compared at every open. A stamp that differs has the file
hashed again: the same bytes get a new stamp, other bytes make the blob a missing one, named.
A blob of the store's own gets a record only when its bytes were found to be others.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from lading import fs
from lading.digest import Digest
from lading.errors import AccessDeniedError, FormatError, IntegrityError, NoSpaceError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MAX_RECORD = 64 * 1024
_IMPOSSIBLE = (0, 0, 0, 0, 0)


class Record(msgspec.Struct, frozen=True):
    """What is known of a blob: where the user had it (empty: it is the store's own), its stamp, whether it is intact."""

    origin: str
    stamp: tuple[int, int, int, int, int]
    intact: bool = True


class LinkedFiles:
    """The records of one store, a file each under `links/`."""

    __slots__ = ("_folder", "_staging")

    def __init__(self, folder: Path, staging: Path) -> None:
        self._folder = folder
        self._staging = staging

    def add(self, digest: Digest, status: os.stat_result, origin: Path) -> None:
        """Watch a blob that is, or is about to be, a link to `origin`, whose bytes were right when it had `status`."""
        self._write(digest, Record(str(origin.absolute()), stamp_of(status)))

    def condemn(self, digest: Digest, status: os.stat_result) -> None:
        """Remember that a blob's bytes are not its own, as long as its stamp stays as it is."""
        self._try_write(digest, Record(self.origin(digest) or "", stamp_of(status), intact=False))

    def renew(self, digest: Digest, blob: Path) -> None:
        """Take the stamp of a watched blob anew after the store itself gave or took one of its names."""
        record = self._read(digest)
        if record is not None and record.intact:
            stamp = _stamp_at(blob)
            # Only the ctime is the store's doing; any other difference is left for `check` to find.
            if stamp is not None and stamp[:4] == record.stamp[:4]:
                self._write(digest, Record(record.origin, stamp))

    def unchanged(self, digest: Digest, blob: Path) -> bool:
        """Say whether a blob is watched and its stamp is the recorded one."""
        record = self._read(digest)
        return record is not None and record.intact and _stamp_at(blob) == record.stamp

    def digests(self) -> tuple[Digest, ...]:
        """Return what has a record."""
        with fs.os_errors(self._folder):
            names = sorted(os.listdir(self._folder)) if self._folder.is_dir() else []  # noqa: PTH208 - names are all that is needed
        found = []
        for name in names:
            with suppress(FormatError):
                found.append(Digest(name.removesuffix(".json").replace("-", ":", 1)))
        return tuple(found)

    def faults(self, path: Callable[[Digest], Path]) -> dict[Digest, str]:
        """Return what is known to be wrong without reading a blob: found before, or of another size than when packed.

        `path` says where a blob lies. A stamp that differs else proves nothing: the bytes may be the same.
        """
        found = {}
        for digest in self.digests():
            record, stamp = self._read(digest), _stamp_at(path(digest))
            if record is None or stamp is None or record.stamp == _IMPOSSIBLE:
                continue
            if stamp[2] != record.stamp[2] or (not record.intact and stamp == record.stamp):
                found[digest] = _fault(record, digest).message
        return found

    def drop(self, digest: Digest) -> None:
        """Forget a blob: it is gone, or its bytes are now the store's own."""
        if self._path(digest).exists():
            fs.remove(self._path(digest))

    def origin(self, digest: Digest) -> str | None:
        """Return the file that the blob is a link to, None for a blob of the store's own."""
        record = self._read(digest)
        return record.origin if record else None

    def check(self, digest: Digest, blob: Path, status: os.stat_result, rehash: Callable[[], bool]) -> None:
        """Raise IntegrityError if the blob is linked and its bytes are no longer its own.

        `rehash` says whether the bytes still have the digest; it is asked only when the stamp differs.
        """
        record = self._read(digest)
        if record is None:
            return
        stamp = stamp_of(status)
        if stamp != record.stamp:
            # A file that was written to a moment ago may be again without a trace: the verdict holds for now.
            lasting = fs.settled(status)
            record = Record(record.origin, stamp, rehash())
            if lasting and _stamp_at(blob) == stamp:
                self._try_write(digest, record)
        if not record.intact:
            raise _fault(record, digest)

    def _path(self, digest: Digest) -> Path:
        return self._folder / f"{digest.file_name}.json"

    def _read(self, digest: Digest) -> Record | None:
        path = self._path(digest)
        try:
            with open(fs.open_regular(path), "rb") as file:  # noqa: PTH123 - a descriptor, not a path
                return msgspec.json.decode(file.read(_MAX_RECORD), type=Record)
        except NotFoundError:
            return None
        except (FormatError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # A damaged record must not vouch for anything: the impossible stamp has the file hashed.
            return Record("a linked file", _IMPOSSIBLE)

    def _write(self, digest: Digest, record: Record) -> None:
        fs.make_folder(self._folder)
        fs.make_folder(self._staging)
        fs.atomic_write(
            self._path(digest), msgspec.json.encode(record), staging=self._staging / f"{digest.file_name}.record"
        )

    def _try_write(self, digest: Digest, record: Record) -> None:
        # In a store that is read-only or full the verdict holds for this open only; the next one hashes again.
        with suppress(AccessDeniedError, NoSpaceError):
            self._write(digest, record)


def changed(origin: str, digest: Digest) -> IntegrityError:
    """Return the error for a linked file whose bytes are no longer those of its blob."""
    msg = f"{origin} was changed after it was packed: it no longer is {digest.short}"
    return IntegrityError(msg, hint="pack it again; with --copy the store keeps bytes of its own")


def _fault(record: Record, digest: Digest) -> IntegrityError:
    if record.origin:
        return changed(record.origin, digest)
    msg = f"blob {digest.short} in the store is damaged"
    return IntegrityError(msg, hint="pull or pack the model again")


def _stamp_at(blob: Path) -> tuple[int, int, int, int, int] | None:
    try:
        return stamp_of(blob.lstat())
    except OSError:
        return None


def stamp_of(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return (device, inode, size, mtime in ns, ctime in ns)."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
