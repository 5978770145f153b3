"""Recipes that are written to be long at work: each is refused, or done, soon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lading.errors import RecipeError
from lading.recipe import lint, parse, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 20
GROWN = 'ARG A="' + "x" * 1000 + '"\nARG B=' + "$A" * 900 + "\n"


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """Count the CPU seconds of the test: a busy machine takes none of them."""
    began = time.process_time()
    yield
    assert time.process_time() - began < SECONDS


def refusal(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        plan(parse(text))
    return caught.value.reason


def test_a_recipe_has_no_more_than_a_million_characters() -> None:
    assert "longer than" in refusal("FROM scratch\n" + "# more\n" * 150_000)


def test_a_recipe_has_no_more_than_a_thousand_stages() -> None:
    assert "more than 1,000 stages" in refusal("FROM scratch\n" * 1001)


def test_a_recipe_names_no_more_than_a_thousand_variables() -> None:
    first, second = ("".join(f"ARG {letter}{number}\n" for number in range(600)) for letter in "ab")
    assert "more than 1,000 variables" in refusal(f"FROM scratch AS base\n{first}FROM base\n{second}")
    assert plan(parse(f"FROM scratch AS base\n{first}FROM scratch\n{second}")).target.steps


@pytest.mark.parametrize(("stages", "is_missed"), [(2, True), (600, False)])
def test_files_of_very_many_stages_are_not_kept(stages: int, is_missed: bool) -> None:  # noqa: FBT001 - a table
    files = "".join(f"COPY a b{number}.gguf\n" for number in range(1000))
    chain = "".join(f"FROM s{number} AS s{number + 1}\n" for number in range(stages))
    found = lint(parse(f'FROM scratch AS s0\n{files}{chain}CMD ["-m", "m.gguf"]\n')).findings
    assert ("model-missing" in {one.rule for one in found}) is is_missed


def test_variables_together_grow_no_more_than_a_budget() -> None:
    assert "together" in refusal(f"{GROWN}FROM scratch\n" + "LABEL a=$B\n" * 1000)


@pytest.mark.parametrize(
    "word", ["${B##*y}", "${B%%x*y}", "${B//xy/z}", "${B//?x?x?x?y/}", "${B:+y}", "${B#" + "?" * 3000 + "y}"]
)
def test_patterns_cost_from_the_same_budget(word: str) -> None:
    assert "together" in refusal(f"{GROWN}FROM scratch\nLABEL " + " ".join(f"k{n}={word}" for n in range(200)) + "\n")


@pytest.mark.parametrize(
    "text",
    [
        "FROM scratch\nLABEL " + " ".join(f"k{n}=$NO{n}" for n in range(50_000)) + "\n",
        "FROM scratch\n"
        + "".join(f"ARG variable{n}=1\n" for n in range(990))
        + "LABEL "
        + " ".join(f"k{n}=$variabel{n}" for n in range(40_000)),
        "FROM scratch\n" + "".join(f"COPY a b{n}.gguf\n" for n in range(40_000)),
        "".join(f"FROM {'s' + str(n - 1) if n else 'scratch'} AS s{n}\nCOPY a.gguf b{n}.gguf\n" for n in range(1000)),
        "FROM scratch\nCMD [" + ", ".join('"--unknown-argument-of-some-length"' for _ in range(20_000)) + "]\n",
        'FROM scratch\nCMD ["-m", "m", ' + ", ".join(f'"--lora-of-{n}"' for n in range(20_000)) + "]\n",
        "FROM scratch\nCOPY " + "[" * 400_000 + " b\n",
        "FROM scratch\nLABEL a='" + "\\" * 400_000 + "\n",
        "FROM scratch\nCOPY \\\n" + "# comment\n" * 90_000 + "a b\n",
        "FROM scratch\nCOPY " + "<<A " * 100_000 + "b\n" + "A\n" * 100_000,
        "FROM scratch\nCOPY --" + "a" * 400_000 + " b c\n",
        "FROM scratch\nADD git@" + "a." * 200_000 + "/b c\n",
    ],
    ids=[
        "unset",
        "nearly-set",
        "files",
        "stages",
        "no-model",
        "unknown",
        "brackets",
        "escapes",
        "comments",
        "heredocs",
        "flag",
        "host",
    ],
)
def test_long_recipes_are_read_or_refused_soon(text: str) -> None:
    told = ""
    findings: tuple[object, ...] = ()
    try:
        findings = lint(parse(text)).findings
    except RecipeError as error:
        told = error.message
    assert len(told) < 3000
    assert len(findings) <= 5000
