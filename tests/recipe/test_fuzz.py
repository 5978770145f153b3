"""Any text at all: it is a recipe, or an error of ours, and soon."""

from __future__ import annotations

import json
import time
from pathlib import Path

from any_text import hold_all, hold_ignore, hold_recipe, hold_source, hold_word
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lading.recipe.expand import Quoting
from lading.recipe.flags import FLAGS

CORPUS = Path(__file__).with_name("corpus.jsonl")
"""What scripts/fuzz.py found to reach one part of the readers or another."""
CASES = [path.read_bytes().decode() for path in sorted((Path(__file__).parents[1] / "recipes").glob("*/Recipe"))]

pieces = st.sampled_from(
    [
        *(f"{keyword} " for keyword in FLAGS),
        *(f"--{rule.name}=" for rules in FLAGS.values() for rule in rules),
        *(
            "FROM scratch\n",
            " AS ",
            "# escape=`\n",
            "# check=skip=all\n",
            "#",
            "\\\n",
            "`\n",
            "\n",
            "\r\n",
            "\n\n",
            "\t",
        ),
        *("<<EOF", "<<-EOF", '<<"EOF"', "EOF\n", "[", "]", '"', "'", ", ", '["-m", "x.gguf"', "]\n", "=", "--", "-"),
        *("${", "}", "$A", "${A:-", "${A#", "${A%%", "${A/", "//", ":?", "*", "?", "A=", "scratch", "Q4_K_M", "F16"),
        *(
            "hf://o/r@main:*.gguf",
            "https://x.org/a.git#b:c",
            "oci://x.org/a:1",
            "ollama://a",
            "git@x:y",
            "0",
            "context",
        ),
        *("\ufeff", "é", "名", "\x00", "\x1b", "\u2028", "\x0b", "\U0001f600", "\u0301"),
    ]
)
texts = st.one_of(
    st.lists(pieces, max_size=40).map("".join),
    st.lists(pieces, max_size=25).map(lambda some: "FROM scratch\n" + "".join(some)),
    st.text(max_size=200),
)


@settings(derandomize=True, max_examples=1200, deadline=None)
@given(texts)
def test_any_text_is_a_recipe_or_an_error_of_ours(text: str) -> None:
    hold_recipe(text)


@settings(derandomize=True, max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(CASES), st.integers(0, 2000), st.integers(0, 60), st.lists(pieces, max_size=4).map("".join))
def test_a_recipe_with_a_piece_torn_out_or_put_in_is_one_or_an_error(
    text: str, start: int, length: int, piece: str
) -> None:
    start = start % (len(text) + 1)
    hold_recipe(text[:start] + piece + text[start + length :])


@settings(derandomize=True, max_examples=2000, deadline=None)
@given(
    st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=20).map("".join),
    st.sampled_from(Quoting),
    st.sampled_from(["\\", "`"]),
)
def test_any_word_expands_or_is_refused(text: str, quoting: Quoting, escape: str) -> None:
    hold_word(text, quoting, escape)


@settings(derandomize=True, max_examples=1000, deadline=None)
@given(st.lists(st.one_of(pieces, st.text(max_size=5)), max_size=6).map("".join))
def test_any_source_is_read_or_refused(text: str) -> None:
    hold_source(text)


@settings(derandomize=True, max_examples=1000, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["*", "**", "/", "!", "?", "[", "]", "^", "-", "\\", "a", "\n", "&&", "."]),
            st.text(max_size=2),
        ),
        max_size=12,
    ).map("".join),
    st.lists(st.sampled_from(["a", "b", "/", ".", "-", "]"]), min_size=1, max_size=8).map("".join),
)
def test_any_ignore_file_is_read_or_refused(text: str, path: str) -> None:
    hold_ignore(text, path)


def test_every_text_that_a_fuzzer_found_is_a_recipe_or_an_error_soon() -> None:
    texts = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    assert len(texts) > 100
    began = time.process_time()
    for text in texts:
        hold_all(text)
    assert time.process_time() - began < 0.25 * len(texts)
