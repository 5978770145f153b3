"""Several connections on one blob, where each alone is slow: they fetch segments of a window and it puts them in order.

What they fetch lies at most `AHEAD` bytes beyond what is on the disk for certain: that much a death may cost.
Connections are added one at a time while they bring more, and go where they do not, or where the server refuses.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from lading import fs
from lading.content import Piecewise
from lading.errors import LadingError, NetworkError
from lading.store.connections import Shared
from lading.store.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.content import ByteReader, Source, Stoppable
    from lading.manifest import Descriptor
    from lading.store.connections import Connections
    from lading.store.window import Segment

AHEAD = 8 * 1024 * 1024
"""Bytes beyond what a death would leave that may have been fetched."""

LEAST = 16 * 1024 * 1024
"""Bytes; for less than this to come, no connection is added."""

FAST = 100e6
"""Bytes per second; what comes as fast as this costs less over one connection."""

SPELL = 1.0
"""Seconds that one stream is measured for before connections are added."""

STEP = 0.3
"""Seconds that each number of connections is measured for, after as long to get going."""

_WAITED_FOR = 0.7
_WORTH = 0.2
_TRIES = 3
_PAUSE = 4.0
_POLL = 0.005
_TOLD = 0.1
_JOINED = 1.0
_UNIT = 64 * 1024
_LONGEST = 2 * 1024 * 1024
_BLOCK = 256 * 1024
_ALIGNED = 1024 * 1024


class Gauge:
    """Tells how fast a stream comes, where it is what the receiver waits for."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._waited = 0.0
        self._bytes = 0

    def note(self, asked: float, came: float, count: int) -> float:
        """Hear of a read, by the monotonic clock; return bytes per second after each spell of a slow stream, else 0."""
        if not self._begun:
            self._begun = asked
        self._waited += came - asked
        self._bytes += count
        took = came - self._begun
        if took < SPELL:
            return 0.0
        rate, share = self._bytes / took, self._waited / took
        self._begun, self._waited, self._bytes = came, 0.0, 0
        return rate if share > _WAITED_FOR and rate < FAST else 0.0


def spread(source: Source, blob: Descriptor, offset: int, rate: float, partial: fs.Partial) -> Lanes | None:
    """Begin to fetch over one more connection what lies ahead of a stream that is at `offset`.

    None where that is no use: too little is left, the source has no pieces, or no connection is to spare.
    """
    begin = (offset // _ALIGNED + 1) * _ALIGNED
    if not isinstance(source, Shared) or blob.size - begin < LEAST:
        return None
    file = source.ranges(blob)
    if not isinstance(file, Piecewise) or not source.connections.borrow():
        file.close()
        return None
    partial.sync_finely()
    return Lanes(file, (begin, blob.size), source.connections, rate, lambda: partial.frontier)


class Lanes:
    """Connections that fetch a span of a blob, from its first byte to before its last, ahead of a stream and then in its stead.

    At first one borrowed connection shows that the server knows ranges; `join` adds the stream's own. `rate` is what
    that brought, in bytes per second; `kept` returns the bytes that are on the disk for certain.
    """

    def __init__(
        self, file: Piecewise, span: tuple[int, int], connections: Connections, rate: float, kept: Callable[[], int]
    ) -> None:
        self.begin = span[0]
        self.joined = False
        self._file = file
        self._connections = connections
        self._kept = kept
        self._window = Window(*span, rate)
        self._changed = threading.Condition()
        self._lanes: list[_Lane] = []
        self._threads: list[threading.Thread] = []
        self._borrowed = 1
        self._surplus = 0
        self._closed = False
        self._failure: BaseException | None = None
        self._trial: tuple[int, float] | None = (1, rate)
        self._pause = _PAUSE
        self._grow_at = 0.0
        self._judged = (0.0, 0)
        self._settling = True
        self._tries = 0
        self._start()

    @property
    def alive(self) -> bool:
        """Say whether any connection is left."""
        return bool(self._lanes)

    def proven(self, waiting: Callable[[], None]) -> bool:
        """Wait for the first bytes and return True, or False if there will be none. `waiting` may raise."""
        while True:
            with self._changed:
                if self._window.came or not self._lanes:
                    return bool(self._window.came)
                self._changed.wait(_TOLD)
            waiting()

    def join(self) -> None:
        """Add the connection of the stream, which is closed: from here on everything comes from here."""
        with self._changed:
            self.joined = True
            self._start()
            self._look(time.monotonic())

    def readinto(self, buffer: memoryview, waiting: Callable[[], None]) -> int:
        """Fill the buffer with what comes next and return the number of bytes; 0 when no more comes from here."""
        while True:
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                count = self._window.read(buffer)
                now = time.monotonic()
                self._judge(now)
                # The last one is alone when it stalls.
                stalled = len(self._lanes) == 1 and self._window.overdue(now)
                over = self._window.spent or not self._lanes or stalled
                if count or over:
                    self._changed.notify_all()
                    return count
                self._changed.wait(_TOLD)
            waiting()

    def close(self) -> None:
        """End all connections at once; harmless when repeated."""
        with self._changed:
            self._closed = True
            for lane in self._lanes:
                lane.stop()
            self._changed.notify_all()
        deadline = time.monotonic() + _JOINED
        for thread in self._threads:
            # One that waits for an answer's first byte cannot be woken: it gives up by itself, soon.
            thread.join(max(0.0, deadline - time.monotonic()))
        self._file.close()

    def _judge(self, now: float) -> None:
        """Add a connection, or have the last one go where it did not bring its part."""
        since, came = self._judged
        if not self.joined or self._closed or now - since < STEP:
            return
        rate, count = (self._window.came - came) / (now - since), len(self._lanes)
        silent = not all(lane.heard for lane in self._lanes)
        settling, self._settling = self._settling, silent
        self._look(now)
        if silent or settling:
            # One that stalls, and those who have nothing to do until it is replaced, say nothing of their number.
            return
        if self._trial is not None and not self._passes(count, rate, now):
            return
        if now >= self._grow_at and self._connections.borrow():
            self._borrowed += 1
            self._trial = (count, rate)
            self._settling = True
            self._start()

    def _passes(self, count: int, rate: float, now: float) -> bool:
        """Say whether the trial of one more connection is over: it did its part once, or not once in `_TRIES` steps."""
        before, slower = self._trial or (count, rate)
        self._tries += 1
        lacking = count > before and rate < slower * (1 + _WORTH / before)
        if lacking and self._tries < _TRIES:
            return False
        self._trial, self._tries = None, 0
        if lacking:
            self._surplus += 1
            self._rest(now)
        return True

    def _look(self, now: float) -> None:
        self._judged = (now, self._window.came)
        for lane in self._lanes:
            lane.heard = False

    def _rest(self, now: float) -> None:
        self._grow_at = now + self._pause
        self._pause *= 2

    def _start(self) -> None:
        lane = _Lane()
        thread = threading.Thread(target=self._run, args=(lane,), daemon=True)
        self._lanes.append(lane)
        self._threads.append(thread)
        thread.start()

    def _run(self, lane: _Lane) -> None:
        room = memoryview(bytearray(_BLOCK))
        try:
            while (segment := self._next(lane)) is not None:
                self._fetch(lane, segment, room)
        except LadingError:
            # Refused, or broken off without a byte: the others do its part, and the stream where none is left.
            with self._changed:
                self._rest(time.monotonic())
        except BaseException as failure:  # noqa: BLE001 - raised where the bytes are read
            self._failure = failure
        finally:
            with self._changed:
                self._lanes.remove(lane)
                if self._borrowed:
                    self._borrowed -= 1
                    self._connections.give_back()
                if self.joined and len(self._lanes) == 1:
                    # One alone is better off as a stream.
                    self._window.close()
                self._changed.notify_all()

    def _next(self, lane: _Lane) -> Segment | None:
        with self._changed:
            while not (self._closed or self._window.all_here or self._may_go(lane)):
                segment = self._window.take(self._length(), self._kept() + AHEAD, time.monotonic())
                if segment is not None:
                    lane.segment, lane.offset = segment, segment.position
                    return segment
                # The disk does not say when it has more.
                self._changed.wait(_POLL)
            return None

    def _length(self) -> int:
        # Room for all beside what waits for the disk; and for one at least before that is synced finely.
        return min(_LONGEST, (AHEAD - fs.SYNCED_FINELY) // len(self._lanes) // _UNIT * _UNIT)

    def _may_go(self, lane: _Lane) -> bool:
        """Say whether a lane is to end: another blob waits, or it is one too many and no other stalls."""
        if not self._borrowed or len(self._lanes) == 1:
            return False
        if self._surplus and all(other.heard for other in self._lanes if other is not lane):
            self._surplus -= 1
            return True
        return self._connections.wanted

    def _fetch(self, lane: _Lane, segment: Segment, room: memoryview) -> None:
        begun = lane.offset
        try:
            lane.reader = reader = self._file.stream(begun, segment.end - begun)
            while not (segment.whole or self._closed):
                count = reader.readinto(room[: segment.end - lane.offset])
                if not count:
                    msg = f"the answer ended {segment.end - lane.offset} bytes early"
                    raise NetworkError(msg)
                self._put(lane, segment, room[:count])
        except LadingError:
            if lane.offset == begun and not (segment.whole or self._closed):
                raise
        finally:
            with self._changed:
                closing: ByteReader | None = lane.reader
                lane.reader = lane.segment = None
                segment.racers -= 1
                self._changed.notify_all()
            if closing is not None:
                closing.close()

    def _put(self, lane: _Lane, segment: Segment, data: memoryview) -> None:
        with self._changed:
            self._window.put(segment, lane.offset, data, time.monotonic())
            lane.offset += len(data)
            lane.heard = True
            if segment.whole:
                for other in self._lanes:
                    if other is not lane and other.segment is segment:
                        other.stop()
            self._changed.notify_all()


class _Lane:
    """What one thread is at: a segment, where in the blob it is, and the connection's answer once it is there.

    `heard` says whether it brought anything since somebody looked.
    """

    __slots__ = ("heard", "offset", "reader", "segment")

    def __init__(self) -> None:
        self.heard = False
        self.offset = 0
        self.reader: Stoppable | None = None
        self.segment: Segment | None = None

    def stop(self) -> None:
        if self.reader is not None:
            self.reader.abort()
