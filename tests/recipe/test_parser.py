from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lading.errors import FormatError, RecipeError
from lading.recipe import parse, plan
from lading.recipe.directives import Check, names_a_recipe, read_check

if TYPE_CHECKING:
    from lading.recipe.nodes import Node


def only(text: str) -> Node:
    nodes = parse(text).nodes
    assert len(nodes) == 1
    return nodes[0]


def words(text: str) -> list[str]:
    return [word.text for word in only(text).words]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("COPY a b", ["a", "b"]),
        ("copy\ta\t b  ", ["a", "b"]),
        ("COPY 'a b' c", ["'a", "b'", "c"]),
        ('COPY ["a b", "c"]', ["a b", "c"]),
        ('COPY ["a b", "c"', ['["a', 'b",', '"c"']),
        ("ARG A=\"x y\" B='z w' C=a\\ b", ['A="x y"', "B='z w'", "C=a\\ b"]),
        ("LABEL a b c", ["a", "b c"]),
        ('LABEL "a b"=c d="e f"', ['"a b"=c', 'd="e f"']),
        ('CMD ["-m", "x", "a\\nb"]', ["-m", "x", "a\nb"]),
        ("COPY a \\\n  b", ["a", "b"]),
        ("COPY a\\\nb c", ["ab", "c"]),
        ("COPY a \\\n# a comment\n\n  b", ["a", "b"]),
        ("COPY a \\  \n b", ["a", "b"]),
        ("COPY a b\\\\\n", ["a", "b\\\\"]),
        ("COPY a \\", ["a"]),
        ("# escape=`\nCOPY a `\n b\\", ["a", "b\\"]),
        ("COPY -- --a b", ["--a", "b"]),
    ],
)
def test_words_are_cut_as_a_dockerfile_cuts_them(text: str, said: list[str]) -> None:
    assert words(text) == said


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("COPY --from=a --link x y", [("from", "a"), ("link", None)]),
        ("COPY --from='a b' x y", [("from", "a b")]),
        ('COPY --from="a b"c x y', [("from", "a bc")]),
        ("COPY --from=a\\ b x y", [("from", "a b")]),
        ("COPY --from= x y", [("from", "")]),
        ("COPY x --from=a y", []),
        ("# escape=`\nCOPY --from=a\\`b x y", [("from", "a`b")]),
    ],
)
def test_flags_are_the_leading_words_with_dashes(text: str, flags: list[tuple[str, str | None]]) -> None:
    assert [(flag.name, flag.value) for flag in only(text).flags] == flags


def test_places_count_from_one_in_characters_through_continuations() -> None:
    node = parse("FROM scratch\n  COPY --from=é \\\n   ü\\\nß z\n").nodes[1]
    assert (node.where.line, node.where.column, node.where.end_line) == (2, 3, 4)
    assert (node.flags[0].where.line, node.flags[0].where.column, node.flags[0].where.end_column) == (2, 8, 16)
    split, plain = node.words
    assert split.text == "üß"
    assert (split.where.line, split.where.column, split.where.end_line, split.where.end_column) == (3, 4, 4, 2)
    assert (plain.where.line, plain.where.column) == (4, 3)


def test_the_words_of_a_json_array_have_places_of_their_own() -> None:
    node = parse('FROM scratch\nCMD ["-m", \\\n  "a.gguf"]\n').nodes[1]
    assert [(word.where.line, word.where.column) for word in node.words] == [(2, 6), (3, 3)]


def test_heredocs_are_read_in_order_and_end_at_their_names() -> None:
    node = only('CAT <<"AB" <<-C 3<<D x\nfirst \r\n  AB\nAB\n\ttwo\n\tC\n\tD\nD\n')
    found = [word.heredoc for word in node.words if word.heredoc]
    assert [(one.name, one.content, one.expands) for one in found] == [
        ("AB", "first \r\n  AB\n", False),
        ("C", "two\n", True),
        ("D", "\tD\n", True),
    ]


def test_what_only_looks_like_a_heredoc_is_a_word() -> None:
    assert words("COPY << b") == ["<<", "b"]
    assert words("COPY a<<b c") == ["a<<b", "c"]
    assert words("CONVERT <<EOF b") == ["<<EOF", "b"]


def test_a_comment_above_describes_an_arg_or_a_stage() -> None:
    nodes = parse(
        "# size how much of it\nARG size=1\n# other words\nARG b\n# out the model\nFROM scratch AS out\n"
    ).nodes
    assert [node.description for node in nodes] == ["how much of it", "", "the model"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_either_line_end_are_read(end: str) -> None:
    read = parse("\ufeff" + end.join(["# check=skip=all", "FROM scratch", "COPY a \\", "  b", ""]))
    assert read.directives.check == "skip=all"
    assert [word.text for word in read.nodes[1].words] == ["a", "b"]


def test_directives_end_at_the_first_line_that_is_none() -> None:
    read = parse("# Syntax = docker/x:1 \n# ESCAPE=`\n# a comment\n# check=error=true\nFROM scratch\n")
    assert (read.directives.syntax, read.directives.escape, read.directives.check) == ("docker/x:1", "`", None)


def test_a_check_may_be_written_in_either_way() -> None:
    script = parse("FROM scratch\n").script
    wanted = Check(frozenset({"stagenamecasing", "licencemissing"}), error=True)
    assert read_check("skip=StageNameCasing,licence-missing;error=true what follows", script) == wanted
    assert read_check(None, script) == Check()


@pytest.mark.parametrize(
    ("text", "is_ours"),
    [
        ("# syntax=gpustack/gguf-packer:latest\nFROM scratch\n", True),
        ("# syntax=docker.io/gpustack/gguf-packer@sha256:00\n", True),
        ("#!/usr/bin/env lading\n# syntax=lading\n", True),
        ("// syntax=ghcr.io/a/lading:1\n", True),
        ('{"syntax": "gpustack/gguf-packer"}', True),
        ("# escape=`\n# syntax=lading\n", True),
        ("# syntax=docker/dockerfile:1\nFROM scratch\n", False),
        ("FROM scratch\n# syntax=lading\n", False),
        ("# syntax=not-lading\n", False),
        ("{not json", False),
        ("", False),
    ],
)
def test_a_dockerfile_is_ours_when_its_syntax_line_says_so(text: str, is_ours: bool) -> None:  # noqa: FBT001 - a table
    assert names_a_recipe(text) is is_ours


def test_an_error_is_one_of_format_and_knows_its_place() -> None:
    with pytest.raises(RecipeError) as caught:
        parse("FROM scratch\n  RUN x\n", "models/Recipe")
    error = caught.value
    assert isinstance(error, FormatError)
    assert (error.file, error.line, error.column, error.exit_code) == ("models/Recipe", 2, 3, 6)
    assert error.message.startswith(
        "models/Recipe:2:3: error: unknown instruction `RUN`\n    2 |   RUN x\n      |   ^^^"
    )


def test_a_name_with_control_characters_cannot_reach_a_terminal() -> None:
    with pytest.raises(RecipeError) as caught:
        parse("\x1b]0;x\x07 y\n", "a\x1bb")
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize("line", ["ADD https://sam:canary@example.org/x.gguf .", "RUN curl http://canary@example.org/"])
def test_a_password_in_a_recipe_is_not_repeated(line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        plan(parse(f"FROM scratch\n{line}\n"))
    assert "canary" not in caught.value.message
    assert "://***" in caught.value.message
