"""What a runtime wrote, and which lines of it say why it failed."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.fs import open_regular, os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TAIL = 64 * 1024
_POLL_SECONDS = 0.1
_MOST_LINES = 3
_LONGEST_LINE = 300
# llama.cpp writes `minutes.seconds.ms.us LEVEL origin: text`; older builds write the text only.
_PREFIX = re.compile(r"^(?:\d+\.\d\d\.\d{3}\.\d{3} (?P<level>[DIWE]) )?(?:\w+ +)?(?P<text>.*)$")
_SAYS_LITTLE = re.compile(
    r"failed to load model|exiting due to|failed to init server|fit params to free device memory|failed to read header"
    r"|cleaning up before exit",
    re.IGNORECASE,
)
_SAYS_WHY = re.compile(r"error loading model|unknown|not supported|unable to|out of memory", re.IGNORECASE)
_SAYS_FAILURE = re.compile(
    r"error|fail|unable|invalid|cannot|couldn't|abort|terminate|unknown|Traceback", re.IGNORECASE
)

_HEAD = 1024 * 1024
_MEBIBYTE = 1024 * 1024
_LOADING = "loaded meta data with"
_BUFFER = re.compile(r": +\S+ +(model|KV|RS|output|compute) buffer size = +([0-9]{1,9}\.[0-9]+) MiB")


def head(descriptor: int) -> str:
    """Return the first MiB of an open log: loading a model is told there."""
    return os.pread(descriptor, _HEAD, 0).decode("utf-8", "replace")


def tail(descriptor: int) -> str:
    """Return the last 64 KiB of an open log."""
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace")


def reasons(text: str) -> tuple[str, ...]:
    """Return the last lines of a log, three at most, that tell why the runtime failed."""
    rows = [match.groupdict() for line in text.splitlines() if (match := _PREFIX.match(line.strip()))]
    said = [(row["level"], row["text"].strip()[:_LONGEST_LINE]) for row in rows if row["text"].strip()]
    failures = [line for level, line in said if level == "E" or (level is None and _SAYS_FAILURE.search(line))]
    # A model that cannot be read is told five times over; the line with the cause says enough.
    telling = [line for line in failures if not _SAYS_LITTLE.search(line) or _SAYS_WHY.search(line)]
    for lines in (telling, failures, [line for _, line in said]):
        if lines:
            return tuple(dict.fromkeys(reversed(lines)))[:_MOST_LINES][::-1]
    return ()


def read(path: Path, alive: Callable[[], bool] | None = None) -> Iterator[bytes]:
    """Yield a log's bytes; with `alive`, go on as it grows until that turns false.

    A log that was begun anew by another server is read from its start.
    """
    descriptor = open_regular(path)
    try:
        offset = 0
        while True:
            running = alive is not None and alive()
            with os_errors(path):
                if os.fstat(descriptor).st_size < offset:
                    offset = 0
                piece = os.pread(descriptor, _TAIL, offset)
            offset += len(piece)
            if piece:
                yield piece
            elif not running:
                return
            else:
                time.sleep(_POLL_SECONDS)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Allocated:
    """Bytes that a runtime said it allocated: weights, cache (keys, values and state), buffers of a batch, results."""

    weights: int
    cache: int
    compute: int
    output: int

    @property
    def total(self) -> int:
        """All of it, whatever else the process takes."""
        return self.weights + self.cache + self.compute + self.output


def allocated(text: str) -> Allocated | None:
    """Return what llama.cpp's log says of a loaded model's memory, as exact as it says it; None if it does not.

    Where it was loaded twice, once for a trial, the last time counts.
    """
    sums: dict[str, float] = {}
    for kind, figure in _BUFFER.findall(text.rpartition(_LOADING)[2]):
        sums[kind] = sums.get(kind, 0.0) + float(figure)
    if "model" not in sums or "compute" not in sums:
        return None
    figures = (sums["model"], sums.get("KV", 0.0) + sums.get("RS", 0.0), sums["compute"], sums.get("output", 0.0))
    return Allocated(*(round(figure * _MEBIBYTE) for figure in figures))
