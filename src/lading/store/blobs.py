"""Blobs by digest: `blobs/<algorithm>/<hex>` of the image layout, and how they come to be there.

A blob that has its name is whole and verified: bytes are received in `ingest/`, hashed, synced,
and only then renamed. What an interrupted receiver leaves there is taken up by the next one.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from lading import fs
from lading.digest import Digest, Verifier, VerifyingReader
from lading.errors import FormatError, IntegrityError, NotFoundError
from lading.ranges import FileRanges
from lading.store import adoption
from lading.store.adoption import Adopted
from lading.store.hashing import hash_file
from lading.store.linked import LinkedFiles
from lading.store.versions import Version, Versions, receive_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lading.content import ByteReader, Progress, Source
    from lading.manifest import Descriptor


_BLOCK = 1024 * 1024


class Blobs:
    """The blobs of one layout; `work` lies on the same file system."""

    __slots__ = ("_called", "_cure", "_ingest", "_root", "linked", "versions")

    def __init__(self, root: Path, work: Path) -> None:
        self._root = root
        self._called = "the store" if work == root else f"the layout {root}"
        self._cure = "pull or pack the model again" if work == root else "it was made in part, or damaged since"
        self._ingest = work / "ingest"
        self.linked = LinkedFiles(work / "links", self._ingest)
        self.versions = Versions(work / "cache" / "versions", self._ingest)

    def path(self, digest: Digest) -> Path:
        """Return where the blob of that digest is, or would be."""
        return self._root / digest.path

    def digests(self) -> Iterator[Digest]:
        """Yield the digest of every blob, in order; files that are not named like one are left alone."""
        for algorithm in ("sha256", "sha512"):
            folder = self._root / "blobs" / algorithm
            with fs.os_errors(folder):
                names = sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208 - names are all that is needed
            for name in names:
                if digest := _digest_of(f"{algorithm}:{name}"):
                    yield digest

    def size(self, digest: Digest) -> int | None:
        """Return how many bytes a blob has on disk, None when there is none."""
        status = self._status(digest)
        return status.st_size if status else None

    def has(self, blob: Descriptor) -> bool:
        """Say whether the blob is there with its size and, when linked, untouched."""
        return self.is_whole(blob.digest, blob.size)

    def is_whole(self, digest: Digest, size: int) -> bool:
        """Say whether a blob of that size is there, not known to be damaged and, when linked, untouched."""
        status = self._status(digest)
        if status is None or status.st_size != size:
            return False
        try:
            self._check(digest, status)
        except (IntegrityError, NotFoundError):
            return False
        return True

    def open_file(self, digest: Digest, size: int | None = None) -> int:
        """Open a blob and return the descriptor; raises NotFoundError, or IntegrityError if it is not its own."""
        path = self.path(digest)
        try:
            descriptor = fs.open_regular(path, follow=False)
        except NotFoundError:
            msg = f"{self._called} has no blob {digest}"
            raise NotFoundError(msg, hint=self._cure) from None
        try:
            with fs.os_errors(path):
                status = os.fstat(descriptor)
            self._check(digest, status)
            if size is not None and status.st_size != size:
                msg = f"blob {digest.short} in {self._called} has {status.st_size} bytes, not {size}"
                raise IntegrityError(msg, hint=self._cure)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def open(self, blob: Descriptor, offset: int = 0) -> ByteReader:
        """Stream a blob; read from 0, its end raises unless size and digest are right."""
        file = open(self.open_file(blob.digest, blob.size), "rb", buffering=0)  # noqa: PTH123, SIM115 - handed over
        if offset:
            file.seek(offset)
            return file
        return VerifyingReader(file, f"blob {blob.digest.short}", size=blob.size, digest=blob.digest)

    def ranges(self, blob: Descriptor, name: str) -> FileRanges:
        """Return random access to a blob that messages call `name`."""
        return FileRanges(self.open_file(blob.digest, blob.size), name)

    def read(self, blob: Descriptor, limit: int) -> bytes:
        """Return a small blob whole and verified; raises IntegrityError above `limit` bytes."""
        if blob.size > limit:
            msg = f"blob {blob.digest.short} has {blob.size} bytes where at most {limit} are expected"
            raise IntegrityError(msg, hint="it is not what its media type says")
        reader = self.open(blob)
        try:
            with fs.os_errors(self.path(blob.digest)):
                return b"".join(iter(lambda: reader.read(_BLOCK) or b"", b""))
        finally:
            reader.close()

    def hashes_to_its_name(self, digest: Digest) -> bool:
        """Read the whole blob and say whether its bytes have its digest."""
        path = self.path(digest)
        descriptor = fs.open_regular(path, follow=False)
        try:
            with fs.os_errors(path):
                return hash_file(descriptor, digest.algorithm)[0] == digest
        finally:
            os.close(descriptor)

    def condemn(self, digest: Digest, status: os.stat_result) -> None:
        """Count the file of that status, whose bytes were found to be others, as missing until it is replaced."""
        self.linked.condemn(digest, status)

    def add(self, data: bytes, algorithm: str = "sha256") -> Digest:
        """Write a small blob of the store's own making."""
        digest = Digest.of(data, algorithm)
        if not self._holds(digest, data):
            self._prepare(digest)
            fs.atomic_write(self.path(digest), data, mode=0o444, staging=self.stage(digest))
            self.linked.drop(digest)
        return digest

    def receive(self, blob: Descriptor, source: Source, progress: Progress) -> str:
        """Read a blob from `source` and commit it; return "present" if it already was there.

        Waits while another process receives it, and tells its progress. Takes up what an earlier receiver
        left; a left part that proves wrong is dropped and the blob read once more from its start.
        """
        from lading.store.receive import receive  # noqa: PLC0415 - most commands only read

        self._prepare(blob.digest)
        partial = fs.Partial(self.stage(blob.digest), waiting=progress)
        try:
            if self.has(blob):
                partial.discard()
                return "present"
            receive(partial, blob, source, progress)
            self.commit(partial, blob.digest)
        finally:
            partial.close()
        return ""

    def forget_part(self, digest: Digest) -> None:
        """Drop what an earlier receiver of a blob left, unless one is at it now; the next begins at the start."""
        fs.remove_if_idle(self.stage(digest))

    def receive_unknown(
        self,
        name: str,
        size: int | None,
        reader: ByteReader,
        progress: Progress,
        keep: Callable[[Digest], object] | None = None,
    ) -> Adopted:
        """Read a stream whose digest nobody told, and commit it under the digest it turns out to have.

        `name` is what messages call it; `keep` is told the digest before the blob gets its name. Nothing is kept
        of a stream that breaks off: nothing tells that what comes later belongs to it.
        """
        from lading.store.receive import receive_stream  # noqa: PLC0415 - as above

        fs.make_folder(self._ingest)
        partial = fs.Partial(self._ingest / f"unknown.{os.getpid()}.{id(reader):x}")
        try:
            partial.truncate(0)
            verifier = Verifier(name, size=size, digest=None)
            receive_stream(partial, reader, verifier, progress)
            digest = verifier.finish()
            if keep:
                keep(digest)
            if self.is_whole(digest, verifier.seen):
                partial.discard()
                return Adopted(digest, verifier.seen, "present")
            self._prepare(digest)
            self.commit(partial, digest)
        except BaseException:
            partial.discard()
            raise
        finally:
            partial.close()
        return Adopted(digest, verifier.seen, "received")

    def receive_version(
        self, version: Version, source: Source, progress: Progress, keep: Callable[[Digest], None]
    ) -> Adopted:
        """Read one version of a file whose digest nobody told; see `versions.receive_version`."""

        def keep_and_prepare(digest: Digest) -> None:
            keep(digest)
            self._prepare(digest)

        fs.make_folder(self._ingest)
        return receive_version(self, version, source, progress, keep_and_prepare)

    def adopt(self, origin: fs.Origin, progress: Progress, *, copy: bool, keep: Callable[[Digest], None]) -> Adopted:
        """Hash a user's file and make it a blob; see `adoption.adopt`."""

        def keep_and_prepare(digest: Digest) -> None:
            keep(digest)
            self._prepare(digest)

        return adoption.adopt(self, origin, progress, copy=copy, keep=keep_and_prepare)

    def take_over(self, made: Path, keep: Callable[[Digest], None]) -> Adopted:
        """Hash a file of the store's own making and give it the name of its digest, which `keep` is told before."""
        partial = fs.Partial(made)
        try:
            descriptor = fs.open_regular(made, follow=False)
            try:
                with fs.os_errors(made):
                    digest, size = hash_file(descriptor, "sha256")
            finally:
                os.close(descriptor)
            keep(digest)
            if self.is_whole(digest, size):
                partial.discard()
                return Adopted(digest, size, "present")
            self._prepare(digest)
            self.commit(partial, digest)
        finally:
            partial.close()
        return Adopted(digest, size, "received")

    def stage(self, digest: Digest, part: str = "") -> Path:
        """Return where bytes lie that are to become the blob of that digest; `part` keeps several makers apart."""
        return self._ingest / (f"{digest.file_name}.{part}" if part else digest.file_name)

    def left(self, digest: Digest) -> int:
        """Return how many bytes an interrupted receiver left of a blob."""
        try:
            return self.stage(digest).stat().st_size
        except OSError:
            return 0

    def commit(self, partial: fs.Partial, digest: Digest) -> None:
        """Give a verified part the name of its digest."""
        partial.commit(self.path(digest))
        self.linked.drop(digest)

    def give_name(self, digest: Digest, name: Path) -> bool:
        """Hard link a blob to another name; False where the file system or its owner forbids it.

        A new name changes the file's ctime, so the stamp of a watched file is taken anew.
        """
        path = self.path(digest)
        if not fs.hard_link(path, name):
            return False
        self.linked.renew(digest, path)
        return True

    def remove(self, digest: Digest) -> None:
        """Delete a blob."""
        fs.remove(self.path(digest))
        self.linked.drop(digest)

    def _prepare(self, digest: Digest) -> None:
        fs.make_folder(self._ingest)
        fs.make_folder(self.path(digest).parent)

    def _status(self, digest: Digest) -> os.stat_result | None:
        path = self.path(digest)
        try:
            with fs.os_errors(path):
                status = path.lstat()
        except NotFoundError:
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def _check(self, digest: Digest, status: os.stat_result) -> None:
        self.linked.check(digest, self.path(digest), status, lambda: self.hashes_to_its_name(digest))

    def _holds(self, digest: Digest, data: bytes) -> bool:
        try:
            descriptor = self.open_file(digest, len(data))
        except (IntegrityError, NotFoundError):
            return False
        with fs.os_errors(self.path(digest)), open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            return file.read() == data


def _digest_of(text: str) -> Digest | None:
    try:
        return Digest(text)
    except FormatError:
        return None
