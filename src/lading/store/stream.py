"""A blob's bytes from a source, taken up again where the stream breaks."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.digest import VerifyingReader
from lading.errors import LadingError, NetworkError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, Progress, Source
    from lading.manifest import Descriptor

_NAP = 0.1


@dataclass(frozen=True, slots=True)
class Endurance:
    """How long a stream is held on to that brings nothing: what counts is lack of progress, not the number of breaks.

    `tries` are openings in a row without a new byte. Before each, the wait doubles from `first` to `longest` seconds,
    half of it by chance. A stream that brings less than `least` bytes in `window` seconds counts as broken, and
    after `slow` such windows in a row as hopeless.
    """

    tries: int = 6
    first: float = 0.5
    longest: float = 15.0
    window: float = 30.0
    least: int = 32 * 1024
    slow: int = 4

    def wait(self, failed: int) -> float:
        """Return the wait after the `failed`-th failure in a row (from 1)."""
        full: float = min(self.longest, self.first * 2 ** (failed - 1))
        return full * (0.5 + random.random() / 2)  # noqa: S311 - spreads clients over time, guards nothing


ENDURANCE = Endurance()


class LastingStream:
    """A ByteReader over a blob from `offset` on, unverified: who receives it verifies.

    The first opening's failure is the caller's; after that a NetworkError only leaves here when nothing new comes
    for as long as `ENDURANCE` says. `progress` is called while it waits, and may raise to give up. `broke` says
    whether the bytes are of more than one opening.
    """

    def __init__(self, source: Source, blob: Descriptor, offset: int, progress: Progress) -> None:
        self._source = source
        self._blob = blob
        self._offset = offset
        self._progress = progress
        self._reader: ByteReader | None = None
        self._failed = 0
        self._slow = 0
        self._window = (0.0, offset)
        self.broke = False

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""
        while True:
            try:
                count = self._opened().readinto(buffer)
            except NetworkError as error:
                if self._reader is not None and self._offset >= self._blob.size:
                    # All that was promised has come: it broke where one more byte would have proved a longer body.
                    return 0
                self._endure(error)
                continue
            self._offset += count
            if count:
                self._failed = 0
                self._watch_rate()
            return count

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; b"" at the end."""
        buffer = bytearray(size if size >= 0 else self._blob.size - self._offset + 1)
        return bytes(buffer[: self.readinto(buffer)])

    def close(self) -> None:
        """Release the stream; harmless when repeated."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _opened(self) -> ByteReader:
        if self._reader is None:
            reader = self._source.open(self._blob, self._offset)
            self._reader = reader.unverified() if isinstance(reader, VerifyingReader) else reader
            self._window = (time.monotonic(), self._offset)
        return self._reader

    def _endure(self, error: LadingError) -> None:
        if self._reader is None and not self.broke:
            raise error
        self.close()
        self._failed += 1
        if self._failed > ENDURANCE.tries:
            raise error
        self.broke = True
        deadline = time.monotonic() + ENDURANCE.wait(self._failed)
        while (left := deadline - time.monotonic()) > 0:
            self._progress(self._offset)
            time.sleep(min(_NAP, left))

    def _watch_rate(self) -> None:
        since, offset = self._window
        now = time.monotonic()
        if now - since < ENDURANCE.window or self._offset == self._blob.size:
            return
        self._window = (now, self._offset)
        if self._offset - offset >= ENDURANCE.least:
            self._slow = 0
            return
        self._slow += 1
        if self._slow >= ENDURANCE.slow:
            msg = (
                f"blob {self._blob.digest.short} comes too slowly: {self._offset - offset} bytes in {now - since:.0f} s"
            )
            raise NetworkError(msg, hint="try again later; what came is kept")
        self.close()
        self.broke = True
