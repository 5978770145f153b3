from __future__ import annotations

import time

import pytest

from lading.recipe.expand import ExpansionError, Quoting, expand

VALUES = {"V": "abcabc", "EMPTY": "", "PATH": "/a/b.gguf", "STAR": "a*b", "_1": "under"}

WORDS = {
    "plain": "plain",
    "$V": "abcabc",
    "${V}x$V": "abcabcxabcabc",
    "$Vx": "",
    "$_1": "under",
    "$1$?$$x": "x",
    "$": "$",
    "a$/b$": "a$/b$",
    "$%": "$%",
    "${NO}": "",
    "${NO:-x}": "x",
    "${NO-x}": "x",
    "${EMPTY:-x}": "x",
    "${EMPTY-x}": "",
    "${V:-x}": "abcabc",
    "${V:+x}": "x",
    "${EMPTY:+x}": "",
    "${EMPTY+x}": "x",
    "${NO+x}": "",
    "${V:?x}": "abcabc",
    "${EMPTY?x}": "",
    "${NO:-${V:+${NO-deep}}}": "deep",
    "${NO:-a\\}b}": "a}b",
    "${NO:-'}'}": "}",
    "${V#a}": "bcabc",
    "${V#*c}": "abc",
    "${V##*c}": "",
    "${V##*b}": "c",
    "${V#x}": "abcabc",
    "${V%c}": "abcab",
    "${V%b*}": "abca",
    "${V%%b*}": "a",
    "${V%*}": "abcabc",
    "${V%%*}": "",
    "${V#?}": "bcabc",
    "${V%??}": "abca",
    "${STAR#a\\*}": "b",
    "${PATH##*/}": "b.gguf",
    "${PATH%.gguf}": "/a/b",
    "${V/b/X}": "aXcabc",
    "${V//b/X}": "aXcaXc",
    "${V/b*/X}": "aX",
    "${V//?/X}": "XXXXXX",
    "${V/x/X}": "abcabc",
    "${V//b}": None,
    "${V/b/}": "acabc",
    "${V//b/$EMPTY${V}}": "aabcabccaabcabcc",
    "${PATH//\\//-}": "-a-b.gguf",
    "${V//*/X}": "X",
    "${V///X}": "abcabc",
    "'$V'": "$V",
    '"$V"': "abcabc",
    '"a\'b"': "a'b",
    "'a\"b'": 'a"b',
    '"\\$V \\" \\\\ \\n"': '$V " \\ \\n',
    "\\$V": "$V",
    "\\n": "n",
    "a\\": "a",
    "'a": None,
    '"a': None,
    "${": None,
    "${V": None,
    "${}": None,
    "${:-x}": None,
    "${V:}": None,
    "${V:#x}": None,
    "${V!x}": None,
    "${NO:?}": None,
    "${NO?}": None,
    "${EMPTY:?}": None,
    "${V:-'}": None,
    "${V/x}": None,
}


@pytest.mark.parametrize("text", WORDS)
def test_every_operator_does_what_it_does_in_a_dockerfile(text: str) -> None:
    wanted = WORDS[text]
    if wanted is None:
        with pytest.raises(ExpansionError):
            expand(text, VALUES)
    else:
        assert expand(text, VALUES).value == wanted


def test_another_escape_leaves_the_backslash_alone() -> None:
    assert expand("C:\\x`$V", VALUES, escape="`").value == "C:\\x$V"


@pytest.mark.parametrize(
    ("text", "heredoc", "in_json"),
    [
        ('it\'s "$V"', 'it\'s "abcabc"', 'it\'s "abcabc"'),
        ("\\$V", "$V", "$V"),
        ("\\n", "n", "\\n"),
        ("a\\", "a", "a\\"),
        ('{"a": "\\\\d"}', '{"a": "\\d"}', '{"a": "\\\\d"}'),
    ],
)
def test_quotes_stay_in_heredocs_and_json(text: str, heredoc: str, in_json: str) -> None:
    assert expand(text, VALUES, quoting=Quoting.HEREDOC).value == heredoc
    assert expand(text, VALUES, quoting=Quoting.JSON).value == in_json


def test_what_was_used_and_what_has_no_value_is_told() -> None:
    made = expand("$V ${NO} ${GUARDED:-x} '$QUOTED'", VALUES)
    assert made.used == {"V", "NO", "GUARDED"}
    assert made.unset == {"NO"}


def test_the_reason_that_a_recipe_gives_is_the_reason() -> None:
    with pytest.raises(ExpansionError, match=r"^NO: name it$"):
        expand("${NO:?name it}", VALUES)
    with pytest.raises(ExpansionError, match=r"^NO: is not set$"):
        expand("${NO?}", VALUES)
    with pytest.raises(ExpansionError, match=r"^EMPTY: is empty$"):
        expand("${EMPTY:?}", VALUES)


def test_no_pattern_takes_long() -> None:
    values = {"V": "a" * 200_000}
    began = time.process_time()
    assert expand("${V##*a*a*a*a*a*a*b}", values).value == values["V"]
    assert expand("${V//*a*a*a?b/x}", values).value == values["V"]
    assert expand("${V%%a*a*a*a*c}", values).value == values["V"]
    assert time.process_time() - began < 5


def test_nothing_grows_without_end() -> None:
    with pytest.raises(ExpansionError, match="grows"):
        expand("$V" * 6, {"V": "a" * 200_000})
    with pytest.raises(ExpansionError, match="grows"):
        expand("${V//a/$V}", {"V": "a" * 20_000})
    with pytest.raises(ExpansionError, match="within itself"):
        expand("${V:+" * 5000 + "}" * 5000, {"V": "a"})
