"""Reading a header over a network in few requests: what is to come is foreseen, what another file had is not read again.

Most of a GGUF header is its vocabulary, and nothing in it says where that ends. It is guessed from the strings seen so
far. The quantizations of one model have the same vocabulary at the same place: once one was read, the others are read
up to theirs and from its end on, if the same key stands there.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.content import RangeReader
    from lading.formats.gguf import GgufHeader

_FIRST = 512 * 1024
_STEP = 512 * 1024
_MOST = 16 * 1024 * 1024
_KEPT = 24 * 1024 * 1024
_LONG = 64 * 1024
_MANY = 4096
_BEFORE = 64
_AFTER = 8 + 16
_SCALAR = 4
_WITH_MERGES = b"\x04\x00\x00\x00\x00\x00\x00\x00gpt2"


class Vocabulary(NamedTuple):
    """The part of a header that quantizations of one model share: from its first long array of strings to its last.

    It reaches from `start` to `end`; `before` and `after` are the bytes around it, `between` those from one array to the
    next, with their offsets. `arrays` are the long ones, as offset, number of strings and bytes.
    """

    start: int
    end: int
    before: bytes
    after: bytes
    between: tuple[tuple[int, bytes], ...]
    arrays: tuple[tuple[int, int, int], ...]


class Ahead:
    """A reader for headers of a remote file, for one thread. `like` is the vocabulary that it probably has.

    `read_at` returns what is at hand of what is asked for, and reads only where nothing is.
    """

    def __init__(self, inner: RangeReader, like: Vocabulary | None = None) -> None:
        self._inner = inner
        self._like = like
        self._pieces: list[tuple[int, bytes]] = []
        self._shift: int | None = None
        self._until = min(like.start + _LONG, _FIRST) if like else _FIRST
        self._held = 0
        self._arrays = 0
        self._token = 0.0

    @property
    def name(self) -> str:
        """What messages call the file."""
        return self._inner.name

    @property
    def size(self) -> int:
        """The file's whole size in bytes."""
        return self._inner.size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return up to `length` bytes from `offset` on, b"" only where the file ends."""
        for start, data in reversed(self._pieces):
            if start <= offset < start + len(data):
                return data[offset - start : offset - start + length]
        if offset >= self.size or length <= 0:
            return b""
        end = max(self._until, offset + _STEP) if self._pieces else self._until
        return self._fetch(offset, min(max(end - offset, 1), _MOST))[:length]

    def close(self) -> None:
        """Close the file."""
        self._pieces.clear()
        self._inner.close()

    def known(self, offset: int, count: int, /) -> int | None:
        """Return the bytes of an array of strings that the vocabulary expected here has."""
        self._arrays += count > _MANY
        like = self._like
        if like is None:
            return None
        if self._shift is None and not self._matches(like, offset, count):
            self._like = None
            return None
        shift = self._shift or 0
        sizes = (size for start, strings, size in like.arrays if (start + shift, strings) == (offset, count))
        return next(sizes, None)

    def foresee(self, offset: int, count: int, mean: float, /) -> None:
        """Plan to read the rest of an array, and what commonly follows the tokens: a number for each, and merges."""
        if self._arrays == 1:
            # Merges are what tokens were made of: nearly as many, each a byte longer.
            self._token = mean
            merges = count * (mean + 1) if self._has_merges() else 0
            more = count * _SCALAR + merges
        else:
            mean, more = max(mean, self._token + 1) if self._arrays else mean, 0
        self._until = offset + int(count * mean + more) + _STEP

    def vocabulary(self, header: GgufHeader) -> Vocabulary | None:
        """Return what another quantization of the model will have in common; None if nothing long, or it is not held."""
        arrays = tuple(
            (ref.offset, ref.length, ref.size)
            for ref in header.metadata.values()
            if not isinstance(ref, int | float | str) and ref.type == "STRING" and ref.size > _LONG
        )
        if not arrays:
            return None
        start, end = arrays[0][0], arrays[-1][0] + arrays[-1][2]
        before, after = self._whole(start - _BEFORE, start), self._whole(end, end + _AFTER)
        if not before or not after:
            return None
        between = [
            piece
            for (offset, _, size), (following, _, _) in pairwise(arrays)
            for piece in self._held_between(offset + size, following)
        ]
        return Vocabulary(start, end, before, after, tuple(between), arrays)

    def _held_between(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        for offset, data in self._pieces:
            if held := data[max(0, start - offset) : max(0, end - offset)]:
                yield max(start, offset), held

    def _matches(self, like: Vocabulary, offset: int, count: int) -> bool:
        shift = offset - like.start
        landing = like.end + shift
        if like.arrays[0][1] != count or landing >= self.size or self._whole(offset - _BEFORE, offset) != like.before:
            return False
        if not self._fetch(landing, _STEP).startswith(like.after):
            return False
        self._shift = shift
        self._pieces += [(start + shift, data) for start, data in like.between]
        return True

    def _fetch(self, offset: int, length: int) -> bytes:
        data = self._inner.read_at(offset, length)
        self._pieces.append((offset, data))
        self._held += len(data)
        while self._held > _KEPT and len(self._pieces) > 1:
            self._held -= len(self._pieces.pop(0)[1])
        return data

    def _whole(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end` if they are at hand in one piece, else nothing."""
        return next(
            (raw[start - at : end - at] for at, raw in self._pieces if at <= start and end <= at + len(raw)), b""
        )

    def _has_merges(self) -> bool:
        return any(_WITH_MERGES in raw for _, raw in self._pieces[:1])
