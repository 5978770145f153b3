"""What CMD says to llama-server: the files it names, by role, and its parameters, typed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lading.recipe.llama_arguments import ARGUMENTS, REMOVED, SCALED, TWO_VALUES
from lading.recipe.place import near

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lading.recipe.llama_arguments import Kind

FileRole = Literal["model", "drafter", "projector", "lora", "control-vector", "template", "system-prompt"]
Parameter = bool | int | float | str

ROLES: dict[str, FileRole] = {
    "--model": "model",
    "--spec-draft-model": "drafter",
    "--mmproj": "projector",
    "--lora": "lora",
    "--lora-scaled": "lora",
    "--control-vector": "control-vector",
    "--control-vector-scaled": "control-vector",
    "--chat-template-file": "template",
    "--system-prompt-file": "system-prompt",
}
"""Arguments that name a file -> its role."""

_MOST_DOUBTS = 200
_MANY = frozenset({"lora", "control-vector"})


@dataclass(frozen=True, slots=True)
class FileArgument:
    """A file that an argument names: `index` is where its path stands in the arguments, `scale` an adapter's strength."""

    role: FileRole
    path: str
    index: int
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """An argument that is kept as it is, and what is doubtful about it; `index` counts CMD's words as written."""

    kind: Literal["unknown", "removed", "value"]
    argument: str
    index: int
    reason: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A CMD's meaning. `parameters` go by the arguments' long names, as in `ctx-size`; `doubts` are for the linter."""

    files: tuple[FileArgument, ...]
    parameters: tuple[tuple[str, Parameter], ...] = ()
    doubts: tuple[Doubt, ...] = ()

    def of(self, role: FileRole) -> tuple[FileArgument, ...]:
        """Return the files of a role."""
        return tuple(file for file in self.files if file.role == role)

    @property
    def model(self) -> FileArgument:
        """The main model, which every command names."""
        return self.of("model")[-1]

    def parameter(self, name: str) -> Parameter | None:
        """Return a parameter's value; None where it is not given."""
        return dict(self.parameters).get(name)


def read_command(values: Sequence[str], error: Callable[[int, str, str], Exception]) -> tuple[tuple[str, ...], Command]:
    """Read the arguments; return them without the file flags whose value is empty, and what they mean.

    `error` makes the exception for the argument at an index; it is raised where the first argument is no flag, a file
    flag has no value, or no main model is named.
    """
    if not values[0]:
        raise error(0, "the first argument of CMD is empty", "")
    if not values[0].startswith("-"):
        raise error(0, f"CMD begins with `{values[0]}`", "the arguments of llama-server begin with `-`")
    reader = _Reader(values, error)
    while reader.next < len(values):
        reader.read_one()
    command = Command(tuple(reader.files), tuple(reader.parameters.items()), tuple(reader.doubts))
    if not command.of("model"):
        raise error(0, "CMD names no main model", 'as in ["-m", "model.gguf"]')
    return tuple(reader.kept), command


@dataclass(slots=True)
class _Reader:
    values: Sequence[str]
    error: Callable[[int, str, str], Exception]
    next: int = 0
    kept: list[str] = field(default_factory=list)
    files: list[FileArgument] = field(default_factory=list)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    doubts: list[Doubt] = field(default_factory=list)

    def read_one(self) -> None:
        index = self.next
        word = self.values[index]
        self.next += 1
        name, kind = ARGUMENTS.get(word, ("", "switch"))
        if not name:
            self.kept.append(word)
            self._unknown(word, index)
            return
        if name in REMOVED:
            self._doubt("removed", index, f"llama-server no longer takes `{word}`")
        if kind == "switch":
            self.kept.append(word)
            switched_off = name.startswith("--no-") and f"--{name[5:]}" in ARGUMENTS
            self.parameters[name[5:] if switched_off else name[2:]] = not switched_off
        elif name in ROLES:
            self._file(name, word, index)
        else:
            self._parameter(name, kind, word, index)

    def _file(self, name: str, word: str, index: int) -> None:
        role = ROLES[name]
        if self.next == len(self.values):
            raise self.error(index, f"`{word}` names no file", "")
        at = self.next
        value = self.values[at]
        self.next += 1
        scale = self._scale(name)
        # An empty value takes the flag away: so an ARG can blank one out.
        if not value:
            return
        stands = len(self.kept) + 1
        self.kept += [word, value, *([self.values[at + 1]] if scale is not None else [])]
        if role not in _MANY:
            self.files = [file for file in self.files if file.role != role]
        self.files += self._named(name, value, stands, scale)

    def _named(self, name: str, value: str, index: int, scale: float | None) -> list[FileArgument]:
        role = ROLES[name]
        if role not in _MANY:
            return [FileArgument(role, value, index)]
        made = []
        for one in value.split(","):
            path, colon, strength = one.rpartition(":")
            number = _number(strength) if colon and name in SCALED else None
            made.append(FileArgument(role, one if number is None else path, index, scale if number is None else number))
        return made

    def _scale(self, name: str) -> float | None:
        """Take the scale that stands behind the file, as older versions have it; None where none does."""
        if name not in SCALED or self.next == len(self.values):
            return None
        scale = _number(self.values[self.next])
        self.next += scale is not None
        return scale

    def _parameter(self, name: str, kind: Kind, word: str, index: int) -> None:
        count = 2 if name in TWO_VALUES else 1
        given = self.values[self.next : self.next + count]
        # `-fa` took no value once, and takes one now.
        if name == "--flash-attn" and (not given or given[0].startswith("-")):
            given, count = ["on"], 0
        self.next = min(len(self.values), self.next + count)
        self.kept += [word, *given[:count]]
        if len(given) < max(count, 1):
            self._doubt("value", index, f"`{word}` has no value")
            return
        value = _typed(kind, given[0])
        if value is None:
            self._doubt("value", index + 1, f"`{given[0]}` is no value for `{word}`", f"it takes {_WANTED[kind]}")
            return
        self.parameters[name[2:]] = value if count < 2 else " ".join(given)  # noqa: PLR2004 - a pair is kept as text

    def _unknown(self, word: str, index: int) -> None:
        if len(self.doubts) >= _MOST_DOUBTS:
            return
        head, equals, _value = word.partition("=")
        if equals and head in ARGUMENTS:
            note = "the value is a word of its own"
        elif word.startswith("-"):
            note = near(word, ARGUMENTS)
            # What follows may be its value: nothing is known of it, and nothing is said.
            if self.next < len(self.values) and not self.values[self.next].startswith("-"):
                self.kept.append(self.values[self.next])
                self.next += 1
        else:
            note = "it belongs to no flag"
        self._doubt("unknown", index, f"`{word}` is no argument of llama-server", note)

    def _doubt(self, kind: Literal["unknown", "removed", "value"], index: int, reason: str, note: str = "") -> None:
        self.doubts.append(Doubt(kind, self.values[min(index, len(self.values) - 1)], index, reason, note))


_WANTED: dict[Kind, str] = {"int": "a whole number", "float": "a number", "json": "JSON", "file": "a file"}


def _typed(kind: Kind, value: str) -> Parameter | None:
    match kind:
        case "int":
            digits = value.removeprefix("-").removeprefix("+")
            return int(value) if digits.isdecimal() and digits.isascii() and len(digits) <= len(str(2**63)) else None
        case "float":
            return _number(value)
        case "json":
            try:
                json.loads(value)
            except (ValueError, RecursionError):
                return None
            return value
        case _:
            return value


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
