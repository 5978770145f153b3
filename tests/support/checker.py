"""Holds a store to its promises after a fault, with nothing of lading's own code.

I1 a blob that has a name hashes to it; I2 what a name reaches is there; I3 nothing outside of the store changed;
I4 what was committed is still there; I7 after a collection nothing is left over; I8 nothing half made lies outside
of ingest/, and no more there than is being received.
"""

from __future__ import annotations

import hashlib
import json
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

FOLDERS = {"blobs", "ingest", "links", "leases", "locks", "models", "cache"}
FILES = {"oci-layout", "index.json", "reserve"}
NAME = "org.opencontainers.image.ref.name"
_DOCUMENTS = ("manifest.v1+json", "manifest.v2+json", "index.v1+json", "list.v2+json")


class BrokenPromiseError(AssertionError):
    """An invariant does not hold; the text begins with its number."""


def hold(promise: str, condition: bool, what: object = "") -> None:  # noqa: FBT001 - an assertion with a name
    if not condition:
        msg = f"{promise}: {what}"
        raise BrokenPromiseError(msg)


def check_store(
    root: Path,
    *,
    committed: Collection[str] = (),
    arriving: int | None = None,
    swept: bool = False,
    beside: Collection[str] = (),
) -> dict[str, str]:
    """Check a store and return its names with their digests.

    `committed` are names or digests that must be there, `arriving` is the most bytes that may lie in ingest/;
    `swept` says that a collection has just run: then nothing unreachable and nothing unfinished may be left.
    `beside` is what else may be in the folder.
    """
    if not root.exists():
        hold("I4", not committed, f"{root} is gone")
        return {}
    hold("I8", {path.name for path in root.iterdir()} <= FOLDERS | FILES | set(beside), sorted(root.iterdir()))
    blobs = set(_blobs(root))
    names: dict[str, str] = {}
    reached: set[str] = set()
    for entry in _entries(root):
        name = entry.get("annotations", {}).get(NAME)
        hold("I2", name not in names, f"{name} is there twice")
        if name:
            names[name] = entry["digest"]
        reached |= _closure(root, entry, blobs)
    hold("I4", set(committed) <= blobs | set(names), set(committed) - blobs - set(names))
    for folder, pattern in (("links", "sha*.json"), ("leases", "*.lease"), ("models", "sha*")):
        for path in _files(root / folder):
            hold("I8", path.match(pattern), path)
    unfinished = _files(root / "ingest")
    if arriving is not None:
        size = sum(path.stat().st_size for path in unfinished)
        hold("I8", size <= arriving, f"{size} bytes in ingest/, at most {arriving} are being received")
    if swept:
        hold("I7", blobs == reached, f"unreachable and left: {blobs - reached}")
        hold("I7", not unfinished, f"left in ingest/: {unfinished}")
        hold("I7", not _files(root / "leases"), "leases of the dead are left")
    return names


def snapshot(folder: Path, *, without: Collection[Path] = ()) -> dict[str, tuple[int, int, str]]:
    """Return mode, size and digest of every file in a folder: what must be the same before and after (I3)."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if any(path.is_relative_to(other) for other in without):
            continue
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
        size = status.st_size if content else 0
        found[str(path.relative_to(folder))] = (status.st_mode, size, content)
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def _blobs(root: Path) -> Iterator[str]:
    for folder in _files(root / "blobs"):
        for path in folder.iterdir():
            hold("I1", stat.S_ISREG(path.lstat().st_mode), f"{path} is no file")
            hold("I1", hashlib.new(folder.name, path.read_bytes()).hexdigest() == path.name, f"{path} has other bytes")
            yield f"{folder.name}:{path.name}"


def _entries(root: Path) -> list[dict[str, Any]]:
    if not (root / "index.json").exists():
        return []
    entries: list[dict[str, Any]] = json.loads((root / "index.json").read_bytes())["manifests"]
    return entries


def _closure(root: Path, entry: dict[str, Any], blobs: set[str]) -> set[str]:
    digest = entry["digest"]
    hold("I2", digest in blobs, f"{digest} is named and not there")
    path = root / "blobs" / digest.replace(":", "/")
    hold("I2", path.stat().st_size == entry["size"], f"{digest} has another size than its descriptor says")
    if not entry["mediaType"].endswith(_DOCUMENTS):
        return {digest}
    document = json.loads(path.read_bytes())
    inner = [*document.get("manifests", ()), *document.get("layers", ())]
    inner += [document["config"]] if "config" in document else []
    return {digest}.union(*(_closure(root, one, blobs) for one in inner))
