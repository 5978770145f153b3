"""The bytes of a model's files, whether a file is a layer or lies in one."""

from __future__ import annotations

import io
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from lading.artifact.layers import Walk, archive_of
from lading.errors import FormatError, IntegrityError
from lading.formats.archive import Compression

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, RangeReader, Source
    from lading.model import Member, Part

MAX_HEAD = 128 * 1024 * 1024
"""Bytes of a file in a compressed layer that can be read out of order; the longest headers have some ten million."""

_BLOCK = 1024 * 1024


def part_ranges(part: Part, source: Source) -> RangeReader:
    """Return random access to a part's file, without verification.

    Of a file in a compressed layer only the first `MAX_HEAD` bytes can be read, and all before them is streamed.
    """
    if part.member is None:
        return source.ranges(part.blob)
    if part.member.compression == Compression.NONE:
        return _Slice(source.ranges(part.blob), part.member, part.name)
    return _Head(open_part(part, source), part.member, part.name)


def open_part(part: Part, source: Source) -> ByteReader:
    """Stream a part's file. Its end is verified where the part is a layer; who reads a packed one holds it to a digest."""
    if part.member is None:
        return source.open(part.blob)
    if part.member.compression == Compression.NONE:
        return FileReader(source.open(part.blob, part.member.offset), part)
    return FileReader(_walk_to(part, part.member, source), part)


def read_part(part: Part, source: Source, limit: int) -> bytes:
    """Return a part's small file whole, as `open_part` streams it; raises FormatError above `limit` bytes."""
    if part.size > limit:
        msg = f"{part.name} has {part.size} bytes where at most {limit} are expected"
        raise FormatError(msg, hint="it is not what its name or media type says")
    with closing(open_part(part, source)) as reader:
        return b"".join(iter(lambda: reader.read(limit) or b"", b""))


class _Readable(Protocol):
    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""

    def close(self) -> None:
        """Release the stream."""


class _Slice:
    """A RangeReader over a file in an uncompressed archive."""

    def __init__(self, inner: RangeReader, member: Member, name: str) -> None:
        self._inner = inner
        self._offset = member.offset
        self.name = name
        self.size = member.size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the file ends."""
        return self._inner.read_at(self._offset + offset, max(0, min(length, self.size - offset)))

    def close(self) -> None:
        """Close the archive."""
        self._inner.close()


class _Head:
    """A RangeReader over the beginning of a stream, which it keeps."""

    def __init__(self, stream: ByteReader, member: Member, name: str) -> None:
        self._stream = stream
        self._held = bytearray()
        self.name = name
        self.size = member.size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the file ends. Raises FormatError far from its start."""
        end = min(offset + length, self.size)
        if end > MAX_HEAD:
            msg = f"{self.name} lies in a compressed layer, and is looked at beyond its first {MAX_HEAD:,} bytes"
            raise FormatError(msg, hint="its header is malformed, or longer than any known")
        while len(self._held) < end:
            self._held += self._stream.read(_BLOCK) or b""
        return bytes(self._held[offset:end])

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


class FileReader(io.RawIOBase):
    """The bytes of a part's file, from a stream that stands at its first; raises IntegrityError where there are fewer.

    The stream is closed with it, unless `keep` says that it goes on after the file.
    """

    def __init__(self, inner: _Readable, part: Part, *, keep: bool = False) -> None:
        self._keep = keep
        self._inner = inner
        self._name = part.name
        self._left = part.size

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the file's end."""
        view = memoryview(buffer).cast("B")[: self._left]
        count = self._inner.readinto(view) if len(view) else 0
        self._left -= count
        if len(view) and not count:
            msg = f"{self._name} is cut off: {self._left} bytes of it are not in its layer"
            raise IntegrityError(msg, hint="the layer is damaged; pull the model again")
        return count

    def close(self) -> None:
        """Close the layer's stream."""
        if not self.closed and not self._keep:
            self._inner.close()
        super().close()


def _walk_to(part: Part, member: Member, source: Source) -> Walk:
    walk = Walk(archive_of(part), source)
    try:
        if any((entry.offset, entry.name) == (member.offset, member.path) for entry in walk):
            return walk
    except BaseException:
        walk.close()
        raise
    walk.close()
    msg = f"{part.name} is not where it was in layer {part.blob.digest.short}"
    raise IntegrityError(msg, hint="the source does not hold what its manifest says")
