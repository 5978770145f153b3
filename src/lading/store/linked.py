"""Blobs that are a user's own file under a second name, and the watch over them.

A file packed by hard link can be changed behind the store's back. Its stamp (device, inode, size,
times) is recorded when it is packed and compared at every open. A stamp that differs has the file
hashed again: the same bytes get a new stamp, other bytes make the blob a missing one, named.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from lading import fs
from lading.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lading.digest import Digest


class Record(msgspec.Struct, frozen=True):
    """What is known of a linked file: where the user had it, its stamp, whether its bytes are the blob's."""

    origin: str
    stamp: tuple[int, int, int, int, int]
    intact: bool = True


class LinkedFiles:
    """The records of one store, a file each under `links/`."""

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, digest: Digest, blob: Path, origin: Path) -> None:
        """Record the stamp of a blob that was just linked."""
        self._write(digest, Record(str(origin), stamp_of(blob.stat())))

    def renew(self, digest: Digest, blob: Path) -> None:
        """Take the stamp of a watched blob anew after the store itself gave or took one of its names."""
        record = self._read(digest)
        if record is not None and record.intact:
            stamp = stamp_of(blob.stat())
            # Only the ctime is the store's doing; any other difference is left for `check` to find.
            if stamp[:4] == record.stamp[:4]:
                self._write(digest, Record(record.origin, stamp))

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
            record = Record(record.origin, stamp, rehash())
            if stamp_of(blob.stat()) == stamp:
                self._try_write(digest, record)
        if not record.intact:
            msg = f"{record.origin} was changed after it was packed: it no longer is {digest.short}"
            raise IntegrityError(msg, hint="pack it again; with --copy the store keeps bytes of its own")

    def _path(self, digest: Digest) -> Path:
        return self._folder / f"{digest.file_name}.json"

    def _read(self, digest: Digest) -> Record | None:
        try:
            raw = self._path(digest).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return msgspec.json.decode(raw, type=Record)
        except msgspec.DecodeError:
            # A damaged record must not vouch for anything: the impossible stamp has the file hashed.
            return Record("a linked file", (0, 0, 0, 0, 0))

    def _write(self, digest: Digest, record: Record) -> None:
        fs.make_folder(self._folder)
        fs.atomic_write(self._path(digest), msgspec.json.encode(record))

    def _try_write(self, digest: Digest, record: Record) -> None:
        # In a read-only store the verdict holds for this open only; the next one hashes again.
        if os.access(self._folder, os.W_OK):
            self._write(digest, record)


def stamp_of(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return (device, inode, size, mtime in ns, ctime in ns)."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
