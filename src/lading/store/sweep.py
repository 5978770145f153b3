"""Upkeep of a store: free what nothing names or leases, and hold every blob to its digest."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import fs, media
from lading.crew import Crew
from lading.errors import LadingError, NotFoundError, StoppedError
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


_TOLD_EACH = 0.1
"""Seconds between two calls of `progress`."""


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


def prune(store: Store, *, dry_run: bool = False, build_cache: bool = False) -> Pruned:
    """Free all blobs that no root reaches and no living lease keeps, and what interrupted work left.

    What steps of builds made is kept, too, unless `build_cache` says that it goes.

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
        if not build_cache:
            kept.update(store.build_cache.mentioned())
        freed = [digest for digest in store.blobs.digests() if digest not in kept]
        sizes = sum(store.blobs.size(digest) or 0 for digest in freed)
        if not dry_run:
            if build_cache:
                store.build_cache.drop()
            store.build_cache.clear()
            for digest in freed:
                store.blobs.remove(digest)
            store.reserve.lend(lambda: _drop_views(store, kept))
            store.blobs.versions.forget(kept)
            store.prepare()  # what was freed may be reserved again
        return Pruned(len(freed), sizes, _drop_partials(store.work / "ingest", leased, dry_run=dry_run))


def verify(
    store: Store, *, threads: int = 2, progress: Progress | None = None
) -> Iterator[tuple[Digest, int, Fault | None]]:
    """Read every blob and yield its digest, its size in bytes and its fault, if any; before them what is missing.

    `threads` read at a time, in blocks, the biggest blobs first, so that none is left to a single one at the end.
    `progress` hears from any thread, some times a second, how many bytes of all are read. A blob of other bytes than
    its digest's counts as missing from then on, so that a pull fetches it again.
    """
    users, whys = _look_over(store)
    for digest, why in whys.items():
        yield digest, 0, Fault(digest, why, tuple(sorted(users[digest])))
    sizes = {digest: store.blobs.size(digest) or 0 for digest in store.blobs.digests()}
    share = sum(sizes.values()) // threads
    tally = _Tally(progress)
    gone: list[Digest] = []

    def check(digest: Digest) -> tuple[Digest, int, Fault | None]:
        models = tuple(sorted(users.get(digest, ())))
        try:
            # One that is more than a thread's share is at work when the others are done: their cores read ahead for it.
            actual, size, status = _hashed(store, digest, tally.counter(), ahead=sizes[digest] > share)
        except StoppedError:
            raise
        except NotFoundError:
            gone.append(digest)
            return digest, 0, None
        except LadingError as error:
            return digest, 0, Fault(digest, error.message, models)
        if actual != digest:
            store.blobs.condemn(digest, status)
            return digest, size, Fault(digest, _other_bytes(actual), models)
        return digest, size, None

    with Crew(threads) as crew:
        try:
            for checked in crew.map(check, sorted(sizes, key=sizes.__getitem__, reverse=True)):
                if checked[0] not in gone:
                    yield checked
        finally:
            tally.stop()
    tally.tell()
    if gone:
        # Freed by a collection meanwhile, unless somebody still needs it.
        now = missing(store)
        yield from ((digest, 0, now[digest]) for digest in gone if digest in now)


def missing(store: Store) -> dict[Digest, Fault]:
    """Return what can be told to be wrong without reading a blob: all that is missing, of another size, or unreadable."""
    users, whys = _look_over(store)
    return {digest: Fault(digest, why, tuple(sorted(users[digest]))) for digest, why in whys.items()}


class _Tally:
    """Counts the bytes that several threads have hashed, and stops them."""

    __slots__ = ("_done", "_lock", "_progress", "_stopped", "_told")

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0
        self._told = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def tell(self) -> None:
        """Tell how far all are."""
        if self._progress:
            self._told = time.monotonic()
            self._progress(self._done)

    def counter(self) -> Progress:
        """Return a counter of one file's bytes; it raises StoppedError once all are to stop."""
        before = 0

        def count(done: int) -> None:
            nonlocal before
            if self._stopped.is_set():
                msg = "the verification was stopped"
                raise StoppedError(msg)
            with self._lock:
                self._done += done - before
                before = done
                if time.monotonic() - self._told >= _TOLD_EACH:
                    self.tell()

        return count


def _names(root: Descriptor) -> tuple[str, ...]:
    name = root.annotations.get(media.REF_NAME)
    return () if name is None else (name,)


def _look_over(store: Store) -> tuple[dict[Digest, set[str]], dict[Digest, str]]:
    """Return who uses what the roots reach, and why some of it cannot be right."""
    users: dict[Digest, set[str]] = {}
    whys: dict[Digest, str] = {}
    for root in store.index.roots():
        try:
            found = list(closure(store, root))
        except StoppedError:
            raise
        except LadingError as error:
            users.setdefault(root.digest, set()).update(_names(root))
            whys.setdefault(root.digest, _why_unreadable(store, root.digest, error))
            continue
        for blob in found:
            users.setdefault(blob.digest, set()).update(_names(root))
            size = store.blobs.size(blob.digest)
            if size is None:
                whys.setdefault(blob.digest, "is missing")
            elif size != blob.size:
                whys.setdefault(blob.digest, f"has {size} bytes, not {blob.size}")
    return users, whys


def _why_unreadable(store: Store, digest: Digest, error: LadingError) -> str:
    """Say the plain fact where there is one: a missing document, or one of other bytes."""
    if store.blobs.size(digest) is None:
        return "is missing"
    try:
        actual = _hashed(store, digest)[0]
    except StoppedError:
        raise
    except LadingError:
        return error.message
    return error.message if actual == digest else _other_bytes(actual)


def _hashed(
    store: Store, digest: Digest, progress: Progress | None = None, *, ahead: bool = True
) -> tuple[Digest, int, os.stat_result]:
    """Return what a blob hashes to, its length, and the status that the file had before it was read."""
    with fs.os_errors(store.blobs.path(digest)):
        descriptor = store.blobs.open_file(digest)
        try:
            status = os.fstat(descriptor)
            actual, size = hash_file(descriptor, digest.algorithm, progress, ahead=ahead)
        finally:
            os.close(descriptor)
    return actual, size, status


def _other_bytes(actual: Digest) -> str:
    return f"its bytes hash to {actual.short}"


def _drop_views(store: Store, kept: set[Digest]) -> None:
    names = {digest.file_name for digest in kept}
    # A name that goes changes the times of a watched file; only those that were right get their stamp anew.
    watched = [digest for digest in store.blobs.linked.digests() if _unchanged(store, digest)]
    for view in _entries(store.work / "models"):
        if view.name not in names:
            fs.remove_tree(view)
    for digest in watched:
        store.blobs.linked.renew(digest, store.blobs.path(digest))


def _unchanged(store: Store, digest: Digest) -> bool:
    return store.blobs.linked.unchanged(digest, store.blobs.path(digest))


def _drop_partials(folder: Path, leased: set[Digest], *, dry_run: bool) -> int:
    freed = 0
    names = {digest.file_name for digest in leased}
    for path in _entries(folder):
        # Work in progress holds a lease on its digest, or its part locked; what else lies here has no owner left.
        if path.name.partition(".")[0] not in names:
            freed += fs.remove_if_idle(path, dry_run=dry_run)
    return freed


def _entries(folder: Path) -> list[Path]:
    with fs.os_errors(folder):
        try:
            return sorted(folder.iterdir())
        except FileNotFoundError:
            return []
