"""Files by their absolute paths: what a stage holds, and what a step chooses of it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from lading.errors import FormatError, NotFoundError
from lading.recipe.contents import image_path
from lading.recipe.ignore import read_ignore
from lading.store.views import safe_parts
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from lading.build.outcome import Held

_GLOB = "*?["


class Shelf(Protocol):
    """Files that steps read: of a context, a stage, an image, a hub. Paths are absolute."""

    def names(self, root: str, /) -> Collection[str]:
        """Return the files at or below a path; nothing is read."""

    def take(self, names: Collection[str], /) -> Mapping[str, Held]:
        """Return some of them as blobs of the store."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What a stage holds: `files` that it put there itself, upon those of `below`, an image."""

    files: Mapping[str, Held] = field(default_factory=dict)
    below: Shelf | None = None

    def names(self, root: str, /) -> Collection[str]:
        """Return the files at or below a path; an image below is asked only for what is not here as a file."""
        own = [name for name in self.files if is_below(name, root)]
        if self.below is None or root in self.files:
            return own
        return dict.fromkeys([*self.below.names(root), *own])

    def take(self, names: Collection[str], /) -> Mapping[str, Held]:
        """Return some files as blobs."""
        rest = [name for name in names if name not in self.files]
        taken = {name: self.files[name] for name in names if name in self.files}
        return {**(self.below.take(rest) if rest and self.below else {}), **taken}

    def has_folder(self, path: str) -> bool:
        """Say whether a path is a folder that the stage itself has."""
        return path == "/" or any(name.startswith(f"{path}/") for name in self.files)

    def with_files(self, more: Mapping[str, Held]) -> Tree:
        """Return the tree with further files, which replace those of their names.

        Raises FormatError for a name that no file can have, and for a file where a folder is, or below a file.
        """
        files = {**self.files, **more}
        folders = {folder for name in files for folder in _above(name)}
        for name in more:
            safe_parts(name.removeprefix("/"))
        for name in files:
            if name in folders:
                msg = f"`{clean(name)}` would be a file and a folder"
                raise FormatError(msg, hint="a destination that ends in `/` is a folder")
        return Tree(files, self.below)


@dataclass(frozen=True, slots=True)
class Match:
    """What a source's path stands for: a file, or a folder's files by their paths in it."""

    root: str
    files: Mapping[str, str]
    is_file: bool


def choose(shelf: Shelf, path: str, exclude: Iterable[str], what: str) -> tuple[Match, ...]:
    """Return what a source stands for, in order; wildcards in it stay within a folder, `exclude` has those of ignore files.

    Raises NotFoundError, naming the path and `what` it was looked for in, where there is nothing.
    """
    start = image_path(path)
    parts = [part for part in start.split("/") if part]
    plain = next((index for index, part in enumerate(parts) if any(char in part for char in _GLOB)), len(parts))
    names = shelf.names("/" + "/".join(parts[:plain]))
    found: dict[str, dict[str, str]] = {}
    for name in names:
        own = name.strip("/").split("/")
        if len(own) >= len(parts) and all(map(_matches, own, parts)):
            root = "/" + "/".join(own[: len(parts)])
            found.setdefault(root, {})["/".join(own[len(parts) :])] = name
    if not found and start == "/":
        msg = f"{what} has no files"
        raise NotFoundError(msg, hint="an ignore file may leave them out")
    if not found:
        msg = f"{what} has no `{clean(path)}`"
        raise NotFoundError(msg, hint="check how it is written; an ignore file may leave it out")
    rules = read_ignore("\n".join(exclude), "--exclude")
    return tuple(_without(root, found[root], rules.ignores) for root in sorted(found))


def check_name(name: str) -> None:
    """Raise FormatError for a file's name that no recipe can say, and no image hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        msg = f"the file name `{clean(name)}` is no UTF-8"
        raise FormatError(msg, hint="rename the file, or leave it out") from None


def is_below(name: str, root: str) -> bool:
    """Say whether a path is at or below another."""
    return root in ("/", name) or name.startswith(f"{root}/")


def is_folder(destination: str) -> bool:
    """Say whether a destination is written as a folder's."""
    return destination.endswith("/") or destination.rpartition("/")[2] in ("", ".", "..")


def _without(root: str, files: Mapping[str, str], ignores: Callable[[str], bool]) -> Match:
    kept = {
        relative: name for relative, name in sorted(files.items()) if not ignores(relative or posixpath.basename(root))
    }
    return Match(root, kept, "" in files)


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern.replace("[^", "[!"))


def _above(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(2, len(parts))]
