"""Random access to files on this machine."""

from __future__ import annotations

import os


class FileRanges:
    """A RangeReader over an open file, whose descriptor it owns."""

    __slots__ = ("_descriptor", "_name", "_size")

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._size = os.fstat(descriptor).st_size

    @property
    def name(self) -> str:
        """What messages call the file."""
        return self._name

    @property
    def size(self) -> int:
        """Its length in bytes when it was opened."""
        return self._size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the file ends."""
        data = os.pread(self._descriptor, length, offset)
        while len(data) < length and (more := os.pread(self._descriptor, length - len(data), offset + len(data))):
            data += more
        return data

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
