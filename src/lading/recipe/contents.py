"""What a stage's files are, as far as a recipe alone tells: names that steps make, and folders whose contents are not known."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lading.formats.tool_types import QUANTIZE_TYPES
from lading.recipe.instructions import Add, Cat, Convert, Copy, Quantize
from lading.recipe.sources import Artifact, Context, Document, Git, Hub, Image, Local, Scratch, StageFiles, Url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lading.recipe.instructions import Instruction
    from lading.recipe.plan import Stage
    from lading.recipe.sources import Origin, Source

_FILE = re.compile(
    r"\.(?:gguf|safetensors|jinja2?|json|txt|md|imatrix|dat|model|bin)$|(?:^|/)(?:licen[cs]e|copying|notice)[^/]*$",
    re.IGNORECASE,
)
_MOST_KEPT = 500_000
"""Names of all stages together; beyond, a stage may have any file."""
_LABEL = re.compile(
    r"(?:^|[-._/])(" + "|".join(sorted(QUANTIZE_TYPES, key=len, reverse=True)) + r")(?:[-._]|$)", re.IGNORECASE
)


def image_path(path: str) -> str:
    """Write a path as it lies in the image: from its root, without `.` and `..`."""
    return posixpath.normpath("/" + path.lstrip("/"))


@dataclass(slots=True)
class Contents:
    """Paths from the root. `types` has every file that is known, with its weights' type (None: not known).

    `unseen` are folders that may hold more, each with a pattern that their names match (None: any).
    """

    types: dict[str, str | None] = field(default_factory=dict)
    unseen: set[tuple[str, str | None]] = field(default_factory=set)

    def may_have(self, path: str) -> bool:
        """Say whether a file may be there."""
        path = image_path(path)
        return path in self.types or any(
            _is_below(path, folder) and (pattern is None or fnmatchcase(posixpath.basename(path), pattern))
            for folder, pattern in self.unseen
        )

    def may_match(self, *names: str) -> bool:
        """Say whether a file may be there whose name, in lower case, matches one of the patterns."""
        if any(fnmatchcase(posixpath.basename(path).lower(), name) for path in self.types for name in names):
            return True
        return any(
            pattern is None or any(_overlap(pattern, name) for name in names) for _folder, pattern in self.unseen
        )

    def take(self, other: Contents) -> None:
        """Add all that another stage has."""
        self.types |= other.types
        self.unseen |= other.unseen

    def add(self, instruction: Instruction, others: Mapping[int, Contents]) -> None:
        """Add what an instruction makes."""
        match instruction:
            case Add():
                self._bring(instruction.sources, instruction.destination, None)
            case Copy():
                self._bring(instruction.sources, instruction.destination, _files(instruction.origin, others))
            case Cat():
                self._write(instruction.destination, [name for name, _text in instruction.documents])
            case Quantize(keep_split=True):
                path = image_path(instruction.destination)
                self.types[path] = instruction.type
                self.unseen.add((posixpath.dirname(path), _shards(posixpath.basename(path))))
            case Convert() | Quantize():
                self.types[image_path(instruction.destination)] = instruction.type
            case _:
                pass

    def _bring(self, sources: tuple[Source, ...], destination: str, other: Contents | None) -> None:
        for source in sources:
            match source:
                case Document(name=name) | Url(name=name):
                    self._write(destination, [name])
                case Local(path=path) if other is not None:
                    self._copy(path, destination, other)
                case Local(path=path) if not source.is_pattern and _FILE.search(path):
                    self._write(destination, [posixpath.basename(path)])
                case Local(path=path):
                    last = posixpath.basename(path)
                    named = last if source.is_pattern and _FILE.search(path) else None
                    self.unseen.add((image_path(destination), named))
                case Hub(pattern=pattern):
                    self.unseen.add((image_path(destination), _names(pattern)))
                case _:
                    self.unseen.add((image_path(destination), None))

    def _write(self, destination: str, names: Iterable[str]) -> None:
        folder = destination.endswith("/") or destination.rpartition("/")[2] in ("", ".", "..")
        for name in names:
            path = image_path(f"{destination}/{name}" if folder else destination)
            self.types[path] = named_type(name) or named_type(path)

    def _copy(self, path: str, destination: str, other: Contents) -> None:
        start = image_path(path)
        if start in other.types:
            self._write(destination, [posixpath.basename(start)])
            folder = destination.endswith("/") or destination.rpartition("/")[2] in ("", ".", "..")
            target = image_path(f"{destination}/{posixpath.basename(start)}" if folder else destination)
            self.types[target] = other.types[start]
            return
        below = {one: kind for one, kind in other.types.items() if _is_below(one, start) or fnmatchcase(one, start)}
        for one, kind in below.items():
            relative = posixpath.relpath(one, start) if _is_below(one, start) else posixpath.basename(one)
            self.types[image_path(f"{destination}/{relative}")] = kind
        if other.may_have(start) or any(_is_below(folder, start) for folder, _pattern in other.unseen):
            if _FILE.search(path) and not Local(path).is_pattern:
                self._write(destination, [posixpath.basename(path)])
            else:
                self.unseen.add((image_path(destination), None))


def named_type(name: str) -> str | None:
    """Return the type of weights that a file's name tells, in llama.cpp's spelling; None where it tells none."""
    found = _LABEL.findall(name.removesuffix(".gguf"))
    return found[-1].upper() if found and name.endswith(".gguf") else None


def contents_of(stages: Iterable[Stage]) -> dict[int, Contents]:
    """Return what each stage has at its end; the stages come in order."""
    made: dict[int, Contents] = {}
    kept = 0
    for stage in stages:
        own = Contents()
        own.take(_files(stage.base.base, made) or Contents())
        for step in stage.steps:
            own.add(step.instruction, made)
        kept += len(own.types) + len(own.unseen)
        made[stage.index] = own if kept < _MOST_KEPT else Contents(unseen={("/", None)})
    return made


def _files(origin: Origin | None, stages: Mapping[int, Contents]) -> Contents | None:
    match origin:
        case None | Context(name=""):
            return None
        case Scratch():
            return Contents()
        case StageFiles(index=index):
            return stages.get(index, Contents(unseen={("/", None)}))
        case Hub(pattern=pattern):
            return Contents(unseen={("/", _names(pattern))})
        case Image() | Artifact() | Context() | Git():
            return Contents(unseen={("/", None)})


def _names(pattern: str | None) -> str | None:
    """Return the pattern of names that a hub's pattern is; None where it has folders, or is a file's name or a type."""
    return pattern if pattern and "*" in pattern and "/" not in pattern else None


def _shards(name: str) -> str:
    return f"{name.removesuffix('.gguf')}-*-of-*.gguf"


def _is_below(path: str, folder: str) -> bool:
    return folder in ("/", path) or path.startswith(folder + "/")


def _overlap(pattern: str, name: str) -> bool:
    return fnmatchcase(name.replace("*", ""), pattern.lower())
