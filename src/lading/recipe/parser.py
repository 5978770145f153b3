"""A recipe's text read into instructions as written: the Dockerfile's lines, with the words of GGUFPackerfiles."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lading.recipe.directives import read_directives
from lading.recipe.nodes import Heredoc, Logical, Node, Recipe, Word
from lading.recipe.place import Range, Script, near
from lading.recipe.words import Text, bare_words, json_trouble, json_words, quoted_words, read_flags, whole

if TYPE_CHECKING:
    from lading.recipe.nodes import Directives

LARGEST = 1_000_000
"""Characters of a recipe: what is longer was not written by somebody."""

KEYWORDS = ("ADD", "ARG", "CAT", "CMD", "CONVERT", "COPY", "FROM", "LABEL", "QUANTIZE")

_DOCKERS = frozenset(
    {
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    }
)
_WITH_JSON = frozenset({"ADD", "CAT", "CMD", "CONVERT", "COPY", "QUANTIZE"})
_WITH_HEREDOCS = frozenset({"ADD", "CAT", "COPY"})
_KEYWORD = re.compile(r"[^ \t\v\f\r]+")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)$", re.ASCII)
_DESCRIPTION = re.compile(r"[ \t]*#[ \t]*([A-Za-z_][A-Za-z0-9_.-]*)[ \t]+(\S.*?)[ \t\r]*$")
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)
_BLANKS = " \t\v\f\r"


def parse(text: str, name: str = "GGUFPackerfile") -> Recipe:
    """Read a recipe; `name` is the file's in messages. Raises RecipeError, with the place, where it cannot be read."""
    lines = tuple(line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n"))
    script = Script(name, lines)
    if len(text) > LARGEST:
        raise script.error(Range(1, 1, 1, 1), f"the recipe is longer than {LARGEST:,} characters")
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            column = line.index("\0") + 1
            raise script.error(Range(number, column, number, column + 1), "a recipe holds no NUL characters")
    directives = read_directives(script)
    reader = _Reader(script, directives, text.removeprefix("\ufeff").split("\n"))
    while reader.next < len(lines):
        reader.read_one()
    if not reader.nodes:
        what = "holds no instruction" if text.strip() else "is empty"
        raise script.error(Range(1, 1, 1, 1), f"the recipe {what}", note="one begins with FROM")
    return Recipe(script, directives, tuple(reader.nodes), tuple(reader.empty))


@dataclass(slots=True)
class _Reader:
    """Walks over the lines; `next` is the index of the first one that is not read yet."""

    script: Script
    directives: Directives
    raw: list[str]
    next: int = 0
    nodes: list[Node] = field(default_factory=list)
    empty: list[Range] = field(default_factory=list)
    comment: str = ""

    def read_one(self) -> None:
        """Read one instruction with its heredocs, or one line that is none."""
        line = self.script.lines[self.next].lstrip(_BLANKS)
        if not line or line.startswith("#"):
            self.comment = self.script.lines[self.next] if line else ""
            self.next += 1
            return
        first = self.next
        logical = self._join()
        if not logical.text.strip():
            return
        node = self._node(logical)
        if node.keyword in _WITH_HEREDOCS and not node.is_json:
            node = replace(node, words=tuple(self._with_heredoc(word) for word in node.words))
        last = self.script.lines[self.next - 1]
        where = Range(first + 1, node.where.column, self.next, len(last) + 1)
        self.nodes.append(replace(node, where=where, description=self._description(node)))
        self.comment = ""

    def _join(self) -> Logical:
        """Join a line with those that continue it; comments among them are dropped, and so are empty lines."""
        pieces: list[str] = []
        starts: list[int] = []
        places: list[tuple[int, int]] = []
        offset, gaps = 0, []
        while self.next < len(self.script.lines):
            line = self.script.lines[self.next]
            number = self.next + 1
            self.next += 1
            bare = line.lstrip(_BLANKS)
            if pieces and not bare:
                gaps.append(Range(number, 1, number, len(line) + 1))
                continue
            if pieces and bare.startswith("#"):
                continue
            column = 1 if pieces else len(line) - len(bare) + 1
            piece, goes_on = self._without_escape(line[column - 1 :])
            starts.append(offset)
            places.append((number, column))
            pieces.append(piece)
            offset += len(piece)
            if not goes_on:
                self.empty += gaps
                break
        return Logical("".join(pieces), tuple(starts), tuple(places))

    def _without_escape(self, line: str) -> tuple[str, bool]:
        escape = self.directives.escape
        stripped = line.rstrip(" \t")
        if not stripped.endswith(escape) or stripped.endswith(escape * 2):
            return line, False
        return stripped[:-1], True

    def _node(self, logical: Logical) -> Node:
        found = _KEYWORD.search(logical.text)
        start, end = found.span() if found else (0, 0)
        written, where = logical.text[start:end], logical.range(start, end)
        keyword = written.upper()
        if keyword not in KEYWORDS:
            raise self.script.error(where, f"unknown instruction `{written}`", note=_instead(keyword))
        text = Text(self.script, logical, end, self.directives.escape)
        flags, offset = read_flags(text)
        text = replace(text, start=offset)
        words = json_words(text) if keyword in _WITH_JSON else None
        is_json, is_legacy = words is not None, False
        if words is None:
            words, is_legacy = self._words(keyword, text)
        line, column = logical.place(start)
        return Node(
            keyword,
            written,
            flags,
            words,
            is_json,
            logical.text.strip(),
            Range(line, column, line, column),
            where,
            is_legacy=is_legacy,
        )

    def _words(self, keyword: str, text: Text) -> tuple[tuple[Word, ...], bool]:
        match keyword:
            case "CMD":
                word = whole(text)
                if not word.text:
                    return (), False
                trouble = json_trouble(text)
                note = trouble and f"no JSON: {trouble}"
                reason = 'CMD takes a JSON array, like ["-m", "model.gguf"]'
                raise self.script.error(word.where, reason, note=note)
            case "ARG" | "CAT":
                return quoted_words(text), False
            case "LABEL":
                words = quoted_words(text)
                if not words or "=" in words[0].text:
                    return words, False
                rest = whole(
                    replace(text, start=text.logical.text.index(words[0].text, text.start) + len(words[0].text))
                )
                return (words[0], rest) if rest.text else (words[0],), True
            case _:
                return bare_words(text), False

    def _with_heredoc(self, word: Word) -> Word:
        match = _HEREDOC.fullmatch(word.text)
        if match is None:
            return word
        name = _unquoted(match[2])
        if not name:
            return word
        body: list[str] = []
        while self.next < len(self.script.lines):
            line = self.script.lines[self.next]
            raw = self.raw[self.next]
            self.next += 1
            if (line.lstrip("\t") if match[1] else line) == name:
                content = "".join(f"{one}\n" for one in body)
                if match[1]:
                    content = _LEADING_TABS.sub("", content)
                return replace(word, heredoc=Heredoc(name, content, name == match[2]))
            body.append(raw)
        raise self.script.error(word.where, "unterminated heredoc", note=f"a line `{name}` should end it")

    def _description(self, node: Node) -> str:
        """Return the comment above an ARG or FROM that begins with the name it describes."""
        match = _DESCRIPTION.match(self.comment)
        if match is None or node.keyword not in ("ARG", "FROM") or not node.words:
            return ""
        name = node.words[0 if node.keyword == "ARG" else -1].text.partition("=")[0]
        return match[2] if match[1].casefold() == name.casefold() else ""


def _unquoted(name: str) -> str:
    """Take the quotes off a heredoc's name; empty where they do not close."""
    made, quote = [], ""
    for char in name:
        if quote:
            quote = "" if char == quote else quote
            if quote:
                made.append(char)
        elif char in "'\"":
            quote = char
        elif char != "\\":
            made.append(char)
    return "" if quote else "".join(made)


def _instead(keyword: str) -> str:
    if keyword in _DOCKERS:
        return "a recipe runs no commands and sets no environment"
    return near(keyword, KEYWORDS)
