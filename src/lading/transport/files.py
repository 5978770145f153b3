"""A user's files on this machine as a Source: they are hashed first, and each is held to that when it is read."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from lading import fs
from lading.digest import Digest, VerifyingReader
from lading.errors import NotFoundError
from lading.manifest import Descriptor
from lading.ranges import FileRanges
from lading.store.hashing import hash_file

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, Progress, RangeReader
    from lading.manifest import Document

_BLOB = "application/octet-stream"


class FileSource:
    """Open files by the digests that they had when they were added; a Source without documents."""

    def __init__(self) -> None:
        self._files: dict[Digest, fs.Origin] = {}

    def add(self, origin: fs.Origin, progress: Progress) -> Descriptor:
        """Hash a file and hold it, open; its owner closes it. `progress` hears of the bytes hashed."""
        with fs.os_errors(origin.path):
            digest, size = hash_file(origin.descriptor, "sha256", progress)
        self._files[digest] = origin
        return Descriptor(media_type=_BLOB, digest=digest, size=size)

    def document(self, name: str, /) -> Document:
        """Raise NotFoundError: files have no manifest."""
        msg = f"there is no manifest {name[:140]!r} beside the files"
        raise NotFoundError(msg)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a file; read from 0 its end is verified: IntegrityError if it was changed since."""
        origin = self._origin(blob)
        with fs.os_errors(origin.path):
            reader = _Reader(os.dup(origin.descriptor), offset)
        return reader if offset else VerifyingReader(reader, str(origin.path), size=blob.size, digest=blob.digest)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a file."""
        origin = self._origin(blob)
        return FileRanges(os.dup(origin.descriptor), str(origin.path), blob.size)

    def _origin(self, blob: Descriptor) -> fs.Origin:
        try:
            return self._files[blob.digest]
        except KeyError:
            msg = f"there is no file of digest {blob.digest.short}"
            raise NotFoundError(msg) from None


class _Reader(io.RawIOBase):
    """An open file from a place on; its position is its own, which duplicates of a descriptor share."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        count = os.preadv(self._descriptor, [buffer], self._offset)
        self._offset += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
