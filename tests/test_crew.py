from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lading import crew
from lading.crew import Crew, await_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_results_come_in_the_order_of_their_items_from_as_many_threads_as_there_may_be() -> None:
    lock = threading.Lock()
    now = most = 0

    def work(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01 * (3 - number % 3))
        with lock:
            now -= 1
        return number * number

    with Crew(3) as some:
        assert list(some.map(work, range(12))) == [number * number for number in range(12)]
    assert 1 < most <= 3


def test_the_end_waits_for_all_jobs_and_leaves_no_thread() -> None:
    threads = threading.active_count()
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.05)
        done.append(number)

    with Crew(2) as some:
        for number in range(4):
            some.submit(work, number)
    assert sorted(done) == [0, 1, 2, 3]
    assert threading.active_count() == threads


def test_a_failed_job_is_told_to_who_asks_and_what_waits_is_dropped() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"), Crew(1) as some:
        for _result in some.map(work, range(3)):
            pass
    assert begun in ([0, 1], [0, 1, 2])


def test_who_gives_up_waits_only_so_long_for_jobs_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "LONGEST", 0.1)
    begun, silent, ended = threading.Event(), threading.Event(), threading.Event()

    def work(_number: int) -> None:
        begun.set()
        silent.wait(60)
        ended.set()

    def give_up() -> None:
        with Crew(1) as some:
            jobs = [some.submit(work, number) for number in range(2)]
            begun.wait(60)
            raise KeyboardInterrupt
        assert jobs

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert not ended.is_set()
    silent.set()
    assert ended.wait(60), "it ends by itself"


@contextmanager
def ending(event: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        event.set()


class Heard(BaseException):
    """A signal was answered."""


@pytest.mark.parametrize(
    "waiting",
    [
        lambda some, work: next(some.map(work, [1])),
        lambda some, work: await_all([some.submit(work, 1)]),
    ],
    ids=["map", "await_all"],
)
def test_a_signal_that_wakes_no_waiting_thread_is_answered_all_the_same(
    waiting: Callable[[Crew, Callable[[int], None]], object],
) -> None:
    def answer(_number: int, _frame: object) -> None:
        raise Heard

    over = threading.Event()
    answered: list[bool] = []

    def work(_item: int) -> None:
        time.sleep(0.2)  # until the other one sleeps
        # To this thread: the one that waits sleeps on, as after a signal that came just before it slept.
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        answered.append(over.wait(20))

    before = signal.signal(signal.SIGUSR1, answer)
    try:
        with pytest.raises(Heard), Crew(1) as some, ending(over):
            waiting(some, work)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answered == [True]
