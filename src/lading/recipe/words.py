"""An instruction's text cut into words, in the ways that its form allows; quotes and variables stay as they are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.recipe.nodes import Flag, Word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.recipe.nodes import Logical
    from lading.recipe.place import Script

_BLANKS = " \t\v\f\r"
_BARE = re.compile(r"[^ \t\v\f\r]+")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_FLAG_NAME = re.compile(r"--([^=]*)=?")


@dataclass(frozen=True, slots=True)
class Text:
    """A stretch of an instruction, with what is needed to say where its words stand."""

    script: Script
    logical: Logical
    start: int
    escape: str

    def word(self, start: int, end: int) -> Word:
        """Return the word at `[start:end]`."""
        return Word(self.logical.text[start:end], self.logical.range(start, end))


def read_flags(text: Text) -> tuple[tuple[Flag, ...], int]:
    """Read the leading words that begin with `--`; return them and the offset of what follows.

    Quotes are taken off and a backslash escapes, whatever the recipe's escape is. A bare `--` ends the flags.
    """
    line, position = text.logical.text, text.start
    flags: list[Flag] = []
    while True:
        while position < len(line) and line[position] in _BLANKS:
            position += 1
        if not line.startswith("--", position):
            return tuple(flags), position
        start = position
        word, position = _flag_word(line, position)
        if word == "--":
            return tuple(flags), position
        match = _FLAG_NAME.match(word)
        name, equals, value = word[2:].partition("=")
        where = text.logical.range(start, position)
        if match is None or not name:
            raise text.script.error(where, f"`{word}` is no flag", note="a flag is written --name=value")
        flags.append(Flag(name, value if equals else None, where))


def _flag_word(line: str, position: int) -> tuple[str, int]:
    made: list[str] = []
    quote = ""
    while position < len(line):
        char = line[position]
        if char == "\\" and position + 1 < len(line):
            position += 1
            made.append(line[position])
        elif quote:
            quote = "" if char == quote else quote
            if quote:
                made.append(char)
        elif char in "'\"":
            quote = char
        elif char in _BLANKS:
            break
        else:
            made.append(char)
        position += 1
    return "".join(made), position


def bare_words(text: Text) -> tuple[Word, ...]:
    """Cut at blanks, whatever quotes say."""
    return tuple(text.word(*found.span()) for found in _BARE.finditer(text.logical.text, text.start))


def quoted_words(text: Text) -> tuple[Word, ...]:
    """Cut at blanks outside of quotes; an unclosed quote runs to the end, where expansion finds it."""
    return tuple(text.word(start, end) for start, end in _quoted(text.logical.text, text.start, text.escape))


def _quoted(line: str, position: int, escape: str) -> Iterator[tuple[int, int]]:
    start, quote = -1, ""
    while position < len(line):
        char = line[position]
        if start < 0:
            if char in _BLANKS:
                position += 1
                continue
            start = position
        if not quote and char in _BLANKS:
            yield start, position
            start = -1
        elif char == escape and quote != "'":
            position += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        position += 1
    if start >= 0:
        yield start, len(line)


def whole(text: Text) -> Word:
    """Return all that follows as one word, without the blanks around it."""
    line = text.logical.text
    start, end = text.start, len(line)
    while start < end and line[start] in _BLANKS:
        start += 1
    while end > start and line[end - 1] in _BLANKS:
        end -= 1
    return text.word(start, end)


def json_words(text: Text) -> tuple[Word, ...] | None:
    """Read a JSON array of strings; None where the text is none, RecipeError where it holds something else."""
    word = whole(text)
    if not word.text.startswith("["):
        return None
    try:
        values = json.loads(word.text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list):
        return None
    if not all(isinstance(value, str) for value in values):
        raise text.script.error(word.where, "a JSON array of arguments holds strings only")
    if any(_unspeakable(value) for value in values):
        raise text.script.error(word.where, "a string of the array holds a NUL or half of a surrogate pair")
    offset = len(text.logical.text) - len(text.logical.text[text.start :].lstrip(_BLANKS))
    spans = [found.span() for found in _STRING.finditer(word.text)]
    return tuple(
        Word(value, text.logical.range(offset + start, offset + end))
        for value, (start, end) in zip(values, spans, strict=True)
    )


def json_trouble(text: Text) -> str:
    """Say why a text that begins like a JSON array is none; empty where it does not begin so."""
    word = whole(text).text
    if not word.startswith("["):
        return ""
    try:
        json.loads(word)
    except json.JSONDecodeError as error:
        return f"{error.msg.lower()} at its character {error.pos + 1}"
    except (ValueError, RecursionError):
        return "it cannot be read"
    return ""


def _unspeakable(value: str) -> bool:
    return "\0" in value or any("\ud800" <= char <= "\udfff" for char in value)
