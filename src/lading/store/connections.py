"""How many connections a copy may have: one for each blob on its way, the rest for those that can use more."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lading.content import ByteReader, RangeReader, Source
    from lading.manifest import Descriptor, Document

_LOOKED = 0.05


class Connections:
    """At most `most` connections at a time, for any number of threads. A blob that waits for its first comes before others."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = most
        self._waiting = 0
        self._changed = threading.Condition()

    @contextmanager
    def one(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a connection for a blob during the block; `waiting` is called while none is free, and may raise."""
        with self._changed:
            self._waiting += 1
        try:
            while not self._take():
                waiting()
        finally:
            with self._changed:
                self._waiting -= 1
        try:
            yield
        finally:
            self.give_back()

    def borrow(self) -> bool:
        """Take one more where one is free and no blob waits; False where not. To be given back."""
        with self._changed:
            if self._waiting or not self._free:
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        """Return what was taken."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    @property
    def wanted(self) -> bool:
        """Say whether a blob waits for its first connection: what was borrowed should go back soon."""
        return bool(self._waiting) and not self._free

    def _take(self) -> bool:
        with self._changed:
            if not self._free and not self._changed.wait(_LOOKED):
                return False
            if not self._free:
                return False
            self._free -= 1
            return True


@dataclass(frozen=True, slots=True)
class Shared:
    """A source of whose blobs each may be read over several connections, as many as are left."""

    inner: Source
    connections: Connections

    def document(self, name: str, /) -> Document:
        """Return the manifest or index under a tag or digest."""
        return self.inner.document(name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a blob from `offset` on, verified as the source does it."""
        return self.inner.open(blob, offset)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a blob."""
        return self.inner.ranges(blob)
