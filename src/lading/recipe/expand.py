r"""Variables in words, as a Dockerfile has them.

    $V ${V}                   the value, empty where there is none
    ${V-x} ${V:-x}            x where V is unset (with the colon: or empty)
    ${V+x} ${V:+x}            x where V is set (with the colon: and not empty), else nothing
    ${V?e} ${V:?e}            an error saying e where V is unset (with the colon: or empty)
    ${V#p} ${V##p}            without the shortest or longest beginning that matches p
    ${V%p} ${V%%p}            without the shortest or longest end that matches p
    ${V/p/r} ${V//p/r}        with the first or every match of p replaced by r

In a pattern `*` matches anything, `?` one character, and `\` takes the next one as it is.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from lading.recipe.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

_LETTERS = frozenset(string.ascii_letters + "_")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]", re.ASCII)
_DEEPEST = 50
_LONGEST = 1 << 20
"""Characters of one expanded word: what a variable that holds itself many times over may grow to."""
_MOST = 1 << 26
_DEAR_PATTERN = 16


class Quoting(Enum):
    """What quotes and escapes are in the text: a word's, a heredoc's, or those of a JSON string."""

    WORD = "word"
    """Quotes group and vanish; the escape takes the next character as it is."""
    HEREDOC = "heredoc"
    """Quotes stay; the backslash takes the next character as it is."""
    JSON = "json"
    """Quotes stay, and the backslash too unless a `$` follows: JSON has undone its own already."""


class ExpansionError(ValueError):
    """A word cannot be expanded; the message says why."""


@dataclass(slots=True)
class Budget:
    """How many characters of variables' values may yet be handled: what bounds the time that a hostile recipe takes."""

    left: int = _MOST

    def spend(self, count: int) -> None:
        """Take some off; raises ExpansionError when nothing is left."""
        self.left -= count
        if self.left < 0:
            msg = f"all variables together grow beyond {_MOST:,} characters"
            raise ExpansionError(msg)


@dataclass(slots=True)
class Expansion:
    """What came of a word: its value, and the variables that it used, those without a value apart."""

    value: str
    used: set[str]
    unset: set[str]


def expand(
    text: str,
    values: Mapping[str, str],
    *,
    escape: str = "\\",
    quoting: Quoting = Quoting.WORD,
    budget: Budget | None = None,
) -> Expansion:
    """Replace the variables of a text; raises ExpansionError where it is malformed, or grows beyond all measure.

    A `budget` is shared by all words of a recipe.
    """
    escape = escape if quoting is Quoting.WORD else "\\"
    if "$" not in text and escape not in text and (quoting is not Quoting.WORD or not ("'" in text or '"' in text)):
        return Expansion(text, set(), set())
    lexer = _Lexer(text, values, escape, quoting, budget or Budget())
    value = lexer.until("")
    return Expansion(value, lexer.used, lexer.unset)


@dataclass(slots=True)
class _Lexer:
    text: str
    values: Mapping[str, str]
    escape: str
    quoting: Quoting
    budget: Budget
    position: int = 0
    depth: int = 0
    used: set[str] = field(default_factory=set)
    unset: set[str] = field(default_factory=set)

    def until(self, stop: str, *, raw: bool = False) -> str:
        """Expand up to the character `stop`, which is passed over, or with "" to the end.

        `raw` keeps escapes, for a pattern to read them.
        """
        made: list[str] = []
        length = 0
        while self.position < len(self.text):
            char = self.text[self.position]
            self.position += 1
            if char == stop:
                return "".join(made)
            if char == "$":
                piece = self._dollar()
            elif char == self.escape:
                piece = self._escaped(raw=raw)
            elif char == "'" and self.quoting is Quoting.WORD:
                piece = self._single()
            elif char == '"' and self.quoting is Quoting.WORD:
                piece = self._double()
            else:
                piece = char
            made.append(piece)
            length += len(piece)
            if length > _LONGEST:
                raise _grown()
        if stop:
            msg = f"`{stop}` is missing"
            raise ExpansionError(msg)
        return "".join(made)

    def _escaped(self, *, raw: bool) -> str:
        if self.position == len(self.text):
            return self.escape if self.quoting is Quoting.JSON else ""
        char = self.text[self.position]
        if self.quoting is Quoting.JSON and char != "$" and not (self.depth and char in "}/"):
            return self.escape
        self.position += 1
        return self.escape + char if raw else char

    def _single(self) -> str:
        end = self.text.find("'", self.position)
        if end < 0:
            msg = "a single quote is not closed"
            raise ExpansionError(msg)
        piece = self.text[self.position : end]
        self.position = end + 1
        return piece

    def _double(self) -> str:
        made: list[str] = []
        while self.position < len(self.text):
            char = self.text[self.position]
            self.position += 1
            if char == '"':
                return "".join(made)
            if char == "$":
                made.append(self._dollar())
            elif char == self.escape and self.position < len(self.text):
                following = self.text[self.position]
                self.position += 1
                made.append(following if following in ('"', "$", self.escape) else char + following)
            else:
                made.append(char)
        msg = "a double quote is not closed"
        raise ExpansionError(msg)

    def _dollar(self) -> str:
        if self.position < len(self.text) and self.text[self.position] == "{":
            self.position += 1
            self.depth += 1
            if self.depth > _DEEPEST:
                msg = f"`${{` stands within itself more than {_DEEPEST} times"
                raise ExpansionError(msg)
            value = self._braced()
            self.depth -= 1
            return value
        name = self._name()
        return self._get(name) or "" if name else "$"

    def _name(self) -> str:
        match = _NAME.match(self.text, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match[0]

    def _get(self, name: str) -> str | None:
        self.used.add(name)
        value = self.values.get(name)
        if value is None:
            self.unset.add(name)
        else:
            self.budget.spend(len(value))
        return value

    def _take(self) -> str:
        if self.position == len(self.text):
            msg = "`}` is missing"
            raise ExpansionError(msg)
        self.position += 1
        return self.text[self.position - 1]

    def _braced(self) -> str:
        start = self.position
        name = self._name()
        if not name:
            self._take()
            msg = f"`${{{self.text[start]}` names no variable"
            raise ExpansionError(msg)
        operator = self._take()
        if operator == "}":
            return self._get(name) or ""
        colon = operator == ":"
        if colon:
            operator = self._take()
        if operator in "-+?":
            return self._guarded(name, operator, colon=colon)
        if operator in "#%" and not colon:
            return self._trimmed(name, operator)
        if operator == "/" and not colon:
            return self._replaced(name)
        msg = f"`{':' if colon else ''}{operator}` is no operator within `${{{name}…}}`"
        raise ExpansionError(msg)

    def _guarded(self, name: str, operator: str, *, colon: bool) -> str:
        self.used.add(name)
        value = self.values.get(name)
        word = self.until("}")
        self.budget.spend(len(value or ""))
        missing = value is None or (colon and value == "")
        if operator == "-":
            return word if missing else value or ""
        if operator == "+":
            return "" if missing else word
        if missing:
            reason = word or ("is empty" if value == "" else "is not set")
            msg = f"{name}: {reason}"
            raise ExpansionError(msg)
        return value or ""

    def _trimmed(self, name: str, operator: str) -> str:
        value = self._get(name) or ""
        pattern = self.until("}", raw=True)
        self.budget.spend(len(value) * len(pattern) // _DEAR_PATTERN)
        longest = pattern.startswith(operator)
        made = Pattern(pattern.removeprefix(operator))
        return (
            made.without_start(value, longest=longest) if operator == "#" else made.without_end(value, longest=longest)
        )

    def _replaced(self, name: str) -> str:
        value = self._get(name) or ""
        every = self.text.startswith("/", self.position)
        self.position += every
        pattern = self.until("/", raw=True)
        self.budget.spend(len(value) * len(pattern) // _DEAR_PATTERN)
        replacement = self.until("}")
        made = Pattern(pattern).replace(value, replacement, every=every, most=_LONGEST)
        if made is None:
            raise _grown()
        self.budget.spend(len(made))
        return made


def _grown() -> ExpansionError:
    return ExpansionError(f"the value grows beyond {_LONGEST:,} characters")
