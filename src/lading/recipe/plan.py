"""A plan: the stages that a build needs, in order, each a list of typed instructions with every variable replaced."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING

from lading.errors import UsageError
from lading.recipe.instructions import Cmd, Convert, Copy, From, Quantize
from lading.recipe.nodes import Word
from lading.recipe.outline import outline
from lading.recipe.place import Range
from lading.recipe.reading import read
from lading.recipe.scope import Platform, Scope, platform_values, read_platform
from lading.recipe.sources import Context, Scratch, StageFiles, read_origin

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from lading.recipe.instructions import Instruction
    from lading.recipe.nodes import Flag, Node, Recipe
    from lading.recipe.outline import Outline, Section
    from lading.recipe.sources import Origin


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: typed, as it was written, and where it stands."""

    instruction: Instruction
    text: str
    where: Range


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage, its place among the recipe's, and the stages whose files it takes.

    `command` is the last CMD of the stage, else that of the stage it is based on; None leaves it to the base image.
    """

    index: int
    name: str | None
    base: From
    steps: tuple[Step, ...]
    needs: frozenset[int]
    command: Cmd | None
    where: Range


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build does: the needed stages in order, the last of which is the target.

    `unused` are the build arguments that no ARG names.
    """

    stages: tuple[Stage, ...]
    platform: Platform
    unused: tuple[str, ...] = ()

    @property
    def target(self) -> Stage:
        """The stage whose files are the result."""
        return self.stages[-1]

    @property
    def command_where(self) -> Range:
        """Where the CMD of the result stands; its FROM where no stage has one."""
        command = self.target.command
        places = (step.where for one in self.stages for step in one.steps if step.instruction is command)
        return next(places, self.target.where)


@dataclass(slots=True)
class Draft:
    """Every stage of a recipe, resolved or not; the linter looks at it, and a plan is cut out of it.

    With `lenient` a FROM whose variables give nothing is taken as scratch, for the linter to tell about.
    """

    outline: Outline
    scope: Scope
    target: Platform
    lenient: bool = False
    stages: dict[int, Stage] = field(default_factory=dict)
    scopes: dict[int, Scope] = field(default_factory=dict)
    blank_bases: list[Node] = field(default_factory=list)

    def base(self, section: Section) -> From:
        """Read the FROM of a stage."""
        script, node = self.scope.script, section.start
        word = node.words[0]
        text = self.scope.expand(word, is_from=True)
        platform = self._platform(node)
        if not text:
            if self.lenient:
                return self._scratch(section, platform)
            reason = "the base of the stage is empty"
            raise script.error(word.where, reason, note="no variable in it has a value" if "$" in word.text else "")
        if found := self.outline.before(text, section.index):
            return From(StageFiles(found.index), platform, section.name)
        if text in self.outline.contexts:
            return From(Context(text), platform, section.name)
        self.outline.refuse_later(text, section)
        try:
            return From(read_origin(text), platform, section.name)
        except UsageError as error:
            if self.lenient and "$" in word.text:
                return self._scratch(section, platform)
            raise script.error(word.where, error.message, note=error.hint) from None

    def _scratch(self, section: Section, platform: str | None) -> From:
        self.blank_bases.append(section.start)
        return From(Scratch(), platform, section.name)

    def _platform(self, node: Node) -> str | None:
        flag = next((one for one in node.flags if one.name == "platform"), None)
        if flag is None or flag.value is None:
            return None
        text = self.scope.expand(Word(flag.value, flag.where), is_from=True)
        try:
            return str(read_platform(text)) if text else None
        except UsageError as error:
            raise self.scope.script.error(flag.where, error.message, note=error.hint) from None

    def read(self, section: Section, base: From) -> Stage:
        """Read a stage; those it is based on must have been read."""
        # As with Docker, a stage has the variables of the one that it is based on.
        above = self.scopes[base.base.index] if isinstance(base.base, StageFiles) else self.scope
        scope = self.scopes[section.index] = above.inner()

        def find(flag: Flag) -> Origin:
            return self.outline.find(flag, section)

        steps = tuple(Step(read(node, scope, find), node.text, node.where) for node in section.nodes)
        commands = [step.instruction for step in steps if isinstance(step.instruction, Cmd)]
        inherited = self.stages[base.base.index].command if isinstance(base.base, StageFiles) else None
        stage = Stage(
            section.index,
            section.name,
            base,
            steps,
            frozenset(_needs(base, steps)),
            commands[-1] if commands else inherited,
            section.start.where,
        )
        self.stages[section.index] = stage
        return stage


def plan(
    recipe: Recipe,
    build_args: Mapping[str, str] | None = None,
    target: str | None = None,
    platform: str = "linux/amd64",
    *,
    build_platform: str | None = None,
    contexts: Collection[str] = (),
) -> Plan:
    """Plan the build of a stage, by default the last one.

    `contexts` are the names of the build's further contexts. Stages that the target does not need are held to the
    language's grammar and no more. Raises RecipeError, with the place, for what is wrong in the recipe, and
    UsageError for a target that it does not have, or a platform that is none.
    """
    draft = begin(recipe, build_args or {}, platform, build_platform or platform, contexts)
    wanted = draft.outline.target(target)
    bases = {one.index: draft.base(one) for one in draft.outline.sections[: wanted.index + 1]}
    needed = {wanted.index}
    for section in reversed(draft.outline.sections[: wanted.index + 1]):
        if section.index in needed:
            base = bases[section.index].base
            needed |= {base.index} if isinstance(base, StageFiles) else set()
            needed |= draft.outline.named_before(section)
    for index in sorted(needed):
        draft.read(draft.outline.sections[index], bases[index])
    named = {word.text.partition("=")[0] for node in recipe.nodes if node.keyword == "ARG" for word in node.words}
    unused = tuple(sorted(set(build_args or ()) - named - set(draft.scope.values)))
    return Plan(tuple(draft.stages[index] for index in sorted(needed)), draft.target, unused)


def begin(
    recipe: Recipe,
    build_args: Mapping[str, str],
    platform: str,
    build_platform: str,
    contexts: Collection[str] = (),
    *,
    lenient: bool = False,
) -> Draft:
    """Find a recipe's stages and read its global ARGs."""
    made = outline(recipe, contexts)
    target = read_platform(platform)
    predefined = platform_values(target, read_platform(build_platform))
    values = {name: build_args.get(name, value) for name, value in predefined.items()}
    scope = Scope(recipe.script, recipe.directives.escape, build_args, values)

    for node in made.globals:
        read(node, scope, partial(made.find, here=made.sections[0]))
    return Draft(made, scope, target, lenient)


def as_json(value: object) -> object:
    """Return a plan, or a part of one, as plain values for JSON.

    Objects say in `is` what they are; empty fields are left out, and so is a stage's command that is one of its steps.
    """
    if isinstance(value, Range):
        return f"{value.line}:{value.column}-{value.end_line}:{value.end_column}"
    if is_dataclass(value) and type(value).__module__.startswith("lading.recipe") and not isinstance(value, Platform):
        held = {one.name: as_json(getattr(value, one.name)) for one in fields(value)}
        if isinstance(value, Stage) and value.command in [step.instruction for step in value.steps]:
            del held["command"]
        return {"is": type(value).__name__} | {name: one for name, one in held.items() if not _is_empty(one)}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _is_empty(value: object) -> bool:
    return value is None or value is False or value in ("", [], {"is": "Ownership"})


def _needs(base: From, steps: tuple[Step, ...]) -> set[int]:
    origins = [step.instruction.origin for step in steps if isinstance(step.instruction, Copy | Convert | Quantize)]
    return {origin.index for origin in (base.base, *origins) if isinstance(origin, StageFiles)}
