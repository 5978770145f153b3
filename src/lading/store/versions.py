"""Files whose digest nobody tells: their parts go by their version, and what a version turned out to be is remembered.

What stands for the digest until it is known is a key, made of all that tells one version of a file from another. A
part named by it is taken up by whoever wants that version, and by nobody who wants another one. The digest that a
version turned out to have is written down before the blob gets its name: from then on it needs not be fetched again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import fs
from lading.digest import Digest, Verifier
from lading.errors import FormatError, NotFoundError
from lading.manifest import Descriptor
from lading.store.adoption import Adopted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from lading.content import Progress, Source
    from lading.store.blobs import Blobs

_BLOB = "application/octet-stream"
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file: where it is, what messages call it, its size in bytes, and what tells it from others there.

    `validator` is the source's word for the version (a strong ETag, a date of change).
    """

    place: str
    name: str
    size: int
    validator: str

    @property
    def blob(self) -> Descriptor:
        """The file as a blob whose digest is the version's key: that of no bytes, but of what is known about them."""
        # The place may hold a token: only its hash is ever written.
        key = Digest.of(f"{self.place}\n{self.size}\n{self.validator}".encode())
        return Descriptor(media_type=_BLOB, digest=key, size=self.size)


class Versions:
    """What versions turned out to be: a file each, named by the key, that holds the digest. All of it can be made again."""

    __slots__ = ("_folder", "_staging")

    def __init__(self, folder: Path, staging: Path) -> None:
        self._folder = folder
        self._staging = staging

    def digest(self, version: Version) -> Digest | None:
        """Return what a version is known to have hashed to; whether its bytes are still here is another question."""
        return _read(self._path(version))

    def remember(self, version: Version, digest: Digest) -> None:
        """Write down what a version hashed to."""
        fs.make_folder(self._folder)
        path = self._path(version)
        fs.atomic_write(path, digest.encode(), staging=self._staging / f"{path.name}.version")

    def forget(self, kept: Collection[Digest]) -> None:
        """Drop what is known of versions whose bytes are not among those kept."""
        with fs.os_errors(self._folder):
            paths = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        for path in paths:
            if _read(path) not in kept:
                fs.remove(path)

    def _path(self, version: Version) -> Path:
        return self._folder / version.blob.digest.file_name


def receive_version(
    blobs: Blobs, version: Version, source: Source, progress: Progress, keep: Callable[[Digest], None]
) -> Adopted:
    """Read one version of a file and commit it under the digest that it turns out to have.

    Waits while another process receives that version, and tells its progress; takes up what an earlier receiver left.
    `keep` is told the digest before the blob gets its name. Raises as `receive` does.
    """
    from lading.store.receive import receive  # noqa: PLC0415 - most commands only read

    partial = fs.Partial(blobs.stage(version.blob.digest), waiting=progress)
    try:
        if (present := find_version(blobs, version, keep)) is not None:
            partial.discard()
            return present

        def verifier() -> Verifier:
            return Verifier(version.name, size=version.size, digest=None)

        digest = receive(partial, version.blob, source, progress, verifier)
        keep(digest)
        blobs.versions.remember(version, digest)
        if blobs.is_whole(digest, version.size):
            partial.discard()
            return Adopted(digest, version.size, "present")
        blobs.commit(partial, digest)
    finally:
        partial.close()
    return Adopted(digest, version.size, "received")


def find_version(blobs: Blobs, version: Version, keep: Callable[[Digest], None]) -> Adopted | None:
    """Return the blob that a version is known to be, if it is here; `keep` is told its digest first."""
    digest = blobs.versions.digest(version)
    if digest is None:
        return None
    keep(digest)
    return Adopted(digest, version.size, "present") if blobs.is_whole(digest, version.size) else None


def _read(path: Path) -> Digest | None:
    try:
        with open(fs.open_regular(path), "rb") as file, fs.os_errors(path):  # noqa: PTH123 - a descriptor, not a path
            return Digest(file.read(_LONGEST).decode("ascii", "replace"))
    except (NotFoundError, FormatError):
        return None
