"""The stretch of a blob that several connections fetch at once: in segments that come in any order and leave in theirs."""

from __future__ import annotations

import mmap
from collections import deque
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_REMEMBERED = 8
_OVERDUE = 2.0
_GRACE = 0.2
_RACERS = 2


class Segment:
    """Bytes [start, end) of a blob, of which those before `position` are here; `racers` fetch the rest."""

    __slots__ = ("begun", "data", "end", "position", "racers", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = self.position = start
        self.end = end
        # A mapping goes back to the system at once, where the heap would keep it.
        self.data = mmap.mmap(-1, end - start)
        self.racers = 0
        self.begun = 0.0

    @property
    def whole(self) -> bool:
        """Say whether all of it is here."""
        return self.position == self.end


class Window:
    """The segments between what was handed out and what nobody fetches yet, for one thread at a time.

    `taken` is where that begins, `came` counts bytes that were new. `rate`, in bytes per second, is what one
    connection brought so far: a segment is overdue that takes much longer than others of late.
    """

    def __init__(self, begin: int, end: int, rate: float) -> None:
        self.taken = begin
        self.end = end
        self.came = 0
        self._given = begin
        self._segments: deque[Segment] = deque()
        self._paces = deque([1 / rate], maxlen=_REMEMBERED)

    @property
    def spent(self) -> bool:
        """Say whether all was handed out."""
        return self._given == self.end

    @property
    def all_here(self) -> bool:
        """Say whether nothing is left to be fetched."""
        return self.taken == self.end and all(segment.whole for segment in self._segments)

    def take(self, length: int, limit: int, now: float) -> Segment | None:
        """Return what to fetch next, if anything is.

        That is what another gave up, the next `length` bytes if they end before `limit`, or the segment that all
        others wait for, where it is overdue.
        """
        waited_for = self._waited_for()
        left = next((segment for segment in self._segments if not (segment.whole or segment.racers)), None)
        end = min(self.taken + length, self.end)
        if left is None and self.taken < end <= limit:
            left = Segment(self.taken, end)
            self._segments.append(left)
            self.taken = end
        if left is None and waited_for and waited_for.racers < _RACERS and self.overdue(now):
            left = waited_for
        if left is not None:
            left.racers += 1
            left.begun = now
        return left

    def put(self, segment: Segment, offset: int, data: ReadableBuffer, now: float) -> None:
        """Take bytes that a racer brought of a segment; of several that bring the same the first counts."""
        view = memoryview(data)
        new = offset + len(view) - segment.position
        if new <= 0:
            return
        at = segment.position - segment.start
        segment.data[at : at + new] = view[len(view) - new :]
        segment.position += new
        self.came += new
        if segment.whole:
            self._paces.append((now - segment.begun) / (segment.end - segment.start))

    def read(self, buffer: memoryview) -> int:
        """Fill the buffer with what comes next and return the number of bytes; 0 when it is not here yet."""
        if not self._segments:
            return 0
        head = self._segments[0]
        count = min(len(buffer), head.position - self._given)
        at = self._given - head.start
        buffer[:count] = memoryview(head.data)[at : at + count]
        self._given += count
        if self._given == head.end:
            self._segments.popleft()
        return count

    def close(self) -> None:
        """Take no more segments: the window ends where the last one does."""
        self.end = self.taken

    def overdue(self, now: float) -> bool:
        """Say whether the segment that all others wait for takes much longer than such a segment usually does."""
        segment = self._waited_for()
        if segment is None:
            return False
        usual = median(self._paces) * (segment.end - segment.start)
        return now - segment.begun > _OVERDUE * usual + _GRACE

    def _waited_for(self) -> Segment | None:
        return next((segment for segment in self._segments if not segment.whole), None)
