"""Files that are no blobs: what lies packed in a layer is unpacked into the model's view, `models/<digest>/`, once.

A file has its name there only when all that were unpacked with it were found to be right. What is in a layer that
can only be known by reading all of it is kept in `cache/archives/`.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Self

from lading import fs
from lading.digest import Verifier
from lading.errors import NotFoundError
from lading.store.receive import receive_stream
from lading.store.views import safe_parts

if TYPE_CHECKING:
    from pathlib import Path

    from lading.content import ByteReader, Progress
    from lading.digest import Digest
    from lading.store import Store


class Unpacked:
    """The unpacked files of one model. A context manager, in which one process at a time writes some."""

    __slots__ = ("_digest", "_lock", "_staged", "_store", "folder")

    def __init__(self, store: Store, digest: Digest) -> None:
        self._store = store
        self._digest = digest
        self._lock = fs.Lock(store.work / "locks" / "unpacked", "the store's folder of unpacked models")
        self._staged: list[tuple[Path, Path]] = []
        self.folder = store.work / "models" / digest.file_name

    def has(self, name: str, size: int) -> bool:
        """Say whether a file is there; raises FormatError for a name that leads elsewhere."""
        try:
            path = self.folder.joinpath(*safe_parts(name))
            with fs.os_errors(path):
                status = path.lstat()
        except NotFoundError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == size

    def __enter__(self) -> Self:
        self._store.prepare()
        self._lock.__enter__()
        return self

    def write(self, name: str, size: int, digest: Digest | None, reader: ByteReader, progress: Progress) -> None:
        """Write a file's bytes beside their place; raises IntegrityError unless size and digest, if known, are right."""
        target = self.folder.joinpath(*safe_parts(name))
        # Named after the model, whose lease so protects it from a collection.
        place = self._store.work / "ingest" / f"{self._digest.file_name}.unpacked-{len(self._staged)}"
        self._staged.append((place, target))
        partial = fs.Partial(place)
        try:
            partial.truncate(0)
            verifier = Verifier(name, size=size, digest=digest)
            receive_stream(partial, reader, verifier, progress)
            verifier.finish()
        finally:
            # A model may have more files than a process may have open.
            partial.close()

    def commit(self) -> None:
        """Give all that was written its name."""
        for place, target in self._staged:
            fs.make_folder(target.parent)
            partial = fs.Partial(place)
            try:
                partial.commit(target)
            finally:
                partial.close()
        self._staged.clear()

    def __exit__(self, *_exc: object) -> None:
        try:
            for place, _target in self._staged:
                fs.remove(place)
        finally:
            self._lock.__exit__()


def remember(store: Store, digest: Digest, text: bytes) -> None:
    """Keep what was found out about a layer by reading all of it."""
    path = _record(store, digest)

    def write() -> None:
        fs.make_folder(path.parent)
        fs.atomic_write(path, text)

    store.reserve.lend(write)


def remembered(store: Store, digest: Digest) -> bytes | None:
    """Return what was kept about a layer; None if nothing was."""
    path = _record(store, digest)
    try:
        with fs.os_errors(path):
            return path.read_bytes()
    except NotFoundError:
        return None


def _record(store: Store, digest: Digest) -> Path:
    return store.work / "cache" / "archives" / f"{digest.file_name}.json"
