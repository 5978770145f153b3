"""docs/fit-accuracy.md says what the tests find; LADING_UPDATE_ACCURACY=1 writes it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from accuracy import BEGIN, PAGE, UPDATE, page
from reference_points import POINTS, Point, answer

if TYPE_CHECKING:
    from shapes import Models

GIBIBYTE = 1024**3


def test_the_page_has_the_figures_of_today(model: Models) -> None:
    before, _, said = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    made = page(model)
    if os.environ.get(UPDATE):
        PAGE.write_text(f"{before}{BEGIN}\n{made}", encoding="utf-8")
    else:
        assert said == f"\n{made}", f"stale: {UPDATE}=1 make test TESTS=tests/estimate"


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_the_examples_of_gguf_parser_s_readme_are_met_within_a_twentieth(point: Point) -> None:
    for use, said in zip(answer(point).devices, point.said, strict=True):
        assert use.total / GIBIBYTE == pytest.approx(said, rel=0.05)


def test_the_split_of_its_first_example_is_the_same() -> None:
    assert [use.layers for use in answer(POINTS[0]).devices] == [36, 44]
