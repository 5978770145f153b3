"""A recipe's stages as written: what is global, where each begins, and what they need of one another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.errors import UsageError
from lading.recipe.flags import check_flags
from lading.recipe.place import near
from lading.recipe.sources import Context, StageFiles, read_origin

if TYPE_CHECKING:
    from collections.abc import Collection

    from lading.errors import RecipeError
    from lading.recipe.nodes import Flag, Node, Recipe, Word
    from lading.recipe.place import Range, Script
    from lading.recipe.sources import Origin

_NAME = re.compile(r"[a-z][a-z0-9-_.]*", re.ASCII)
_WITH_NAME = 3
_MOST_STAGES = 1000


@dataclass(frozen=True, slots=True)
class Section:
    """A stage as written: its FROM, its name in lower case (None: it has none), and what stands below."""

    index: int
    start: Node
    name: str | None
    name_word: Word | None
    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        return self.name or str(self.index)


@dataclass(frozen=True, slots=True)
class Outline:
    """The global ARGs and the stages, in order; `contexts` are the named ones of the build."""

    script: Script
    globals: tuple[Node, ...]
    sections: tuple[Section, ...]
    contexts: frozenset[str]

    def before(self, name: str, index: int) -> Section | None:
        """Return the last stage of that name before a stage; None where none has it."""
        wanted = name.lower()
        return next((one for one in reversed(self.sections[:index]) if one.name == wanted), None)

    def target(self, name: str | None) -> Section:
        """Return the stage of that name or number, by default the last one; raises UsageError for another."""
        if name is None:
            return self.sections[-1]
        if found := self.before(name, len(self.sections)):
            return found
        if name.isdecimal() and name.isascii() and int(name[:6]) < len(self.sections):
            return self.sections[int(name[:6])]
        msg = f"{self.script.name} has no stage `{name}`"
        names = [one.name for one in self.sections if one.name]
        raise UsageError(msg, hint=near(name, names) or f"its stages are {', '.join(map(str, self.sections))}")

    def find(self, flag: Flag, here: Section) -> Origin:
        """Tell what a `--from` in a stage names: a stage before it, a context, or an image."""
        name = flag.value or ""
        if name.isdecimal() and name.isascii():
            index = int(name[:6])
            if index >= len(self.sections):
                raise self.script.error(flag.where, f"there is no stage {name}", note="stages count from 0")
            return self._stage(flag, here, self.sections[index])
        if found := self.before(name, here.index):
            return StageFiles(found.index)
        later = self._after(name, here.index)
        if later is not None:
            return self._stage(flag, here, later)
        if name == "context":
            return Context()
        if name in self.contexts:
            return Context(name)
        try:
            return read_origin(name)
        except UsageError as error:
            note = near(name, [one.name for one in self.sections[: here.index] if one.name]) or error.hint
            raise self.script.error(flag.where, error.message, note=note) from None

    def _stage(self, flag: Flag, here: Section, other: Section) -> StageFiles:
        if other.index < here.index:
            return StageFiles(other.index)
        if other is here:
            raise self.script.error(flag.where, f"the stage `{here}` takes files from itself")
        raise self._below(flag.where, here, other, "move it up")

    def _below(self, where: Range, here: Section, other: Section, note: str) -> RecipeError:
        if here.index in self.needs(other):
            return self.script.error(where, f"the stages `{here}` and `{other}` need each other")
        return self.script.error(where, f"the stage `{other}` stands below `{here}`, which needs it", note=note)

    def refuse_later(self, base: str, here: Section) -> None:
        """Raise RecipeError where a stage is based on one below; what is called after its own base is an image."""
        later = self._after(base, here.index + 1)
        if later is not None and later.start.words[0].text.lower() != later.name:
            note = "move it up, or call it otherwise if an image is meant"
            raise self._below(here.start.words[0].where, here, later, note)

    def _after(self, name: str, index: int) -> Section | None:
        """Return the first stage of that name from an index on; None where none has it."""
        return next((one for one in self.sections[index:] if one.name == name.lower()), None)

    def named_before(self, section: Section) -> set[int]:
        """Return the stages before a stage from which its instructions take files."""
        found = set()
        for node in section.nodes:
            for flag in node.flags:
                if flag.name == "from":
                    origin = self.find(flag, section)
                    found |= {origin.index} if isinstance(origin, StageFiles) else set()
        return found

    def needs(self, section: Section) -> set[int]:
        """Return the stages that a stage names, as its base or in `--from`, whether they stand before it or not."""
        base = section.start.words[0].text.lower()
        found = {one.index for one in self.sections if one.name == base}
        for node in section.nodes:
            for flag in node.flags:
                if flag.name == "from" and flag.value:
                    named = flag.value.lower()
                    found |= {one.index for one in self.sections if named in (one.name, str(one.index))}
        return found


def outline(recipe: Recipe, contexts: Collection[str] = ()) -> Outline:
    """Find the stages of a recipe; raises RecipeError for an instruction before the first, or a FROM that is none."""
    script = recipe.script
    first = next((n for n, node in enumerate(recipe.nodes) if node.keyword == "FROM"), len(recipe.nodes))
    for node in recipe.nodes[:first]:
        if node.keyword != "ARG":
            reason = f"{node.written} stands before the first FROM"
            raise script.error(node.keyword_where, reason, note="only ARG may")
    if first == len(recipe.nodes):
        raise script.error(recipe.nodes[-1].keyword_where, "the recipe has no FROM", note="every stage begins with one")
    starts = [n for n, node in enumerate(recipe.nodes) if node.keyword == "FROM"]
    if len(starts) > _MOST_STAGES:
        node = recipe.nodes[starts[_MOST_STAGES]]
        raise script.error(node.keyword_where, f"the recipe has more than {_MOST_STAGES:,} stages")
    sections = []
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(recipe.nodes)], strict=True)):
        node = recipe.nodes[start]
        name = _name(node, script)
        sections.append(Section(index, node, name.text.lower() if name else None, name, recipe.nodes[start + 1 : end]))
    for node in recipe.nodes:
        check_flags(node, script)
    return Outline(script, recipe.nodes[:first], tuple(sections), frozenset(contexts))


def _name(node: Node, script: Script) -> Word | None:
    words = node.words
    if len(words) not in (1, _WITH_NAME):
        where = words[1].where if len(words) > 1 else node.keyword_where
        raise script.error(where, "FROM takes a base, or a base AS a name")
    if len(words) == 1:
        return None
    if words[1].text.lower() != "as":
        raise script.error(words[1].where, f"`{words[1].text}` stands where AS should", note="FROM base AS name")
    if _NAME.fullmatch(words[2].text.lower()) is None:
        reason = f"`{words[2].text}` is no name for a stage"
        raise script.error(words[2].where, reason, note="a letter, then letters, digits, `-`, `_` or `.`")
    return words[2]
