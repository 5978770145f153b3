"""Threads for jobs that may wait long for other machines: who gives up does not wait for them."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
S = TypeVar("S")

TURN = 0.5
"""Seconds after which a waiting thread looks about: a signal that comes just before it sleeps does not wake it (CPython)."""

LONGEST = 3.0
"""Seconds that a block which fails gives the jobs under way to end by themselves."""


class Crew:
    """At most `most` threads, for jobs that are begun in their order. A context manager, whose end waits for all jobs.

    Where the block fails, by Ctrl-C too, jobs that wait are dropped, and those under way have `LONGEST` seconds. One
    that a silent server keeps longer is left behind: it ends by itself, with the process at the latest.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: set[Future[Any]] = set()
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[S], T], item: S) -> Future[T]:
        """Have a thread do `work` on `item` as soon as one is free."""
        job: Future[T] = Future()
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        self._waiting.put((job, lambda: work(item)))
        if len(self._threads) < self._most:
            # The interpreter waits at its end for threads that are no daemons.
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            thread.start()
        return job

    def map(self, work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
        """Return what `work` makes of each item, in their order; raises what it raised."""
        jobs = deque([self.submit(work, item) for item in items])

        def results() -> Iterator[T]:
            # What is handed out is not held on to: it may be large.
            while jobs:
                while not jobs[0].done():
                    wait((jobs[0],), TURN)
                yield jobs.popleft().result()

        return results()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            for job in tuple(self._jobs):
                job.cancel()
        for _thread in self._threads:
            self._waiting.put(None)
        deadline = time.monotonic() + LONGEST
        for thread in self._threads:
            thread.join(None if error is None else max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            _do(*waiting)
            del waiting  # its result may be large, and the next job long in coming


def await_all(jobs: Iterable[Future[Any]]) -> None:
    """Wait until all jobs are done, or one has raised something."""
    left, failed = set(jobs), False
    while left and not failed:
        done, left = wait(left, TURN, return_when=FIRST_EXCEPTION)
        failed = any(job.exception() for job in done)


def _do(job: Future[Any], work: Callable[[], Any]) -> None:
    if job.set_running_or_notify_cancel():
        try:
            job.set_result(work())
        except BaseException as failure:  # noqa: BLE001 - raised by who asks for the result
            job.set_exception(failure)
