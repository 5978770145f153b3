"""Variables: which there are at a point of a recipe, and their values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lading.errors import UsageError
from lading.recipe.expand import Budget, ExpansionError, Quoting, expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.recipe.nodes import Word
    from lading.recipe.place import Range, Script

_PLATFORM = re.compile(r"[a-z0-9_]+(?:/[a-z0-9_]+(?:/[a-z0-9_.]+)?)?")
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
_ON_LINUX = frozenset(
    {
        "386",
        "amd64",
        "arm",
        "arm64",
        "loong64",
        "mips",
        "mips64",
        "mips64le",
        "mipsle",
        "ppc64",
        "ppc64le",
        "riscv64",
        "s390x",
    }
)
_MOST_NAMED = 1000
_SYSTEMS = frozenset({"linux", "darwin", "windows", "freebsd"})


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform as images have it: linux/amd64, linux/arm/v7."""

    system: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.system, self.architecture, self.variant) if part)


def read_platform(text: str) -> Platform:
    """Read a platform; one part alone is a system, or an architecture of linux. Raises UsageError."""
    parts = text.lower().split("/")
    if len(parts) == 1:
        parts = [parts[0], "amd64"] if parts[0] in _SYSTEMS else ["linux", parts[0]]
    system, architecture = parts[0], _ARCHITECTURES.get(parts[1], parts[1])
    spelt = _PLATFORM.fullmatch(text.lower().replace("x86-64", "x86_64")) is not None
    if not spelt or system not in _SYSTEMS or (system == "linux" and architecture not in _ON_LINUX):
        msg = f"`{text}` is no platform"
        raise UsageError(msg, hint="one is written linux/amd64")
    return Platform(system, architecture, parts[2] if len(parts) > 2 else "")  # noqa: PLR2004 - the third part


def platform_values(target: Platform, build: Platform) -> dict[str, str]:
    """Return the variables that exist without being named."""
    # A recipe's steps run nothing of macOS: what is built there is built for linux.
    build = Platform("linux", build.architecture, build.variant) if build.system == "darwin" else build
    values: dict[str, str] = {}
    for prefix, one in (("BUILD", build), ("TARGET", target)):
        parts = {"PLATFORM": str(one), "OS": one.system, "ARCH": one.architecture, "VARIANT": one.variant}
        values |= {f"{prefix}{name}": value for name, value in parts.items()}
    return values


@dataclass(frozen=True, slots=True)
class Unset:
    """A variable that was used and has no value, and where; `known` are those that have one there."""

    name: str
    where: Range
    known: frozenset[str]
    is_from: bool


@dataclass(slots=True)
class Scope:
    """The variables at a point of a recipe; `named` also holds those that have no value, `globals` the global ones."""

    script: Script
    escape: str
    overrides: Mapping[str, str]
    values: dict[str, str]
    named: set[str] = field(default_factory=set)
    unset: list[Unset] = field(default_factory=list)
    budget: Budget = field(default_factory=Budget)
    globals: Mapping[str, str] | None = None
    _known: frozenset[str] | None = None

    def inner(self) -> Scope:
        """Return a scope for one stage: it sees all, and what it names is seen by the stages that are based on it only."""
        return replace(
            self,
            values=dict(self.values),
            named=set(self.named),
            globals=self.values if self.globals is None else self.globals,
        )

    def declare(self, word: Word, name: str, default: str | None) -> str | None:
        """Name a variable and return its value: the build's, else the default, the global one, or what it has already.

        Raises RecipeError, with the word's place, where there are more variables than anybody names.
        """
        self.named.add(name)
        if len(self.named) > _MOST_NAMED:
            raise self.script.error(word.where, f"the recipe names more than {_MOST_NAMED:,} variables")
        value = self.overrides.get(name, default)
        if value is None and self.globals is not None:
            value = self.globals.get(name)
        if value is not None:
            self.values[name] = value
            self._known = None
        return self.values.get(name)

    def expand(
        self, word: Word, text: str | None = None, *, quoting: Quoting = Quoting.WORD, is_from: bool = False
    ) -> str:
        """Expand a word, or `text` that stands in it; raises RecipeError with the word's place."""
        try:
            made = expand(
                word.text if text is None else text,
                self.values,
                escape=self.escape,
                quoting=quoting,
                budget=self.budget,
            )
        except ExpansionError as error:
            raise self.script.error(word.where, str(error)) from None
        if unset := sorted(made.unset - self.named):
            self._known = self._known or frozenset(self.values)
            self.unset += [Unset(name, word.where, self._known, is_from) for name in unset]
        return made.value
