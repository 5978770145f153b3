"""Random access to a local file or to bytes at hand: the RangeReaders that need no transport."""

from __future__ import annotations

import os
import stat

from lading.errors import FormatError, LadingError


class FileRanges:
    """A RangeReader over an open file descriptor, which it owns from then on and closes.

    `size` is what the opener saw, None takes the present one; a file that has shrunk since yields fewer bytes, which
    header readers notice.
    Raises FormatError if the descriptor is not of a regular file: a FIFO or device has no size to trust.
    """

    __slots__ = ("_descriptor", "name", "size")

    def __init__(self, descriptor: int, name: str, size: int | None = None) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            msg = f"{name} is not a regular file"
            raise FormatError(msg, hint="devices, pipes, sockets and folders are not read as models")
        self._descriptor = descriptor
        self.name = name
        self.size = status.st_size if size is None else size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the file ends. Raises LadingError on a disk error."""
        left = max(0, min(length, self.size - offset))
        parts = []
        while left:
            try:
                part = os.pread(self._descriptor, left, offset)
            except OSError as error:
                msg = f"cannot read {self.name}: {error.strerror}"
                raise LadingError(msg) from error
            if not part:
                break
            parts.append(part)
            offset += len(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the descriptor; harmless when repeated."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class BytesRanges:
    """A RangeReader over bytes at hand."""

    __slots__ = ("_data", "name", "size")

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self.name = name
        self.size = len(data)

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the bytes end."""
        return self._data[offset : offset + length]

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
