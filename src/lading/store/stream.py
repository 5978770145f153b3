"""A blob's bytes from a source, taken up again where the stream breaks."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.digest import VerifyingReader
from lading.errors import IntegrityError, LadingError, NetworkError
from lading.pace import Paced
from lading.store.lanes import Gauge, Lanes, spread

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, Progress, Source
    from lading.fs import Partial
    from lading.manifest import Descriptor

_NAP = 0.1
_UNSPREAD = 10.0
"""Seconds until connections are added again that went; twice as long each time."""


@dataclass(frozen=True, slots=True)
class Endurance:
    """How long a stream is held on to that brings nothing: what counts is lack of progress, not the number of breaks.

    `tries` are openings in a row without a new byte. Before each, the wait doubles from `first` to `longest` seconds,
    half of it by chance. A stream that brings less than `least` bytes in `window` seconds counts as broken, and
    after `slow` such windows in a row as hopeless, however often it broke meanwhile.
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
    for as long as `ENDURANCE` says. Where one connection is slow and the bytes go into a `partial`, more are added. `progress` is called while it waits, and may raise to give up. `broke` says whether the bytes
    are of more than one opening, `refused` whether the source would not go on in mid-blob, which raises IntegrityError.
    """

    def __init__(
        self, source: Source, blob: Descriptor, offset: int, progress: Progress, partial: Partial | None = None
    ) -> None:
        # It is paced here: a wait for the turn is none for the source, and nothing stands between it and its reader.
        self._pace = source.pace if isinstance(source, Paced) else None
        self._source = source.inner if isinstance(source, Paced) else source
        self._blob = blob
        self._offset = offset
        self._progress = progress
        self._partial = partial
        self._reader: ByteReader | None = None
        self._failed = 0
        self._slow = 0
        self._window = (0.0, offset)
        self._gauge = Gauge()
        self._lanes: Lanes | None = None
        self._unspread = _UNSPREAD
        self._spread_at = 0.0
        self.broke = False
        self.refused = False

    def open(self) -> None:
        """Open the stream now, that its failure is known, instead of at the first read."""
        self._opened()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if self._pace is not None:
            view = view[: self._pace.step]
        while True:
            try:
                count = self._read(view)
            except NetworkError as error:
                if self._reader is not None and self._offset >= self._blob.size:
                    # All that was promised has come: it broke where one more byte would have proved a longer body.
                    return 0
                self._endure(error)
                continue
            self._offset += count
            if count:
                self._failed = 0
                self._keep_pace(count)
                self._watch_rate()
            return count

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; b"" at the end."""
        buffer = bytearray(size if size >= 0 else self._blob.size - self._offset + 1)
        return bytes(buffer[: self.readinto(buffer)])

    def close(self) -> None:
        """Release the stream and all its connections; harmless when repeated."""
        self._close_reader()
        lanes, self._lanes = self._lanes, None
        if lanes is not None:
            lanes.close()

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _read(self, view: memoryview) -> int:
        if self._lanes is not None:
            if self._offset >= self._lanes.begin and self._join(self._lanes):
                count = self._lanes.readinto(view, self._wait)
                if count or self._offset >= self._blob.size:
                    return count
                self._leave(self._lanes)
            elif not self._lanes.alive:
                self._leave(self._lanes)
            else:
                view = view[: self._lanes.begin - self._offset]
        reader = self._opened()
        asked = time.monotonic()
        count = reader.readinto(view)
        came = time.monotonic()
        rate = self._gauge.note(asked, came, count)
        if rate and self._lanes is None and self._partial is not None and came >= self._spread_at:
            self._lanes = spread(self._source, self._blob, self._offset + count, rate, self._partial)
        return count

    def _wait(self) -> None:
        self._progress(self._offset)

    def _join(self, lanes: Lanes) -> bool:
        """Go over to the added connections once they have shown that they bring something."""
        if not lanes.joined and lanes.proven(self._wait):
            self._close_reader()
            self.broke = True
            lanes.join()
        return lanes.joined

    def _leave(self, lanes: Lanes) -> None:
        lanes.close()
        self._lanes = None
        self._gauge = Gauge()
        self._spread_at = time.monotonic() + self._unspread
        self._unspread *= 2

    def _opened(self) -> ByteReader:
        if self._reader is None:
            reader = self._ask()
            self._reader = reader.unverified() if isinstance(reader, VerifyingReader) else reader
            if not self._window[0]:
                self._window = (time.monotonic(), self._offset)
        return self._reader

    def _ask(self) -> ByteReader:
        try:
            return self._source.open(self._blob, self._offset)
        except LadingError as error:
            # Another part than was asked for, 416, 400 and the like: a whole blob it may send all the same.
            self.refused = self._offset > 0 and (isinstance(error, IntegrityError) or type(error) is LadingError)
            if not self.refused or isinstance(error, IntegrityError):
                raise
            raise IntegrityError(error.message, hint=error.hint) from error

    def _endure(self, error: LadingError) -> None:
        if self._reader is None and not self.broke:
            raise error
        self._close_reader()
        self._failed += 1
        if self._failed > ENDURANCE.tries:
            raise error
        self.broke = True
        deadline = time.monotonic() + ENDURANCE.wait(self._failed)
        while (left := deadline - time.monotonic()) > 0:
            self._wait()
            time.sleep(min(_NAP, left))

    def _keep_pace(self, count: int) -> None:
        if self._pace is not None:
            since, offset = self._window
            self._window = (since + self._pace.spend(count), offset)

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
