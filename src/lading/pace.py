"""A limit on bytes per second, shared by all streams that keep to it."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, RangeReader, Source
    from lading.manifest import Descriptor, Document

_SLICE = 0.1
_LEAST = 1024


class Pace:
    """A token bucket of `rate` bytes per second, for any number of threads; what was not used is not saved up."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._paid_until = 0.0
        self._lock = threading.Lock()

    @property
    def step(self) -> int:
        """Bytes to move at a time, so that the flow stays even and who waits can be stopped soon."""
        return max(_LEAST, int(self.rate * _SLICE))

    def spend(self, count: int) -> float:
        """Wait for as long as `count` bytes take at this pace, and return the seconds."""
        with self._lock:
            now = time.monotonic()
            self._paid_until = max(self._paid_until, now) + count / self.rate
            wait = self._paid_until - now
        time.sleep(wait)
        return wait

    def reader(self, inner: ByteReader) -> ByteReader:
        """Return a stream that comes at this pace."""
        return _PacedReader(inner, self)


@dataclass(frozen=True, slots=True)
class Paced:
    """A source whose blobs come at a pace; documents and ranges, which are small, come at once."""

    inner: Source
    pace: Pace

    def document(self, name: str, /) -> Document:
        """Return the manifest or index under a tag or digest."""
        return self.inner.document(name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a blob from `offset` on, verified as the source does it."""
        return self.pace.reader(self.inner.open(blob, offset))

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a blob."""
        return self.inner.ranges(blob)


class _PacedReader(io.RawIOBase):
    def __init__(self, inner: ByteReader, pace: Pace) -> None:
        self._inner = inner
        self._pace = pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        count = self._inner.readinto(memoryview(buffer).cast("B")[: self._pace.step])
        self._pace.spend(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()
