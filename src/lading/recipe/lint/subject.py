"""What rules look at, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lading.recipe.contents import Contents
    from lading.recipe.ignore import IgnoreRules
    from lading.recipe.nodes import Node, Recipe
    from lading.recipe.place import Range
    from lading.recipe.plan import Draft, Stage, Step

Level = Literal["warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something doubtful, and where; `hint` says what would be better. A note never fails a build."""

    rule: str
    level: Level
    message: str
    where: Range
    hint: str = ""


Said = tuple["Range", str, str]
"""A place, what is doubtful there, and what would be better."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: `about` is a line for the language page, `look` yields what it has to say of a recipe."""

    name: str
    about: str
    look: Callable[[Subject], Iterable[Said]]
    level: Level = "warning"

    def findings(self, subject: Subject) -> Iterator[Finding]:
        """Yield what the rule finds."""
        return (Finding(self.name, self.level, message, where, hint) for where, message, hint in self.look(subject))


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order of the lines; `fails` says that the recipe wants warnings to be errors."""

    findings: tuple[Finding, ...]
    fails: bool = False

    @property
    def violated(self) -> tuple[str, ...]:
        """The rules whose warnings the recipe wants to be errors."""
        return tuple(sorted({one.rule for one in self.findings if one.level == "warning"})) if self.fails else ()


@dataclass(frozen=True, slots=True)
class Subject:
    """A recipe, its stages with every variable replaced, and what each of them has; `final` is the result's stage.

    `stored` and `taken` are those of `lint`.
    """

    recipe: Recipe
    draft: Draft
    stages: tuple[Stage, ...]
    final: Stage
    contents: Mapping[int, Contents]
    ignored: IgnoreRules | None
    stored: Callable[[str], bool]
    taken: Callable[[str, object], str]

    def nodes(self, keyword: str) -> Iterator[Node]:
        """Yield the instructions of a kind, as written."""
        return (node for node in self.recipe.nodes if node.keyword == keyword)

    def steps(self) -> Iterator[tuple[Node, Step]]:
        """Yield all steps of all stages with their instructions as written."""
        for section, stage in zip(self.draft.outline.sections, self.stages, strict=True):
            yield from zip(section.nodes, stage.steps, strict=True)
