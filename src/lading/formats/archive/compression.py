"""Compressed streams: gzip (RFC 1952) and zstd (RFC 8878), opened in bounded memory and to a bounded length."""

from __future__ import annotations

import io
import sys
import zlib
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Protocol

from lading.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

    from lading.content import ByteReader

MAX_RATIO = 200
"""Bytes that one compressed byte may become; weights become fewer than two, text ten."""

FREE = 64 * 1024 * 1024
"""Bytes that a stream may become whatever its length."""

MAX_LENGTH = 8 * 1024**4
"""Bytes that any stream may become."""

_MAX_WINDOW = 27  # as a power of two, in bytes: what decoders must bear (RFC 8878, 3.1.1.1.2, "--ultra" apart)
# Small, since what a member leaves unused is copied at its end, and a hostile stream has many short ones.
_INPUT = 64 * 1024
_OUTPUT = 256 * 1024


class Compression(StrEnum):
    """How an archive is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class _Decoder(Protocol):
    """One member of a gzip stream, or one frame of zstd."""

    @property
    def eof(self) -> bool:
        """Say whether it has come to its end."""

    @property
    def needs_input(self) -> bool:
        """Say whether nothing more comes of what it was given."""

    @property
    def unused_data(self) -> bytes:
        """Return what it was given beyond its end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take bytes and return what has become of them, up to `max_length`; raises an error of the library's own."""


class _Gzip:
    __slots__ = ("_inner", "needs_input")

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.needs_input = len(out) < max_length and not self._inner.unconsumed_tail
        return out


def decompressed(reader: ByteReader, compression: Compression, name: str) -> ByteReader:
    """Return the stream that a compressed one stands for; closing it closes `reader`.

    Reading it raises FormatError, naming it, for what is not in the format, breaks off, becomes out of all
    proportion or goes on with something else.
    """
    return reader if compression is Compression.NONE else _Decompressed(reader, compression, name)


class _Decompressed(io.RawIOBase):
    def __init__(self, inner: ByteReader, compression: Compression, name: str) -> None:
        self._inner = inner
        self._name = name
        self._compression = compression
        self._new, self._failure = _gzip() if compression is Compression.GZIP else _zstd()
        self._decoder = self._new()
        self._begun = False
        self._ended = False
        self._taken = 0
        self._given = 0
        self._input = b""
        self._output = memoryview(b"")

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if not self._output and len(view):
            self._output = memoryview(self._next(max(len(view), _OUTPUT)))
        count = min(len(view), len(self._output))
        view[:count] = self._output[:count]
        self._output = self._output[count:]
        return count

    def _next(self, length: int) -> bytes:
        """Return the next bytes, up to `length`; none at an orderly end."""
        while True:
            if self._decoder.eof:
                self._input = self._decoder.unused_data
                self._decoder = self._new()
                self._begun = False
            if not self._input and self._decoder.needs_input and not self._fill():
                return b""
            data, self._input = self._input, b""
            self._begun = True
            try:
                out = self._decoder.decompress(data, length)
            except self._failure as error:
                msg = f"{self._name} is no {self._compression} stream, or damaged"
                raise FormatError(msg, hint=f"the library says: {error}") from error
            if out:
                self._count(len(out))
                return out

    def _fill(self) -> bool:
        """Read more; False at an orderly end."""
        self._input = b"" if self._ended else self._inner.read(_INPUT) or b""
        self._taken += len(self._input)
        if not self._input:
            self._ended = True
            if self._begun or not self._taken:
                msg = f"{self._name} is cut off: its {self._compression} stream has no end"
                raise FormatError(msg, hint="the archive is damaged or malformed")
        return bool(self._input)

    def _count(self, length: int) -> None:
        self._given += length
        if self._given > max(FREE, MAX_RATIO * self._taken) or self._given > MAX_LENGTH:
            msg = f"{self._name} becomes more than {self._given:,} bytes of {self._taken:,} compressed ones"
            raise FormatError(msg, hint="no honest model does; it was not read to its end")

    def close(self) -> None:
        """Close the compressed stream too."""
        if not self.closed:
            self._inner.close()
        super().close()


def _gzip() -> tuple[Callable[[], _Decoder], type[Exception]]:
    return _Gzip, zlib.error


def _zstd() -> tuple[Callable[[], _Decoder], type[Exception]]:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - few archives need it
    else:
        from backports import zstd  # noqa: PLC0415 - as above

    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW}
    return partial(zstd.ZstdDecompressor, options=options), zstd.ZstdError
