"""A cursor over a GGUF header that holds one window of it in memory."""

from __future__ import annotations

from itertools import repeat
from operator import length_hint
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lading.errors import FormatError
from lading.formats.quote import quote
from lading.ranges import FileRanges

if TYPE_CHECKING:
    from lading.content import RangeReader

HINT = "the file is cut short or damaged, perhaps by an interrupted download: fetch it again"

_FIRST_STEP = 256 * 1024
# With the ends of windows that are fetched twice, this stays within 1 MiB beyond the header.
_LAST_STEP = 960 * 1024
_LARGEST_SURE = 2 * 1024 * 1024
# A file's windows cost a call each, and small ones lie where the last one lay: larger ones are new pages every time.
_FILE_STEP = 96 * 1024
_CHEAP_AGAIN = 4096
_KEEP_ONE = 4096
_KEEP_ALL = 1024 * 1024


@runtime_checkable
class Foreseeing(Protocol):
    """A reader that wants to know of arrays of strings, whose end only a walk finds, and may know one already.

    Its `read_at` may return less than it is asked for, and is asked again.
    """

    def known(self, offset: int, count: int, /) -> int | None:
        """Return the bytes of the array of `count` strings that begins at `offset`; None if it has to be walked."""

    def foresee(self, offset: int, count: int, mean: float, /) -> None:
        """Hear that from `offset` on so many strings are to come, and how many bytes the ones before took."""


class GgufCursor:
    """Reads a file's header from `offset` up to `end` in windows.

    A window is filled with one `read_at`. It reaches at most 1 MiB beyond what is known to be header, so that a
    remote header needs few requests and none fetches tensor data in bulk; it never holds more than about 3 MiB.
    `text_left` is what may still be decoded, in bytes. Raises FormatError beyond `end`.
    """

    __slots__ = (
        "_base",
        "_data",
        "_end",
        "_keep_left",
        "_pos",
        "_reader",
        "_step",
        "_steps",
        "_u64",
        "order",
        "text_left",
    )

    def __init__(self, reader: RangeReader, offset: int, end: int, *, order: str, text: int) -> None:
        self._reader = reader
        self._end = end
        self._base = offset
        self._pos = 0
        self._data = b""
        near = isinstance(reader, FileRanges)
        self._step = _FILE_STEP if near else _FIRST_STEP
        self._steps = (_FILE_STEP, 0) if near else (_LAST_STEP, _LARGEST_SURE)
        self._keep_left = _KEEP_ALL
        self.text_left = text
        self.use_order(order)

    def use_order(self, order: str) -> None:
        """Read numbers in struct's byte order `<` or `>` from here on."""
        self.order = order
        self._u64 = Struct(order + "Q")

    @property
    def offset(self) -> int:
        """Where in the file the cursor stands."""
        return self._base + self._pos

    def cut(self) -> FormatError:
        """Return the error for a header that would go on beyond its bounds."""
        if self._end < self._reader.size:
            msg = f"the header of {self._reader.name} is longer than {self._end} bytes"
        else:
            msg = f"{self._reader.name} ends within its header, after {self._reader.size} bytes"
        return FormatError(msg, hint=HINT)

    def need(self, count: int, sure: int = 0) -> None:
        """Have the next `count` bytes in the window; `sure` bytes from here on are known to belong to the header."""
        pos = self._pos
        if pos + count <= len(self._data):
            return
        offset = self._base + pos
        if offset + count > self._end:
            raise self.cut()
        # A short rest is fetched again: joining it to megabytes would hold them twice.
        tail = self._data[pos:] if len(self._data) - pos > _CHEAP_AGAIN else b""
        self._data = b""
        start = offset + len(tail)
        last_step, largest_sure = self._steps
        wanted = max(count, min(sure, largest_sure)) + self._step - len(tail)
        fresh = self._reader.read_at(start, min(wanted, self._end - start))
        while fresh and len(tail) + len(fresh) < count and (more := self._reader.read_at(start + len(fresh), count)):
            fresh += more
        self._step = min(2 * self._step, last_step)
        self._data = tail + fresh if tail else fresh
        self._base = offset
        self._pos = 0
        if len(self._data) < count:
            msg = f"{self._reader.name} ended at byte {start + len(fresh)} while it was read"
            raise FormatError(msg, hint="its size changed; try again when nothing writes to it")

    def unpack(self, packed: Struct) -> tuple[int, ...]:
        """Read one struct."""
        self.need(packed.size)
        values = packed.unpack_from(self._data, self._pos)
        self._pos += packed.size
        return values

    def u64(self) -> int:
        """Read one unsigned 64-bit number."""
        return self.unpack(self._u64)[0]

    def string(self, limit: int, what: str) -> bytes:
        """Read a string: its length and so many bytes, at most `limit`; `what` names it in messages."""
        length = self.u64()
        if self.offset + length > self._end:
            raise self.cut()
        if length > limit:
            msg = f"{what} of {self._reader.name} is {length} bytes long; {limit} are the most read"
            raise FormatError(msg, hint=HINT)
        if length > self.text_left:
            msg = f"the header of {self._reader.name} has more text than is read, {what} of {length} bytes included"
            raise FormatError(msg, hint=HINT)
        self.text_left -= length
        return self.take(length)

    def text(self, limit: int, what: str) -> str:
        """Read a string that must be UTF-8, such as a name."""
        raw = self.string(limit, what)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            msg = f"{what} of {self._reader.name} is not UTF-8: {quote(raw)}"
            raise FormatError(msg, hint=HINT) from None

    def peek(self, count: int) -> bytes:
        """Return the next `count` bytes and stay before them."""
        self.need(count)
        return self._data[self._pos : self._pos + count]

    def preload(self, data: bytes) -> None:
        """Take `data` for the bytes at the cursor."""
        self._base, self._pos, self._data = self.offset, 0, data

    def take(self, count: int) -> bytes:
        """Read `count` bytes."""
        self.need(count)
        pos = self._pos
        self._pos = pos + count
        return self._data[pos : pos + count]

    def skip(self, count: int) -> None:
        """Pass over `count` bytes, without reading those that are not in the window."""
        self._pos += count
        if self.offset > self._end:
            raise self.cut()

    def skip_strings(self, count: int) -> None:
        """Pass over `count` strings, of which only the lengths are looked at."""
        if self.offset + 8 * count > self._end:
            raise self.cut()
        reader = self._reader
        foreseeing = reader if isinstance(reader, Foreseeing) else None
        if foreseeing and (size := foreseeing.known(self.offset, count)) is not None:
            self.skip(size)
            return
        begin, every = self.offset, count
        unpack = self._u64.unpack_from
        # A vocabulary has hundreds of thousands of strings: this loop is the time that reading a header takes.
        while count:
            if foreseeing and count < every:
                foreseeing.foresee(self.offset, count, (self.offset - begin) / (every - count))
            self.need(8, sure=8 * count)
            data = self._data
            pos = self._pos
            turns = repeat(None, count)
            try:
                for _ in turns:
                    pos += unpack(data, pos)[0] + 8
                count = 0
            except (struct_error, OverflowError):
                # The string at `pos` begins beyond the window; its turn is already taken off.
                count = length_hint(turns) + 1
            self._pos = pos
            if self._base + pos > self._end:
                raise self.cut()

    def kept(self, offset: int) -> bytes | None:
        """Return the bytes from `offset` up to the cursor, if the window still holds them."""
        start = offset - self._base
        return self._data[start : self._pos] if 0 <= start <= self._pos <= len(self._data) else None

    def may_keep(self, count: int) -> bool:
        """Say whether `count` bytes more may be kept undecoded, and count them if so."""
        if count > min(self._keep_left, _KEEP_ONE):
            return False
        self._keep_left -= count
        return True
