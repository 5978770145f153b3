"""A witness: what was read out of order, before it could be verified, is held to the bytes that come in order."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

from lading.digest import VerifyingReader
from lading.errors import IntegrityError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, RangeReader, Source
    from lading.digest import Digest
    from lading.manifest import Descriptor, Document

_Read = list[tuple[int, bytes]]


class Witness:
    """A Source that remembers what its ranges said, and raises IntegrityError where a stream says otherwise."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._read: dict[Digest, _Read] = {}
        self._lock = threading.Lock()

    def document(self, name: str, /) -> Document:
        """Return a document of the source."""
        return self._source.document(name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a blob from `offset` on; read from 0 its end is verified."""
        reader = self._source.open(blob, offset)
        with self._lock:
            said = tuple(self._read.get(blob.digest, ()))
        if not said:
            return reader
        if offset:
            return _Compared(reader, offset, said, blob)
        inner = reader.unverified() if isinstance(reader, VerifyingReader) else reader
        name = f"blob {blob.digest.short}"
        return VerifyingReader(_Compared(inner, 0, said, blob), name, size=blob.size, digest=blob.digest)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a blob; what is read is remembered."""
        with self._lock:
            said = self._read.setdefault(blob.digest, [])
        return _Noting(self._source.ranges(blob), said)


class _Noting:
    """A RangeReader that notes what it gave."""

    def __init__(self, inner: RangeReader, said: _Read) -> None:
        self._inner = inner
        self._said = said
        self.name = inner.name
        self.size = inner.size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the file ends."""
        data = self._inner.read_at(offset, length)
        self._said.append((offset, data))
        return data

    def close(self) -> None:
        """Close the file."""
        self._inner.close()


class _Compared(io.RawIOBase):
    """A stream that raises IntegrityError where it differs from what was said."""

    def __init__(self, inner: ByteReader, offset: int, said: tuple[tuple[int, bytes], ...], blob: Descriptor) -> None:
        self._inner = inner
        self._offset = offset
        self._said = said
        self._end = max(start + len(data) for start, data in said)
        self._blob = blob

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        count = self._inner.readinto(view)
        begin, end = self._offset, self._offset + count
        self._offset = end
        if begin < self._end:
            for start, data in self._said:
                low, high = max(begin, start), min(end, start + len(data))
                if low < high and view[low - begin : high - begin] != data[low - start : high - start]:
                    msg = f"blob {self._blob.digest.short} showed another header than it has"
                    raise IntegrityError(msg, hint="the source or a proxy in between is not to be trusted")
        return count

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()
