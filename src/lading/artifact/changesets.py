"""Layers upon layers: the files that a container of an image would find (OCI image-spec, layer.md, "Applying Changesets").

A later layer adds to, replaces and deletes what earlier ones hold. Links are left out and never followed; what lies
elsewhere than asked for is not looked at, so a base image may hold whatever it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading.artifact.layers import MAX_FILES, Archive, refused, too_many
from lading.errors import FormatError
from lading.formats.archive import Entry, Kind
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from lading.artifact.layers import Listing

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MAX_NAME = 1024
_SHOWN = 80
_Found = tuple[Archive, Entry]
_Tree = dict[str, "_Tree | _Found"]


def files_in_image(archives: Sequence[Archive], listing: Listing, roots: Sequence[str]) -> dict[str, _Found]:
    """Return the regular files at and under `roots`, by path and in its order, with the layer that each is from.

    Raises FormatError for devices and hard links there, and for two files of one name in a layer.
    """
    tree: _Tree = {}
    count = 0
    wanted = frozenset(roots)
    above = frozenset(folder for root in wanted for folder in _folders(root))
    for archive in archives:
        entries = [entry for entry in listing.of(archive) if _matters(entry.name, wanted, above)]
        count += len(entries)
        if count > MAX_FILES:
            thing = "the image"
            raise too_many(thing)
        _apply(tree, archive, entries)
    return dict(sorted(_flat(tree)))


def _apply(tree: _Tree, archive: Archive, entries: Sequence[Entry]) -> None:
    # What a layer deletes is in those below it, never in itself, wherever the deletion stands in it.
    for entry in entries:
        _forget(tree, entry.name)
    seen: set[str] = set()
    for entry in entries:
        if len(entry.name) > _MAX_NAME:
            msg = f"{archive.name} has the impossible name `{clean(entry.name)[:_SHOWN]}`"
            raise FormatError(msg, hint=f"a file's path has at most {_MAX_NAME} characters")
        if entry.name in seen:
            msg = f"{archive.name} has {clean(entry.name)[:_SHOWN]} twice"
            raise FormatError(msg, hint="the archive is made to be read in two ways")
        if not _base(entry.name).startswith(_WHITEOUT):
            _put(tree, archive, entry)
        if entry.kind is not Kind.FOLDER:
            seen.add(entry.name)


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _target(name: str) -> str:
    """Return what an entry is about: itself, or what it deletes; of an opaque folder, the folder."""
    folder, _, base = name.rpartition("/")
    if base == _OPAQUE:
        return folder
    return f"{folder}/{base.removeprefix(_WHITEOUT)}".removeprefix("/") if base.startswith(_WHITEOUT) else name


def _matters(name: str, roots: Collection[str], above: Collection[str]) -> bool:
    """Say whether an entry is about a root, what is under it, or a folder above it."""
    target = _target(name)
    return not target or target in above or target in roots or any(folder in roots for folder in _folders(target))


def _folders(name: str) -> Iterator[str]:
    """Yield the folders that a name lies in."""
    place = name.find("/")
    while place >= 0:
        yield name[:place]
        place = name.find("/", place + 1)


def _put(tree: _Tree, archive: Archive, entry: Entry) -> None:
    *folders, last = entry.name.split("/")
    for folder in folders:
        below = tree.get(folder)
        if not isinstance(below, dict):
            below = tree[folder] = {}
        tree = below
    if entry.kind is not Kind.FOLDER:
        tree[last] = (archive, entry)
    elif last and not isinstance(tree.get(last), dict):
        tree[last] = {}


def _forget(tree: _Tree, name: str) -> None:
    """Delete what an entry deletes, if it is one that does."""
    base = _base(name)
    if not base.startswith(_WHITEOUT):
        return
    target = _target(name)
    *folders, last = target.split("/")
    for folder in folders:
        below = tree.get(folder)
        if not isinstance(below, dict):
            return
        tree = below
    if base != _OPAQUE:
        tree.pop(last, None)
        return
    inside = tree.get(last) if target else tree
    if isinstance(inside, dict):
        inside.clear()


def _flat(tree: _Tree) -> Iterator[tuple[str, _Found]]:
    left: list[tuple[str, _Tree | _Found]] = [("", tree)]
    while left:
        path, node = left.pop()
        if isinstance(node, dict):
            left += ((f"{path}/{name}" if path else name, below) for name, below in node.items())
        elif node[1].kind is Kind.FILE:
            yield path, node
        elif node[1].kind is not Kind.SYMBOLIC_LINK:
            raise refused(*node)
