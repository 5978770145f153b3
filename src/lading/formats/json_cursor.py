"""A cursor over a JSON text that holds one window of it: no recursion, no value larger than was asked for."""

from __future__ import annotations

import codecs
import re
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, NoReturn

from lading.errors import FormatError

if TYPE_CHECKING:
    from lading.content import RangeReader

MAX_DEPTH = 64
"""Levels of arrays and objects in a value that is passed over."""

_DECODER = JSONDecoder()
_LONGEST_ATOM = 1024
_STEP = 256 * 1024
_LAST_STEP = 1024 * 1024
_SPACE = re.compile(r"[ \t\n\r]*+")
_ATOM = re.compile(r"true|false|null|-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+")
_CLOSING = {"[": "]", "{": "}"}


class JsonCursor:
    """Reads the JSON between `offset` and `end` of a file, token by token.

    `what` is what messages call the text. Raises FormatError where it is not JSON, not UTF-8, or holds a token of
    more than the `limit` characters that each method is given.
    """

    __slots__ = ("_decoder", "_end", "_offset", "_pos", "_reader", "_text", "what")

    def __init__(self, reader: RangeReader, offset: int, end: int, what: str) -> None:
        self._reader = reader
        self._offset = offset
        self._end = end
        self._text = ""
        self._pos = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.what = what

    def fail(self, why: str) -> NoReturn:
        """Raise the FormatError that says what is wrong with the text."""
        msg = f"{self.what} {why}"
        raise FormatError(msg, hint="the file is damaged or no model: fetch it again") from None

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._pos)
            self._pos = space.end() if space else self._pos
            if self._pos < len(self._text):
                return self._text[self._pos]
            if not self._more():
                return ""

    def take(self, characters: str) -> str:
        """Read one of `characters` and return it."""
        found = self.peek()
        if not found or found not in characters:
            expected = " or ".join(f"`{character}`" for character in characters)
            seen = f"has {found!r}" if found else "ends"
            self.fail(f"{seen} where {expected} is due")
        self._pos += 1
        return found

    def string(self, limit: int) -> str:
        """Read a string of at most `limit` characters as written."""
        if self.peek() != '"':
            self.take('"')
        value: str
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._pos)
            except JSONDecodeError:
                if len(self._text) - self._pos > limit or not self._more():
                    self.fail(f"has a string that is malformed or longer than {limit} characters")
                continue
            if end - self._pos > limit + 2:
                self.fail(f"has a string longer than {limit} characters")
            self._pos = end
            try:
                value.encode()
            except UnicodeEncodeError:
                self.fail("has half of a surrogate pair in a string")
            return value

    def match(self, pattern: re.Pattern[str], limit: int) -> re.Match[str] | None:
        """Read what `pattern` matches here, all of it within `limit` characters; None if it does not.

        The pattern must not match less where the text goes on.
        """
        self.peek()
        while len(self._text) - self._pos < limit and self._more():
            pass
        found = pattern.match(self._text, self._pos)
        if found:
            self._pos = found.end()
        return found

    def skip_value(self, limit: int) -> None:
        """Pass over one value, of which no string is longer than `limit` characters."""
        closing: list[str] = []
        while True:
            first = self.peek()
            if first and first in _CLOSING:
                closing.append(_CLOSING[self.take(first)])
                if len(closing) > MAX_DEPTH:
                    self.fail(f"is nested deeper than {MAX_DEPTH} levels")
                if self.peek() != closing[-1]:
                    self._member_name(closing[-1], limit)
                    continue
            elif first == '"':
                self.string(limit)
            elif not self.match(_ATOM, _LONGEST_ATOM):
                self.fail(f"has {first!r} where a value is due" if first else "ends where a value is due")
            while closing and self.take("," + closing[-1]) != ",":
                closing.pop()
            if not closing:
                return
            self._member_name(closing[-1], limit)

    def finish(self) -> None:
        """Hold the text to have nothing left but white space."""
        if self.peek():
            self.fail("goes on after its end")

    def _member_name(self, closing: str, limit: int) -> None:
        if closing == "}":
            self.string(limit)
            self.take(":")

    def _more(self) -> bool:
        if self._offset >= self._end:
            return False
        wanted = min(max(_STEP, len(self._text) - self._pos), _LAST_STEP, self._end - self._offset)
        data = self._reader.read_at(self._offset, wanted)
        self._offset += len(data)
        if len(data) != wanted:
            msg = f"{self._reader.name} ended at byte {self._offset} while it was read"
            raise FormatError(msg, hint="its size changed; try again when nothing writes to it")
        try:
            fresh = self._decoder.decode(data, self._offset == self._end)
        except UnicodeDecodeError:
            self.fail("is not UTF-8")
        self._text = self._text[self._pos :] + fresh
        self._pos = 0
        return True
