"""Several places that may hold the same artifact as one Source: mirrors in their order, the origin last."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from lading.content import Source
from lading.digest import VerifyingReader
from lading.errors import IntegrityError, LadingError, NetworkError, NotFoundError, StoppedError, UsageError
from lading.events import Noted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, RangeReader
    from lading.events import Reporter
    from lading.manifest import Descriptor, Document

_T = TypeVar("_T")

SMALL = 1024 * 1024
"""Bytes; a blob up to this long is held in memory until it is whole and right."""


class Tagged(Source, Protocol):
    """A Source that knows the names of what it holds."""

    def tags(self) -> list[str]:
        """Return all tags."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place to ask: what messages call it, and the tag or digest by which it knows what is wanted."""

    name: str
    source: Tagged
    wanted: str


class Mirrored:
    """A Source over mirrors and, last of all, the origin; the places are asked in order, and only as far as needed.

    A mirror that fails is passed over, told to `reporter` once for each kind of failure: for one blob where it lacks
    that blob, sends wrong bytes of it or breaks off in it, else altogether. When all have failed, the origin's error
    is raised, and the mirrors may be asked anew, except for what they sent wrong. `wanted` is the name that the user
    gave. Blobs of up to `small` bytes are held to their digest before the first byte is handed on; of larger ones the
    reader finds out, and says so by `distrust`. `last` is the origin's number.
    """

    def __init__(self, wanted: str, places: Sequence[Place], reporter: Reporter, *, small: int = SMALL) -> None:
        self._wanted = wanted
        self._places = tuple(places)
        self.last = len(places) - 1
        self._reporter = reporter
        self._small = small
        self._lock = threading.Lock()
        self._out: set[int] = set()
        self._out_for: dict[str, set[int]] = {}
        self._liars: dict[str, set[int]] = {}
        self._gave: dict[str, set[int]] = {}
        self._told: dict[tuple[int, type[LadingError]], None] = {}

    def document(self, name: str, /) -> Document:
        """Return the manifest or index under a tag or digest, of the first place that has it."""

        def ask(index: int) -> Document:
            place = self._places[index]
            return place.source.document(place.wanted if name == self._wanted else name)

        return self._first(name, ask, lasting=True)[1]

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a blob from `offset` on, through breaks of mirrors; read from 0 its end is verified."""
        if blob.size <= self._small and not offset:
            return _Whole(self, blob, offset)
        stream = _Stream(self, blob, offset)
        if offset:
            return stream
        return VerifyingReader(stream, f"blob {blob.digest.short}", size=blob.size, digest=blob.digest)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a blob, without verification, each part from the first place that can give it."""
        return _Ranges(self, blob)

    def tags(self) -> list[str]:
        """Return the tags that the origin has."""
        return self._places[-1].source.tags()

    def distrust(self, blob: Descriptor, /) -> bool:
        """Hear that what was read of a blob is wrong: no mirror that gave any of it is asked for it again.

        Says whether there was one, so that another attempt makes sense.
        """
        with self._lock:
            guilty = self._gave.pop(blob.digest, set()) - {self.last}
            self._liars.setdefault(blob.digest, set()).update(guilty)
        for index in sorted(guilty):
            self._tell(
                index, IntegrityError(f"the bytes that it sent of blob {blob.digest.short} are not those promised")
            )
        return bool(guilty)

    def open_at(self, blob: Descriptor, offset: int) -> tuple[int, ByteReader]:
        """Return a reader of the first place that can give a blob, and the place's number."""
        index, reader = self._first(blob.digest, lambda index: self._places[index].source.open(blob, offset))
        with self._lock:
            self._gave.setdefault(blob.digest, set()).add(index)
        return index, reader

    def read_at(self, blob: Descriptor, readers: dict[int, RangeReader], offset: int, length: int) -> bytes:
        """Return a part of a blob of the first place that can give it; `readers` keeps what was opened."""

        def ask(index: int) -> bytes:
            if index not in readers:
                readers[index] = self._places[index].source.ranges(blob)
            return readers[index].read_at(offset, length)

        return self._first(blob.digest, ask)[1]

    def move_on(self, index: int, blob: Descriptor, offset: int, error: LadingError) -> tuple[int, ByteReader]:
        """Return a reader of the next place after one broke off; raises its error where that is the origin.

        Where no other place can give the blob, a broken connection is the error: waiting may help, for it did give.
        """
        if index == self.last:
            self._begin_anew(blob.digest, error)
            raise error
        self._pass_over(index, blob.digest, error, lasting=False)
        try:
            return self.open_at(blob, offset)
        except NetworkError:
            raise
        except LadingError as other:
            if isinstance(error, NetworkError) and not isinstance(other, StoppedError):
                raise error from other
            raise

    def _first(self, subject: str, ask: Callable[[int], _T], *, lasting: bool = False) -> tuple[int, _T]:
        """Return the first place's answer, and its number. A failure is `lasting` where it is one of all that is asked."""
        for index in range(self.last):
            if self._is_out(index, subject):
                continue
            try:
                return index, ask(index)
            except (StoppedError, UsageError):
                raise
            except LadingError as error:
                self._pass_over(index, subject, error, lasting=lasting or not isinstance(error, _OF_ONE_BLOB))
        try:
            return self.last, ask(self.last)
        except (StoppedError, UsageError):
            raise
        except LadingError as error:
            self._begin_anew(subject, error)
            raise

    def _is_out(self, index: int, subject: str) -> bool:
        with self._lock:
            return (
                index in self._out or index in self._out_for.get(subject, ()) or index in self._liars.get(subject, ())
            )

    def _pass_over(self, index: int, subject: str, error: LadingError, *, lasting: bool) -> None:
        lie = isinstance(error, IntegrityError)
        with self._lock:
            if lasting:
                self._out.add(index)
            else:
                (self._liars if lie else self._out_for).setdefault(subject, set()).add(index)
        self._tell(index, error)

    def _tell(self, index: int, error: LadingError) -> None:
        with self._lock:
            known = (index, type(error)) in self._told
            self._told[index, type(error)] = None
        if not known:
            text = f"the mirror {self._places[index].name} is passed over: {error.message}"
            self._reporter.emit(Noted(text, warning=True))

    def _begin_anew(self, subject: str, error: LadingError) -> None:
        """Let the mirrors be asked again, and add a word on them to the origin's error."""
        with self._lock:
            self._out.clear()
            self._out_for.pop(subject, None)
            tried = sorted({index for index, _kind in self._told})
        word = f"registries.conf leads to {self._places[-1].name}"
        if tried:
            word = f"mirrors were asked first: {', '.join(self._places[index].name for index in tried)}"
        if word not in error.hint:
            error.hint = f"{error.hint}; {word}" if error.hint else word


_OF_ONE_BLOB = (NotFoundError, IntegrityError)


class _Stream(io.RawIOBase):
    """A blob from `offset` on, unverified; where a mirror breaks off, the next place goes on."""

    def __init__(self, source: Mirrored, blob: Descriptor, offset: int) -> None:
        self._source = source
        self._blob = blob
        self._offset = offset
        self._reader: ByteReader = io.BytesIO()
        self._index, reader = source.open_at(blob, offset)
        self._reader = self._accept(reader)

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` from its start and return the number of bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        while True:
            try:
                count = self._reader.readinto(view)
                early = not count and len(view) and self._offset < self._blob.size
                if early and self._index != self._source.last:
                    msg = f"blob {self._blob.digest.short} ended after {self._offset} of {self._blob.size} bytes"
                    raise NetworkError(msg, hint="try again")
            except NetworkError as error:
                self._move_on(error)
            else:
                self._offset += count
                return count

    def close(self) -> None:
        """Release the connection."""
        if not self.closed:
            self._reader.close()
        super().close()

    def _accept(self, reader: ByteReader) -> ByteReader:
        return reader.unverified() if isinstance(reader, VerifyingReader) else reader

    def _move_on(self, error: LadingError) -> None:
        self._reader.close()
        self._index, reader = self._source.move_on(self._index, self._blob, self._offset, error)
        self._reader = self._accept(reader)


class _Whole(_Stream):
    """A small blob, of the first place that gives all of it and right."""

    _data: io.BytesIO | None = None

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` from its start and return the number of bytes; 0 at the end."""
        while self._data is None:
            try:
                self._data = io.BytesIO(b"".join(iter(lambda: self._reader.read(self._blob.size + 1) or b"", b"")))
            except (NetworkError, IntegrityError) as error:
                self._move_on(error)
        return self._data.readinto(buffer)

    def _accept(self, reader: ByteReader) -> ByteReader:
        return reader


class _Ranges:
    """A RangeReader over a blob of several places."""

    def __init__(self, source: Mirrored, blob: Descriptor) -> None:
        self._source = source
        self._blob = blob
        self._readers: dict[int, RangeReader] = {}

    @property
    def name(self) -> str:
        """What messages call the blob."""
        return f"blob {self._blob.digest.short}"

    @property
    def size(self) -> int:
        """The size that the manifest says."""
        return self._blob.size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the blob ends."""
        return self._source.read_at(self._blob, self._readers, offset, length)

    def close(self) -> None:
        """Close what was opened; harmless when repeated."""
        for reader in self._readers.values():
            reader.close()
