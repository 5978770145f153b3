r"""Shell patterns on strings, in time linear in the string: `*` anything, `?` one character, `\` takes the next as it is.

A pattern is cut at its stars into pieces of fixed length. Each is looked for once, from where the one before ended:
the first find leaves the most to those after it, so nothing is ever tried again.
"""

from __future__ import annotations

import re


class Pattern:
    """A pattern, ready to be held against strings."""

    def __init__(self, text: str) -> None:
        pieces = _pieces(text)
        self._forward = [_compiled(piece) for piece in pieces]
        self._backward = [_compiled(piece[::-1]) for piece in reversed(pieces)]

    def without_start(self, value: str, *, longest: bool) -> str:
        """Return the value without its shortest or longest beginning that matches."""
        end = _end(self._forward, self._backward[0], value, 0, longest=longest)
        return value if end is None else value[end:]

    def without_end(self, value: str, *, longest: bool) -> str:
        """Return the value without its shortest or longest end that matches."""
        end = _end(self._backward, self._forward[0], value[::-1], 0, longest=longest)
        return value if end is None else value[: len(value) - end]

    def replace(self, value: str, replacement: str, *, every: bool, most: int) -> str | None:
        """Return the value with the first, or every, longest match replaced; an empty match is none.

        None says that the result would be longer than about `most` characters.
        """
        made: list[str] = []
        position = grown = 0
        while position < len(value):
            found = self._forward[0].search(value, position)
            end = None if found is None else _end(self._forward, self._backward[0], value, found.start(), longest=True)
            if found is None or end is None or end == found.start():
                break
            made += (value[position : found.start()], replacement)
            position = end
            grown += len(replacement)
            if grown > most:
                return None
            if not every:
                break
        return "".join(made) + value[position:]


def _end(pieces: list[re.Pattern[str]], last: re.Pattern[str], value: str, start: int, *, longest: bool) -> int | None:
    """Return where the shortest or longest match that begins at `start` ends; None where none does.

    `last` is the last piece, backwards.
    """
    found = pieces[0].match(value, start)
    if found is None:
        return None
    position = found.end()
    for piece in pieces[1:-1]:
        found = piece.search(value, position)
        if found is None:
            return None
        position = found.end()
    if len(pieces) == 1:
        return position
    if longest:
        found = last.search(value[position:][::-1])
        return None if found is None else len(value) - found.start()
    found = pieces[-1].search(value, position)
    return None if found is None else found.end()


def _pieces(text: str) -> list[str]:
    """Cut at the stars; in a piece every character is itself, and NUL is any."""
    pieces: list[str] = [""]
    escaped = False
    for char in text:
        if escaped:
            pieces[-1] += char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "*":
            pieces.append("")
        else:
            pieces[-1] += "\0" if char == "?" else char
    return [pieces[0], *(piece for piece in pieces[1:-1] if piece), pieces[-1]] if len(pieces) > 1 else pieces


def _compiled(piece: str) -> re.Pattern[str]:
    return re.compile("".join("." if char == "\0" else re.escape(char) for char in piece), re.DOTALL)
