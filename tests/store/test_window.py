from __future__ import annotations

import random

import pytest

from lading.store.window import Segment, Window

DATA = random.Random(9).randbytes(10_000)
FAR = 1 << 40


def drain(window: Window, step: int = 700) -> bytes:
    got = bytearray()
    buffer = bytearray(step)
    while count := window.read(memoryview(buffer)):
        got += buffer[:count]
    return bytes(got)


def bring(window: Window, segment: Segment, upto: int | None = None, now: float = 1.0) -> None:
    end = segment.end if upto is None else segment.start + upto
    window.put(segment, segment.position, DATA[segment.position : end], now)


def take(window: Window, length: int = 1000, limit: int = FAR, now: float = 0.0) -> Segment:
    segment = window.take(length, limit, now)
    assert segment is not None
    return segment


@pytest.mark.parametrize("seed", range(20))
def test_segments_that_come_in_any_order_leave_in_theirs(seed: int) -> None:
    rng = random.Random(seed)
    window = Window(0, len(DATA), 1e6)
    fetching: list[Segment] = []
    got = b""
    while not window.spent:
        if rng.random() < 0.5 and (segment := window.take(rng.randint(1, 2000), FAR, 0.0)):
            fetching.append(segment)
        if fetching:
            segment = rng.choice(fetching)
            bring(window, segment, segment.position - segment.start + rng.randint(0, segment.end - segment.position))
            if segment.whole:
                fetching.remove(segment)
        got += drain(window)
    assert got == DATA
    assert window.came == len(DATA)


def test_nothing_is_taken_beyond_the_limit_nor_in_scraps_before_it() -> None:
    window = Window(0, len(DATA), 1e6)
    take(window, limit=1500)
    assert window.take(1000, 1999, 0.0) is None
    assert take(window, limit=2000).end == 2000


def test_what_one_gives_up_another_takes_up_where_it_ended() -> None:
    window = Window(0, len(DATA), 1e6)
    first = take(window)
    take(window)
    bring(window, first, 300)
    first.racers -= 1
    again = take(window)
    assert again is first
    assert again.position == 300


def test_the_segment_that_all_wait_for_is_raced_for_once_it_is_overdue_and_by_two_at_most() -> None:
    window = Window(0, 3000, 1000.0)  # a segment takes a second
    head, second = take(window), take(window, 2000)
    assert window.take(1000, FAR, 2.0) is None
    assert take(window, now=2.3) is head
    assert window.take(1000, FAR, 9.0) is None
    bring(window, head)
    assert take(window, now=9.0) is second


def test_of_two_who_bring_the_same_the_first_counts() -> None:
    window = Window(0, 1000, 1e6)
    segment = take(window)
    window.put(segment, 0, DATA[:600], 1.0)
    window.put(segment, 0, b"x" * 500, 1.0)
    window.put(segment, 500, b"x" * 100 + DATA[600:1000], 1.0)
    assert drain(window) == DATA[:1000]
    assert window.came == 1000
    assert window.all_here
    assert window.spent


def test_a_closed_window_ends_where_its_last_segment_does() -> None:
    window = Window(0, len(DATA), 1e6)
    segment = take(window)
    window.close()
    assert window.take(1000, FAR, 0.0) is None
    assert not window.all_here
    bring(window, segment)
    assert window.all_here
    assert drain(window) == DATA[:1000]
    assert window.spent
