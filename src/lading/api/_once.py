"""A remote source of which no byte at a blob's ends is asked for twice: archives are listed, then a file in them read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lading.content import ByteReader, RangeReader, Source
    from lading.digest import Digest
    from lading.manifest import Descriptor, Document

_FIRST = 512 * 1024
_ENOUGH = 64 * 1024


class Once:
    """A Source whose ranges of a blob share what was read of it, however many manifests name it."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self._heads: dict[Digest, _Head] = {}
        self._lock = threading.Lock()

    def document(self, name: str, /) -> Document:
        """Return the manifest or index under a tag or digest."""
        return self._inner.document(name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a blob."""
        return self._inner.open(blob, offset)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a blob; a read may return less than it was asked for, though never nothing."""
        with self._lock:
            if blob.digest not in self._heads:
                self._heads[blob.digest] = _Head(self._inner.ranges(blob))
            return self._heads[blob.digest]


class _Head:
    """A RangeReader that keeps a file's beginning and its last bytes; who reads it closes nothing, for it is shared."""

    def __init__(self, inner: RangeReader) -> None:
        self._inner = inner
        self._held = b""
        self._ends: dict[tuple[int, int], bytes] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def size(self) -> int:
        return self._inner.size

    def read_at(self, offset: int, length: int, /) -> bytes:
        with self._lock:
            return self._read_at(offset, length)

    def _read_at(self, offset: int, length: int) -> bytes:
        if not self._held and offset < _FIRST:
            self._held = self._inner.read_at(0, max(_FIRST, offset + length))
        held = self._held[offset : offset + length]
        if len(held) == length or len(held) >= _ENOUGH or offset + len(held) >= self.size:
            return held
        rest = (offset + len(held), length - len(held))
        if offset + length < self.size:
            return held + self._inner.read_at(*rest)
        # Where an archive ends is looked at for each manifest that names it.
        if rest not in self._ends:
            self._ends[rest] = self._inner.read_at(*rest)
        return held + self._ends[rest]

    def close(self) -> None:
        """Leave it open: another reader of the same blob may follow."""
