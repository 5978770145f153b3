"""What the user sees of a running operation: bars on a terminal, plain lines elsewhere, or JSON.

All of it goes to stderr. A bar never goes backwards: a transfer that starts over stands still until it is past its mark.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, TextIO

from lading.events import Advanced, Event, Finished, Noted, Skipped, Started, StepEnded
from lading.text import clean, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

    from lading.events import Reporter

MODES = ("auto", "bar", "plain", "json", "none")
_QUIET_SECONDS = 10.0
_NAME_WIDTH = 40
_STEP_WIDTH = 72
_WIDE = 100


@contextmanager
def reporter(mode: str, stream: TextIO, *, quiet: bool) -> Iterator[Reporter]:
    """Yield the reporter for a mode; `auto` is bars if `stream` is a terminal, else plain lines."""
    if mode == "auto":
        mode = "bar" if stream.isatty() else "plain"
    if mode == "json":
        yield JsonLines(stream)
    elif mode == "none" or quiet:
        yield Warnings(stream)
    elif mode == "bar":
        bars = Bars(stream)
        try:
            yield bars
        finally:
            bars.close()
    else:
        yield Lines(stream)


def settle(reporter: Reporter) -> None:
    """End what moves on the terminal, so that a result can be printed below it; the next item begins anew."""
    if isinstance(reporter, Bars):
        reporter.close()


def show(reporter: Reporter, text: str) -> None:
    """Tell a warning of several lines as it is; as an event where only events are written."""
    if isinstance(reporter, JsonLines):
        reporter.emit(Noted(text, warning=True))
    else:
        print("\n".join(map(clean, text.split("\n"))), file=sys.stderr)  # noqa: T201  # as reporters do


class Warnings:
    """Tells warnings only."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def emit(self, event: Event) -> None:
        """Write a warning; drop all else."""
        if isinstance(event, Noted) and event.warning:
            print(f"warning: {clean(event.text)}", file=self._stream)


class JsonLines:
    """One JSON object per event."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Write the event with its kind under `event`."""
        import json  # noqa: PLC0415 - for those who ask

        with self._lock:
            print(json.dumps({"event": type(event).__name__.lower(), **asdict(event)}), file=self._stream, flush=True)


class Lines:
    """A line when an item is done, and one every ten seconds while it runs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._items: dict[str, Started] = {}
        self._told: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        """Write what a reader of a log wants to know."""
        with self._lock:
            line = _whole(event) or self._line(event)
            if line:
                print(line, file=self._stream, flush=True)

    def _line(self, event: Event) -> str:
        match event:
            case Started():
                self._items[event.key] = event
                self._told[event.key] = time.monotonic()
                return ""
            case Advanced(key, done):
                item = self._items.get(key)
                if item is None or time.monotonic() - self._told[key] < _QUIET_SECONDS:
                    return ""
                self._told[key] = time.monotonic()
                share = f" of {size(item.total)}" if item.total else ""
                return _row(item.label, item.name, f"{size(done)}{share}")
            case Finished(key):
                item = self._items.pop(key, None)
                return _row(item.label, item.name, size(item.total or 0)) if item else ""
            case Skipped():
                self._items.pop(event.key, None)
                return _row(event.label, event.name, f"{size(event.total or 0)}  {event.why}")
            case _:
                return ""


class Bars:
    """One bar for each item, with speed and remaining time."""

    def __init__(self, stream: TextIO) -> None:
        # rich costs 50 ms to import: only a terminal pays for it.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(file=stream, highlight=False)
        name = TextColumn("  {task.fields[label]:<9} {task.fields[file]}", markup=False)
        share = TextColumn("{task.percentage:>3.0f} %")
        left = TimeRemainingColumn(compact=True)
        if console.width < _WIDE:
            columns: tuple[ProgressColumn, ...] = (name, share, left)
        else:
            columns = (name, BarColumn(bar_width=28), share, DownloadColumn(), TransferSpeedColumn(), left)
        # stdout is not rich's to redirect: what is printed there goes where the user sent it.
        self._new_progress = partial(Progress, *columns, console=console, redirect_stdout=False)
        self._progress = self._new_progress()
        self._stream = stream
        self._tasks: dict[str, TaskID] = {}
        self._furthest: dict[str, int] = {}
        self._totals: dict[str, int | None] = {}
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Move the bars; write notes above them."""
        with self._lock:
            match event:
                case Started():
                    self._start(event)
                case Advanced(key, done) if key in self._tasks:
                    self._furthest[key] = max(done, self._furthest.get(key, 0))
                    self._progress.update(self._tasks[key], completed=self._furthest[key])
                case Finished(key) if key in self._tasks:
                    self._progress.update(self._tasks[key], completed=self._totals[key] or self._furthest[key])
                case Skipped():
                    if event.key in self._tasks:
                        self._progress.remove_task(self._tasks.pop(event.key))
                    self._note(_row(event.label, event.name, f"{size(event.total or 0)}  {event.why}"))
                case Noted():
                    self._note(_whole(event))
                case StepEnded():
                    # What it worked on is told by the step itself.
                    for key in event.keys:
                        if key in self._tasks:
                            self._progress.remove_task(self._tasks.pop(key))
                    self._note(_whole(event))
                case _:
                    return

    def close(self) -> None:
        """Leave the bars as they stand and give the terminal back; an item that starts later gets new ones below."""
        with self._lock:
            self._progress.stop()
            self._progress = self._new_progress()
            self._tasks.clear()
            self._furthest.clear()
            self._totals.clear()

    def _start(self, event: Started) -> None:
        self._progress.start()
        self._tasks[event.key] = self._progress.add_task(
            event.label, total=event.total, completed=event.done, label=event.label, file=_short(event.name)
        )
        self._furthest[event.key] = event.done
        self._totals[event.key] = event.total

    def _note(self, line: str) -> None:
        self._progress.console.print(line, markup=False, soft_wrap=True)


def _whole(event: Event) -> str:
    """Return the line of an event that needs no other to be told; empty for one of an item under way."""
    match event:
        case Noted(text, warning):
            return f"{'warning: ' if warning else ''}{clean(text)}"
        case StepEnded():
            done = "cached" if event.cached else f"{event.seconds:.1f} s"
            return f"  [{event.key}] {_cut(clean(event.text), _STEP_WIDTH)}  {done}"
        case _:
            return ""


def _row(label: str, name: str, figures: str) -> str:
    return f"  {label:<9} {_short(name)}  {figures}"


def _short(name: str) -> str:
    shown = clean(name)
    if len(shown) > _NAME_WIDTH:
        shown = f"{shown[:18]}…{shown[-(_NAME_WIDTH - 19) :]}"
    return shown


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
