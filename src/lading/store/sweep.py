"""Upkeep of a store: free what nothing names or leases, and hold every blob to its digest."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import fs
from lading.errors import LadingError
from lading.manifest import MANIFEST_KINDS
from lading.store.blobs import hash_file
from lading.store.lease import living

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lading.digest import Digest
    from lading.manifest import Descriptor
    from lading.store import Store


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a collection freed: number of blobs, bytes of blobs, bytes of unfinished downloads."""

    blobs: int
    bytes: int
    partial_bytes: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A blob that is not what it should be: `why` in words, `models` the names that need it."""

    digest: Digest
    why: str
    models: tuple[str, ...]


def reachable(store: Store) -> dict[Digest, set[str]]:
    """Return every digest that a root of the store reaches, with the names that reach it.

    Raises the document's own error if one on the way is missing or damaged: what it names is not known then.
    """
    found: dict[Digest, set[str]] = {}
    names = {tag.descriptor.digest: set[str]() for tag in store.tags()}
    for tag in store.tags():
        names[tag.descriptor.digest].add(tag.name)
    for root in store.index.roots():
        for blob in _reach(store, root):
            found.setdefault(blob.digest, set()).update(names.get(root.digest, ()))
    return found


def prune(store: Store, *, dry_run: bool = False) -> Pruned:
    """Free all blobs that no root reaches and no living lease keeps, and what interrupted work left.

    A manifest that cannot be read stops the collection before anything is freed.
    """
    if not store.index.roots() and not store.leases.is_dir():
        return Pruned(0, 0, 0)
    store.prepare()
    with fs.Lock(store.gate, "the store"):
        kept = set(reachable(store)) | set(living(store.leases))
        freed = [digest for digest in store.blobs.digests() if digest not in kept]
        sizes = sum(store.blobs.path(digest).stat().st_size for digest in freed)
        if not dry_run:
            for digest in freed:
                store.blobs.remove(digest)
            _drop_views(store, kept)
        return Pruned(len(freed), sizes, _drop_partials(store.work / "ingest", kept, dry_run=dry_run))


def verify(store: Store, *, threads: int = 2) -> Iterator[tuple[Digest, int, Fault | None]]:
    """Read every blob and yield its digest, its size in bytes and its fault, if any; then what is missing."""
    users: dict[Digest, set[str]] = {}
    for tag in store.tags():
        missing = _closure_faults(store, tag.descriptor, tag.name, users)
        for fault in missing:
            yield fault.digest, 0, fault

    def check(digest: Digest) -> tuple[Digest, int, Fault | None]:
        models = tuple(sorted(users.get(digest, ())))
        try:
            descriptor = store.blobs.open_file(digest)
            try:
                actual, size = hash_file(descriptor, digest.algorithm)
            finally:
                os.close(descriptor)
        except LadingError as error:
            return digest, 0, Fault(digest, error.message, models)
        if actual != digest:
            return digest, size, Fault(digest, f"its bytes hash to {actual.short}", models)
        return digest, size, None

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(check, list(store.blobs.digests()))


def _reach(store: Store, root: Descriptor) -> Iterator[Descriptor]:
    yield root
    if root.media_type in MANIFEST_KINDS:
        yield from store.reach(store.document(str(root.digest)))


def _closure_faults(store: Store, root: Descriptor, name: str, users: dict[Digest, set[str]]) -> list[Fault]:
    faults = []
    try:
        closure = list(_reach(store, root))
    except LadingError as error:
        return [Fault(root.digest, error.message, (name,))]
    for blob in closure:
        first_seen = blob.digest not in users
        users.setdefault(blob.digest, set()).add(name)
        path = store.blobs.path(blob.digest)
        if not path.exists():
            if first_seen:
                faults.append(Fault(blob.digest, "is missing", (name,)))
        elif path.stat().st_size != blob.size and first_seen:
            faults.append(Fault(blob.digest, f"has {path.stat().st_size} bytes, not {blob.size}", (name,)))
    return faults


def _drop_views(store: Store, kept: set[Digest]) -> None:
    names = {digest.file_name for digest in kept}
    folder = store.work / "models"
    if folder.is_dir():
        for view in sorted(folder.iterdir()):
            if view.name not in names:
                fs.remove_tree(view)


def _drop_partials(folder: Path, kept: set[Digest], *, dry_run: bool) -> int:
    freed = 0
    names = {digest.file_name for digest in kept}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # A living download has a lease on its digest; whatever else lies here has no owner left.
        if path.name.partition(".")[0] not in names:
            freed += path.stat().st_size
            if not dry_run:
                fs.remove(path)
    return freed
