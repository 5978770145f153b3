"""Upkeep of a store: free what nothing names or leases, and hold every blob to its digest."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import fs, media
from lading.errors import LadingError, StoppedError
from lading.store.closure import closure
from lading.store.hashing import hash_file
from lading.store.lease import living

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lading.content import Progress
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
    for root in store.index.roots():
        for blob in closure(store, root):
            found.setdefault(blob.digest, set()).update(_names(root))
    return found


def prune(store: Store, *, dry_run: bool = False) -> Pruned:
    """Free all blobs that no root reaches and no living lease keeps, and what interrupted work left.

    A manifest that cannot be read stops the collection before anything is freed. A dry run needs no right to write.
    """
    if not store.index.exists():
        store.index.roots()  # one that was lost is refused
        return Pruned(0, 0, 0)
    with ExitStack() as stack:
        if store.writable:
            store.prepare()
        if store.writable or not dry_run:
            stack.enter_context(fs.Lock(store.gate, "the store"))
        # The leases first: who gives his up in between has named what it kept, and the names come after.
        leased = set(living(store.leases, dry_run=dry_run))
        kept = leased | set(reachable(store))
        freed = [digest for digest in store.blobs.digests() if digest not in kept]
        sizes = sum(store.blobs.size(digest) or 0 for digest in freed)
        if not dry_run:
            for digest in freed:
                store.blobs.remove(digest)
            store.reserve.lend(lambda: _drop_views(store, kept))
            store.prepare()  # what was freed may be reserved again
        return Pruned(len(freed), sizes, _drop_partials(store.work / "ingest", leased, dry_run=dry_run))


def verify(store: Store, *, threads: int = 2) -> Iterator[tuple[Digest, int, Fault | None]]:
    """Read every blob and yield its digest, its size in bytes and its fault, if any; before them what is missing.

    A blob of other bytes than its digest's counts as missing from then on, so that a pull fetches it again.
    """
    users: dict[Digest, set[str]] = {}
    whys: dict[Digest, str] = {}
    for root in store.index.roots():
        _look_over(store, root, users, whys)
    for digest, why in whys.items():
        yield digest, 0, Fault(digest, why, tuple(sorted(users[digest])))
    stopped = threading.Event()

    def proceed(_done: int) -> None:
        if stopped.is_set():
            msg = "the verification was stopped"
            raise StoppedError(msg)

    def check(digest: Digest) -> tuple[Digest, int, Fault | None]:
        models = tuple(sorted(users.get(digest, ())))
        try:
            actual, size = _hashed(store, digest, proceed)
        except LadingError as error:
            return digest, 0, Fault(digest, error.message, models)
        if actual != digest:
            store.blobs.condemn(digest)
            return digest, size, Fault(digest, _other_bytes(actual), models)
        return digest, size, None

    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(check, list(store.blobs.digests()))
        finally:
            stopped.set()


def _names(root: Descriptor) -> tuple[str, ...]:
    name = root.annotations.get(media.REF_NAME)
    return () if name is None else (name,)


def _look_over(store: Store, root: Descriptor, users: dict[Digest, set[str]], whys: dict[Digest, str]) -> None:
    """Note who uses what a root reaches, and why some of it cannot be right."""
    try:
        found = list(closure(store, root))
    except LadingError as error:
        users.setdefault(root.digest, set()).update(_names(root))
        whys.setdefault(root.digest, _why_unreadable(store, root.digest, error))
        return
    for blob in found:
        users.setdefault(blob.digest, set()).update(_names(root))
        size = store.blobs.size(blob.digest)
        if size is None:
            whys.setdefault(blob.digest, "is missing")
        elif size != blob.size:
            whys.setdefault(blob.digest, f"has {size} bytes, not {blob.size}")


def _why_unreadable(store: Store, digest: Digest, error: LadingError) -> str:
    """Say the plain fact where there is one: a missing document, or one of other bytes."""
    if store.blobs.size(digest) is None:
        return "is missing"
    try:
        actual = _hashed(store, digest)[0]
    except LadingError:
        return error.message
    return error.message if actual == digest else _other_bytes(actual)


def _hashed(store: Store, digest: Digest, progress: Progress | None = None) -> tuple[Digest, int]:
    with fs.os_errors(store.blobs.path(digest)):
        descriptor = store.blobs.open_file(digest)
        try:
            return hash_file(descriptor, digest.algorithm, progress)
        finally:
            os.close(descriptor)


def _other_bytes(actual: Digest) -> str:
    return f"its bytes hash to {actual.short}"


def _drop_views(store: Store, kept: set[Digest]) -> None:
    names = {digest.file_name for digest in kept}
    folder = store.work / "models"
    if not folder.is_dir():
        return
    # A name that goes changes the times of a watched file; only those that were right get their stamp anew.
    watched = [digest for digest in store.blobs.linked.digests() if _unchanged(store, digest)]
    for view in sorted(folder.iterdir()):
        if view.name not in names:
            fs.remove_tree(view)
    for digest in watched:
        store.blobs.linked.renew(digest, store.blobs.path(digest))


def _unchanged(store: Store, digest: Digest) -> bool:
    return store.blobs.linked.unchanged(digest, store.blobs.path(digest))


def _drop_partials(folder: Path, leased: set[Digest], *, dry_run: bool) -> int:
    freed = 0
    names = {digest.file_name for digest in leased}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # Work in progress holds a lease on its digest, or its part locked; what else lies here has no owner left.
        if path.name.partition(".")[0] not in names:
            freed += fs.remove_if_idle(path, dry_run=dry_run)
    return freed
