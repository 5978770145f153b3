"""A blob read piece by piece: the bodies of the requests that it is sent in."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from lading.digest import VerifyingReader
from lading.store.stream import LastingStream

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, Progress, Source
    from lading.manifest import Descriptor


class Feed:
    """Reads a blob in order across several requests; opens it anew only where the order breaks.

    A source that breaks off is taken up where it did, while the request waits; `waiting` is called meanwhile and may
    raise. Read from 0 the blob is verified, unless it is `unnamed`: then its digest stands for nothing.
    """

    def __init__(self, source: Source, blob: Descriptor, waiting: Progress, *, unnamed: bool = False) -> None:
        self._source = source
        self._blob = blob
        self._waiting = waiting
        self._unnamed = unnamed
        self.size = blob.size
        self._reader: ByteReader | None = None
        self._at = 0

    def seek(self, offset: int) -> None:
        """Go to `offset`, where the next byte is read."""
        if self._reader is None or self._at != offset:
            self.close()
            stream = LastingStream(self._source, self._blob, offset, self._waiting)
            stream.open()
            self._reader = stream
            if not (offset or self._unnamed):
                name = f"blob {self._blob.digest.short}"
                self._reader = VerifyingReader(stream, name, size=self._blob.size, digest=self._blob.digest)
            self._at = offset

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the blob's end."""
        if self._reader is None:
            return 0
        try:
            count = self._reader.readinto(buffer)
        except BaseException:
            # A reader that failed once is not asked again, also not at the same place.
            self.close()
            raise
        self._at += count
        return count

    def close(self) -> None:
        """Close the blob; harmless when repeated."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class Piece:
    """A part of a blob as the body of one request."""

    def __init__(self, feed: Feed, offset: int, size: int, progress: Progress) -> None:
        self._feed = feed
        self._offset = offset
        self.size = size
        self._progress = progress

    def open(self) -> ByteReader:
        """Return the piece's bytes from its start."""
        self._feed.seek(self._offset)
        return _PieceReader(self._feed, self.size, last=self._offset + self.size == self._feed.size)

    def progress(self, done: int, /) -> None:
        """Pass on how far the blob is, of which `done` bytes of this piece are sent."""
        self._progress(self._offset + done)


class _PieceReader(io.RawIOBase):
    """Ends after the piece; after the last one the source itself is asked for its end, and so verifies."""

    def __init__(self, feed: Feed, size: int, *, last: bool) -> None:
        self._feed = feed
        self._left = size
        self._last = last

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self._last and not self._left:
            return self._feed.readinto(buffer)
        count = self._feed.readinto(memoryview(buffer).cast("B")[: self._left])
        self._left -= count
        return count
