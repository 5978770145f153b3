"""What holds of any text at all: it is a recipe, a word, a source, an ignore file, or an error of ours. For fuzzers."""

from __future__ import annotations

import json
from contextlib import suppress

from lading.errors import LadingError
from lading.recipe import as_json, lint, parse, plan
from lading.recipe.expand import ExpansionError, Quoting, expand
from lading.recipe.ignore import read_ignore
from lading.recipe.sources import is_git, read_origin, read_source
from lading.runtime.settings import taken

VALUES = {"A": "a*b/c", "EMPTY": ""}


def hold_recipe(text: str) -> None:
    """Read a text as a recipe: every place in it exists, and what is said of it can be shown."""
    with suppress(LadingError):
        read = parse(text)
        for node in read.nodes:
            for where in (node.where, *(word.where for word in node.words), *(flag.where for flag in node.flags)):
                assert 1 <= where.line <= where.end_line <= len(read.script.lines)
                assert where.column >= 1
        with suppress(LadingError):
            made = plan(read, {"A": "x*y"})
            json.dumps(as_json(made)).encode()
        report = lint(read, ignored=read_ignore("*.md"), stored="stored:1".__eq__, taken=taken)
        for finding in report.findings:
            assert all(line.isprintable() for line in read.script.excerpt(finding.where, finding.hint).split("\n"))


def hold_word(text: str, quoting: Quoting, escape: str) -> None:
    """Expand a text: no variable is missed that was not asked for."""
    with suppress(ExpansionError):
        made = expand(text, VALUES, escape=escape, quoting=quoting)
        assert made.unset <= made.used


def hold_source(text: str) -> None:
    """Read a text as what ADD fetches and FROM begins with: what is read can be written."""
    is_git(text)
    for read in (read_source, read_origin):
        with suppress(LadingError):
            assert str(read(text))


def hold_ignore(text: str, path: str) -> None:
    """Read a text as an ignore file: a path is ignored or not."""
    with suppress(LadingError):
        assert read_ignore(text).ignores(path) in (True, False)


def hold_all(text: str) -> None:
    """Read a text as each of these."""
    hold_recipe(text)
    for quoting in Quoting:
        for escape in "\\`":
            hold_word(text, quoting, escape)
    for line in text.split("\n")[:4]:
        hold_source(line)
    hold_ignore(text, "a/b.md")
