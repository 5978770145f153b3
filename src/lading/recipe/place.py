"""Places in a recipe, and how one is shown: the line, and carets below what is meant."""

from __future__ import annotations

import difflib
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.errors import RecipeError
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lading.errors import LadingError

_WIDEST = 120
_LONGEST = 400
_TAB = "    "
_USER = re.compile(r"(?<=https://)[^/\s@]+(?=@)|(?<=http://)[^/\s@]+(?=@)")


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """From a line and column to another, both counted from 1, in characters; the end column is the first one after."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Script:
    """A recipe's text as it was read: the name that messages give it, and its lines without their ends."""

    name: str
    lines: tuple[str, ...]

    def error(self, where: Range, reason: str, *, note: str = "") -> RecipeError:
        """Return an error that shows the place; `note` stands behind the carets."""
        reason, note = (clean(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…") for text in (reason, note))
        message = self._told(where, reason, note)
        place = (where.line, where.column, where.end_line, where.end_column)
        return RecipeError(message, reason=reason, note=note, file=self.name, place=place)

    def point(self, error: LadingError, where: Range) -> None:
        """Give a failure that has no place yet the one in the recipe that it is about, as the language's own errors have it."""
        if error.placed:
            return
        error.message = self._told(where, error.message)
        error.args = (error.message,)
        error.placed = True

    def _told(self, where: Range, reason: str, note: str = "") -> str:
        return f"{self.at(where)}: error: {reason}\n{self.excerpt(where, note)}"

    def at(self, where: Range) -> str:
        """Write where a place begins: file:line:column."""
        return f"{clean(self.name)}:{where.line}:{where.column}"

    def excerpt(self, where: Range, note: str = "") -> str:
        """Show the place's first line, cut where it is very long, with carets below the place."""
        line = self.lines[where.line - 1] if where.line <= len(self.lines) else ""
        line = _USER.sub(lambda found: "*" * len(found[0]), line)  # what may be a password is not repeated
        start = where.column - 1
        end = where.end_column - 1 if where.end_line == where.line else len(line)
        if len(line) > _WIDEST:
            first = max(0, min(start - _WIDEST // 3, len(line) - _WIDEST))
            cut = "…" if first else ""
            rest = "…" if first + _WIDEST < len(line) else ""
            line = cut + line[first : first + _WIDEST] + rest
            start, end = start - first + len(cut), min(end - first + len(cut), len(line))
        before, marked = _shown(line[:start]), _shown(line[start:end])
        carets = "^" * max(1, _cells(marked))
        shown = f"{where.line:>5} | {before}{marked}{_shown(line[max(start, end) :])}"
        return f"{shown.rstrip()}\n      | {' ' * _cells(before)}{carets} {clean(note)}".rstrip()


def near(word: str, known: Iterable[str]) -> str:
    """Return `did you mean X?` for the known word that resembles this one most, empty if none does."""
    by_fold = {one.casefold(): one for one in known}
    found = difflib.get_close_matches(word.casefold()[:_WIDEST], by_fold, 1)
    return f"did you mean {by_fold[found[0]]}?" if found else ""


def _shown(text: str) -> str:
    return clean(text.replace("\t", _TAB))


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)
