"""What the parser makes of a recipe: instructions as written, every word with its place."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.recipe.place import Range

if TYPE_CHECKING:
    from lading.recipe.place import Script


@dataclass(frozen=True, slots=True)
class Logical:
    """An instruction's text with its continuation lines joined, and where each piece of it stands.

    `starts` are the offsets at which the pieces begin, `places` the (line, column) of each.
    """

    text: str
    starts: tuple[int, ...]
    places: tuple[tuple[int, int], ...]

    def place(self, offset: int) -> tuple[int, int]:
        """Return the line and column of an offset."""
        index = max(0, bisect_right(self.starts, offset) - 1)
        line, column = self.places[index]
        return line, column + offset - self.starts[index]

    def range(self, start: int, end: int) -> Range:
        """Return the place of `text[start:end]`."""
        line, column = self.place(start)
        if end <= start:
            return Range(line, column, line, column)
        end_line, end_column = self.place(end - 1)
        return Range(line, column, end_line, end_column + 1)


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A document that stands below its instruction; `expands` says that variables in it are replaced."""

    name: str
    content: str
    expands: bool


@dataclass(frozen=True, slots=True)
class Word:
    """One argument as written, quotes and variables in it untouched; a heredoc's word carries its document."""

    text: str
    where: Range
    heredoc: Heredoc | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag as written, without its dashes; `value` is None where there is no `=`."""

    name: str
    value: str | None
    where: Range


@dataclass(frozen=True, slots=True)
class Node:
    """One instruction as written. `is_json` tells the form of its arguments; `description` is the comment above it."""

    keyword: str
    written: str
    flags: tuple[Flag, ...]
    words: tuple[Word, ...]
    is_json: bool
    text: str
    where: Range
    keyword_where: Range
    description: str = ""
    is_legacy: bool = False


@dataclass(frozen=True, slots=True)
class Directives:
    """What the head of a recipe asks for; `check` is the value of `# check=`, None where there is none."""

    syntax: str | None = None
    escape: str = "\\"
    check: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A parsed recipe. `empty_continuations` are the places of empty lines within an instruction."""

    script: Script
    directives: Directives
    nodes: tuple[Node, ...]
    empty_continuations: tuple[Range, ...] = ()
