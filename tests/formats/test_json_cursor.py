from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.errors import FormatError
from lading.formats.json_cursor import JsonCursor
from lading.ranges import BytesRanges


def cursor(text: str | bytes) -> JsonCursor:
    data = text.encode() if isinstance(text, str) else text
    return JsonCursor(BytesRanges(data, "f"), 0, len(data), "the text")


def skips(text: str | bytes) -> bool:
    scan = cursor(text)
    try:
        scan.skip_value(1000)
        scan.finish()
    except FormatError:
        return False
    return True


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 1]))
def test_any_json_is_passed_over(value: Any, indent: int | None) -> None:
    assert skips(json.dumps(value, indent=indent))
    assert skips(json.dumps(value, ensure_ascii=False))


@given(JSON, st.data())
def test_json_with_a_character_missing_gets_the_verdict_of_the_standard_library(
    value: Any, data: st.DataObject
) -> None:
    text = json.dumps(value, ensure_ascii=False)
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + text[at + 1 :]
    try:
        json.loads(damaged)
    except ValueError:
        assert not skips(damaged)
    else:
        assert skips(damaged)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[1,]",
        '{"a":}',
        '{"a":1,}',
        "{1:2}",
        "01",
        "1.",
        "+1",
        "nul",
        "[1 2]",
        '"a',
        '"\\x"',
        '"\x01"',
        "[]]",
        "}",
        "NaN",
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    assert not skips(text)


def test_depth_has_a_limit() -> None:
    assert skips("[" * 64 + "]" * 64)
    for bomb in ("[" * 65 + "]" * 65, "[" * 5_000_000, '{"a":' * 1_000_000, "[{" * 100_000):
        assert not skips(bomb)


def test_what_is_not_utf8_or_half_a_pair_is_refused() -> None:
    for data in (b'"\xff"', b'"\xc3', b'"\xed\xa0\x80"', b'"\\ud800"'):
        assert not skips(data)
    assert cursor('"\\ud83d\\ude42"').string(20) == "\U0001f642"


def test_strings_have_a_limit() -> None:
    assert cursor('"' + "x" * 100 + '"').string(100) == "x" * 100
    for text in ('"' + "x" * 101 + '"', '"' + "x" * 9_000_000):
        with pytest.raises(FormatError, match="longer than 100 characters"):
            cursor(text).string(100)


def test_a_string_across_windows_is_whole() -> None:
    text = 'ü\\"\U0001f6a2' * 200_000
    scan = cursor(" " * 262_143 + json.dumps(text, ensure_ascii=False) + " " * 600_000)
    assert scan.string(3_000_000) == text
    scan.finish()


def test_a_file_that_shrank_is_noticed() -> None:
    scan = JsonCursor(BytesRanges(b"[1", "f"), 0, 10, "the text")
    with pytest.raises(FormatError, match="f ended at byte 2 while it was read"):
        scan.peek()
