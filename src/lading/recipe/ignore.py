"""Ignore files: which paths of the context a build leaves out (`.dockerignore`, `.ggufpackerignore`).

One pattern a line; `#` begins a comment. `*` and `?` stay within a folder, `**` crosses folders, `!` takes paths back
in. The last pattern that matches decides, and what matches a folder matches all that lies in it.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = (".ggufpackerignore", ".dockerignore")
"""The names an ignore file has in the context; `<recipe>.ggufpackerignore` and `<recipe>.dockerignore` go before."""


def file_names(recipe: str) -> tuple[str, ...]:
    """Return the names of the ignore files of a recipe, the one that counts first."""
    return (*(f"{recipe}{name}" for name in FILES), *FILES)


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    takes_back: bool


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The patterns of an ignore file, in order."""

    rules: tuple[_Rule, ...] = ()

    def ignores(self, path: str) -> bool:
        """Say whether a path of the context, written from its root with `/`, is left out."""
        parts = _clean(path).split("/")
        heads = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        ignored = False
        for rule in self.rules:
            if ignored == rule.takes_back and any(map(rule.pattern.fullmatch, heads)):
                ignored = not rule.takes_back
        return ignored

    def prunes(self, folder: str) -> bool:
        """Say whether nothing in a folder can be kept, so that nobody need look into it."""
        return self.ignores(folder) and not any(rule.takes_back for rule in self.rules)


def read_ignore(text: str, name: str = ".dockerignore") -> IgnoreRules:
    """Read an ignore file; raises FormatError, with the line, for a pattern that is none."""
    return IgnoreRules(tuple(_rules(text.removeprefix("\ufeff"), name)))


def _rules(text: str, name: str) -> Iterator[_Rule]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        takes_back = pattern.startswith("!")
        pattern = pattern[takes_back:].strip()
        if not pattern:
            if takes_back:
                msg = f"{name}:{number}: error: `!` stands alone"
                raise FormatError(msg, hint="a pattern comes behind it, with no blank between", placed=True)
            continue
        cleaned = _clean(pattern)
        # The root itself cannot be left out: `.` and `/` say nothing, as with Docker.
        if cleaned in (".", ""):
            continue
        try:
            yield _Rule(_compiled(cleaned), takes_back)
        except (re.error, ValueError):
            msg = f"{name}:{number}: error: `{pattern}` is no pattern"
            hint = "a `[` is closed by `]`, and a `\\` has something behind it"
            raise FormatError(msg, hint=hint, placed=True) from None


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))[1:] if path.strip("/") else ""


def _compiled(pattern: str) -> re.Pattern[str]:
    made: list[str] = []
    position = 0
    pattern = re.sub(r"(?:\*\*/)+", "**/", pattern)
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            many = pattern.startswith("*", position)
            while pattern.startswith("*", position):
                position += 1
            if not many:
                made.append("[^/]*")
            elif position == len(pattern):
                made.append(".*")
            elif pattern[position] == "/":
                position += 1
                made.append("(?:.*/)?")
            else:
                made.append(".*")
        elif char == "?":
            made.append("[^/]")
        elif char == "[":
            end = pattern.index("]", position + 1)
            made.append(_class(pattern[position:end]))
            position = end + 1
        elif char == "\\":
            made.append(re.escape(pattern[position]) if position < len(pattern) else _dangling())
            position += 1
        else:
            made.append(re.escape(char))
    return re.compile("".join(made), re.DOTALL)


def _class(inside: str) -> str:
    """Write what stands between brackets as a regular expression's class, with no meaning but ranges and `^`."""
    negated = inside.startswith("^")
    body = inside[negated:]
    made: list[str] = []
    position = 0
    while position < len(body):
        char, position = body[position], position + 1
        if body.startswith("-", position) and position + 1 < len(body):
            made.append(f"{re.escape(char)}-{re.escape(body[position + 1])}")
            position += 2
        else:
            made.append(re.escape(char))
    return f"(?!/)[{'^' if negated else ''}{''.join(made)}]"


def _dangling() -> str:
    msg = "a backslash at the end"
    raise ValueError(msg)
