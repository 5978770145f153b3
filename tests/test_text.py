from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading import text


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (11_300, "11.3 kB"),
        (6_100_000, "6.1 MB"),
        (5_850_000_000, "5.85 GB"),
    ],
)
def test_sizes_are_written_as_disks_are_sold(count: int, written: str) -> None:
    assert text.size(count) == written


@pytest.mark.parametrize(("count", "written"), [(12, "12"), (1_443_584, "1.4 M"), (8_190_735_360, "8.2 B")])
def test_parameters_are_written_short(count: int, written: str) -> None:
    assert text.parameters(count) == written


@given(st.text())
def test_no_control_character_reaches_a_terminal(words: str) -> None:
    assert text.clean(words).isprintable()


def test_plain_words_stay_as_they_are() -> None:
    assert text.clean("Qwen3 8B Instruct, größer · 模型") == "Qwen3 8B Instruct, größer · 模型"
    assert text.clean("a\x1b[31mb\nc") == "a\\x1b[31mb\\nc"


def test_a_table_aligns_its_columns() -> None:
    rows = [("NAME", "SIZE"), ("a", "1 B"), ("longer", "11 B")]
    assert text.table(rows, right=frozenset({1})) == "NAME    SIZE\na        1 B\nlonger  11 B"
