"""A place in an archive's bytes that only moves forward, over ranges or over a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lading.errors import FormatError

if TYPE_CHECKING:
    from lading.content import ByteReader, RangeReader

_AHEAD = 64 * 1024
_FAR_AHEAD = 4 * 1024 * 1024
_BLOCK = 1024 * 1024


class Cursor(Protocol):
    """What the reader of an archive moves over it. `size` is the archive's, in bytes, or None while nobody knows it."""

    name: str
    position: int
    size: int | None

    def read(self, length: int, /) -> bytes:
        """Return the next bytes; fewer than `length` only where the archive ends."""

    def skip(self, length: int, /) -> None:
        """Pass over bytes; raises FormatError where the archive ends before."""


class RangeCursor:
    """A Cursor over ranges: what is skipped is not read, unless it is shorter than what is read at once.

    That is 64 KiB, and ever more while there is no such gap: an archive of many small files takes few reads.
    """

    __slots__ = ("_ahead", "_reader", "_start", "_window", "name", "position", "size")

    def __init__(self, reader: RangeReader, name: str) -> None:
        self._reader = reader
        self._window = b""
        self._start = 0
        self._ahead = _AHEAD
        self.name = name
        self.position = 0
        self.size: int | None = reader.size

    def read(self, length: int, /) -> bytes:
        """Return the next bytes; fewer than `length` only where the archive ends."""
        end = self._start + len(self._window)
        if self.position + length > end:
            gap = self.position - end
            self._ahead = min(2 * self._ahead, _FAR_AHEAD) if gap < self._ahead and end else _AHEAD
            self._start = self.position
            self._window = self._reader.read_at(self.position, max(length, self._ahead))
        begin = self.position - self._start
        data = self._window[begin : begin + length]
        self.position += len(data)
        return data

    def skip(self, length: int, /) -> None:
        """Pass over bytes; raises FormatError where the archive ends before."""
        if self.position + length > self._reader.size:
            raise cut_off(self.name)
        self.position += length


class StreamCursor:
    """A Cursor over a stream, whose end nobody knows before it comes."""

    __slots__ = ("_block", "_reader", "name", "position", "size")

    def __init__(self, reader: ByteReader, name: str) -> None:
        self._reader = reader
        self._block = memoryview(bytearray(_BLOCK))
        self.name = name
        self.position = 0
        self.size: int | None = None

    def read(self, length: int, /) -> bytes:
        """Return the next bytes; fewer than `length` only where the archive ends."""
        parts = []
        while length:
            count = self.readinto(self._block[:length])
            if not count:
                break
            parts.append(bytes(self._block[:count]))
            length -= count
        return b"".join(parts)

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""
        count = self._reader.readinto(buffer)
        self.position += count
        return count

    def skip(self, length: int, /) -> None:
        """Pass over bytes; raises FormatError where the archive ends before."""
        while length:
            count = self.readinto(self._block[:length])
            if not count:
                raise cut_off(self.name)
            length -= count


def cut_off(name: str) -> FormatError:
    """Return the error for an archive that ends too soon; `name` is what messages call it."""
    msg = f"{name} is cut off: it ends in the middle of a file"
    return FormatError(msg, hint="the archive is damaged or malformed")
