from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lading.chat import events


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(place % (len(stream) + 1) for place in at)})
    return [stream[begin:end] for begin, end in pairwise(places)]


def test_an_event_may_have_several_lines_of_data() -> None:
    assert list(events([b"data: a\ndata:b\ndata:  c\n\ndata\n\n"])) == ["a\nb\n c"]


def test_an_event_that_the_end_cuts_short_is_dropped() -> None:
    assert list(events([b"data: a\n\ndata: b\n"])) == ["a"]
    assert list(events([])) == []


def test_all_three_line_ends_are_line_ends_and_no_others() -> None:
    text = "a\x0b\x0c\x1c\x85\u2028b"
    for end in (b"\n", b"\r\n", b"\r"):
        assert list(events([b"data: " + text.encode() + end + end])) == [text]


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1), max_size=5),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_however_the_bytes_are_cut_up_the_events_are_the_same(texts: list[str], end: bytes, at: list[int]) -> None:
    stream = b"".join(b": c" + end + b"data: " + text.encode() + end + end for text in texts)
    assert list(events(cut(stream, at))) == texts
