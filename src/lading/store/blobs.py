"""Blobs by digest: `blobs/<algorithm>/<hex>` of the image layout, and how they come to be there.

A blob that has its name is whole and verified: bytes are received in `ingest/`, hashed, synced,
and only then renamed. What an interrupted receiver leaves there is taken up by the next one.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import fs
from lading.digest import Digest, Verifier, VerifyingReader
from lading.errors import IntegrityError, NotFoundError
from lading.ranges import FileRanges
from lading.store.linked import LinkedFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lading.content import ByteReader, Progress, Source
    from lading.manifest import Descriptor

CHUNK = 1024 * 1024
"""Bytes per read when hashing or copying; more gains nothing, less costs system calls."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A user's file as a blob: `how` is cloned, linked, copied or present; `size` in bytes."""

    digest: Digest
    size: int
    how: str


class Blobs:
    """The blobs of one layout."""

    __slots__ = ("_ingest", "_root", "linked")

    def __init__(self, root: Path, work: Path) -> None:
        self._root = root
        self._ingest = work / "ingest"
        self.linked = LinkedFiles(work / "links")

    def path(self, digest: Digest) -> Path:
        """Return where the blob of that digest is, or would be."""
        return self._root / digest.path

    def digests(self) -> Iterator[Digest]:
        """Yield the digest of every blob, in order; files that are not named like one are left alone."""
        for algorithm in ("sha256", "sha512"):
            folder = self._root / "blobs" / algorithm
            if folder.is_dir():
                for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names are all that is needed
                    if len(name) in (64, 128) and not name.strip("0123456789abcdef"):
                        yield Digest(f"{algorithm}:{name}")

    def has(self, blob: Descriptor) -> bool:
        """Say whether the blob is there with its size and, when linked, untouched."""
        path = self.path(blob.digest)
        try:
            status = path.stat()
            self.linked.check(blob.digest, path, status, lambda: self.hashes_to_its_name(blob.digest))
        except (FileNotFoundError, NotADirectoryError, IntegrityError):
            return False
        return status.st_size == blob.size

    def open_file(self, digest: Digest, size: int | None = None) -> int:
        """Open a blob and return the descriptor; raises NotFoundError, or IntegrityError if it is not its own."""
        path = self.path(digest)
        try:
            descriptor = fs.open_regular(path)
        except NotFoundError:
            msg = f"the store has no blob {digest}"
            raise NotFoundError(msg, hint="pull or pack the model again") from None
        try:
            status = os.fstat(descriptor)
            self.linked.check(digest, path, status, lambda: self.hashes_to_its_name(digest))
            if size is not None and status.st_size != size:
                msg = f"blob {digest.short} in the store has {status.st_size} bytes, not {size}"
                raise IntegrityError(msg, hint="`lading verify` tells what else is damaged; pull the model again")
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
            return b"".join(iter(lambda: reader.read(CHUNK) or b"", b""))
        finally:
            reader.close()

    def hashes_to_its_name(self, digest: Digest) -> bool:
        """Read the whole blob and say whether its bytes have its digest."""
        descriptor = fs.open_regular(self.path(digest))
        try:
            return hash_file(descriptor, digest.algorithm)[0] == digest
        finally:
            os.close(descriptor)

    def add(self, data: bytes) -> Digest:
        """Write a small blob of the store's own making."""
        digest = Digest.of(data)
        path = self.path(digest)
        if not path.exists():
            fs.make_folder(path.parent)
            fs.atomic_write(path, data, mode=0o444)
        return digest

    def receive(self, blob: Descriptor, source: Source, progress: Progress) -> str:
        """Read a blob from `source` and commit it; return "present" if it already was there.

        Takes up what an earlier receiver left; a left part that proves wrong is dropped and the
        blob read once more from its start.
        """
        fs.make_folder(self._ingest)
        fs.make_folder(self.path(blob.digest).parent)
        partial = fs.Partial(self._ingest / blob.digest.file_name)
        try:
            if self.has(blob):
                partial.discard()
                return "present"
            resumed = 0 < partial.size <= blob.size
            if not resumed:
                partial.truncate(0)
            try:
                _fill(partial, blob, source, progress)
            except IntegrityError:
                partial.truncate(0)
                if not resumed:
                    partial.discard()
                    raise
                progress(0)
                try:
                    _fill(partial, blob, source, progress)
                except IntegrityError:
                    partial.discard()
                    raise
            self._commit(partial, blob.digest)
        finally:
            partial.close()
        return ""

    def receive_unknown(self, name: str, size: int | None, reader: ByteReader, progress: Progress) -> Adopted:
        """Read a stream whose digest nobody told, and commit it under the digest it turns out to have.

        `name` is what messages call it. Nothing is kept of a stream that breaks off.
        """
        fs.make_folder(self._ingest)
        partial = fs.Partial(self._ingest / f"unknown.{os.getpid()}.{id(reader):x}")
        try:
            verifier = Verifier(name, size=size, digest=None)
            _receive(partial, reader, verifier, progress)
            digest = verifier.finish()
            fs.make_folder(self.path(digest).parent)
            if self._has_whole(digest, verifier.seen):
                partial.discard()
                return Adopted(digest, verifier.seen, "present")
            self._commit(partial, digest)
        except BaseException:
            partial.discard()
            raise
        finally:
            partial.close()
        return Adopted(digest, verifier.seen, "received")

    def adopt(self, origin: fs.Origin, progress: Progress, *, copy: bool, keep: Callable[[Digest], None]) -> Adopted:
        """Hash a user's file and make it a blob.

        A copy-on-write twin is best, then a hard link that is watched from then on, then a copy,
        hashed again while it is made; `copy` forces the last. `keep` is told the digest before the
        blob gets its name, so that a lease protects it.
        """
        digest, size = hash_file(origin.descriptor, "sha256", progress)
        keep(digest)
        return Adopted(digest, size, self._adopt_as(origin, digest, copy=copy))

    def _adopt_as(self, origin: fs.Origin, digest: Digest, *, copy: bool) -> str:
        fs.make_folder(self.path(digest).parent)
        fs.make_folder(self._ingest)
        staged = self._ingest / f"{digest.file_name}.{os.getpid()}"
        fs.remove(staged)
        to_own = copy and self.linked.origin(digest) is not None
        if not to_own and self._has_whole(digest, origin.before.st_size):
            return "present"
        if not copy and fs.clone(origin.descriptor, staged):
            self._refuse_changed(origin, staged, os.fstat(origin.descriptor))
            fs.move_durably(staged, self.path(digest))
            self.linked.drop(digest)
            return "cloned"
        if not copy and fs.hard_link(origin.path, staged):
            self._refuse_changed(origin, staged, staged.stat())
            fs.move_durably(staged, self.path(digest))
            self.linked.add(digest, self.path(digest), origin.path)
            return "linked"
        partial = fs.Partial(staged)
        try:
            partial.truncate(0)
            _copy_file(partial, origin, digest)
            self._commit(partial, digest)
        except BaseException:
            partial.discard()
            raise
        finally:
            partial.close()
        return "copied"

    def _refuse_changed(self, origin: fs.Origin, staged: Path, after: os.stat_result) -> None:
        before = origin.before
        same = os.path.samestat(before, after) and before.st_size == after.st_size
        if not same or before.st_mtime_ns != after.st_mtime_ns:
            fs.remove(staged)
            msg = f"{origin.path} was changed while it was packed"
            raise IntegrityError(msg, hint="pack it again when nothing writes to it")

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

    def _has_whole(self, digest: Digest, size: int) -> bool:
        path = self.path(digest)
        try:
            status = path.stat()
            self.linked.check(digest, path, status, lambda: self.hashes_to_its_name(digest))
        except (FileNotFoundError, IntegrityError):
            return False
        return status.st_size == size

    def _commit(self, partial: fs.Partial, digest: Digest) -> None:
        partial.commit(self.path(digest))
        self.linked.drop(digest)


def hash_file(descriptor: int, algorithm: str, progress: Progress | None = None) -> tuple[Digest, int]:
    """Return digest and length of an open file, read from its start."""
    hasher = hashlib.new(algorithm)
    buffer = memoryview(bytearray(CHUNK))
    offset = 0
    while count := os.preadv(descriptor, [buffer], offset):
        hasher.update(buffer[:count])
        offset += count
        if progress:
            progress(offset)
    return Digest.result(algorithm, hasher), offset


def _fill(partial: fs.Partial, blob: Descriptor, source: Source, progress: Progress) -> None:
    verifier = Verifier(f"blob {blob.digest.short}", size=blob.size, digest=blob.digest)
    while verifier.seen < partial.size:
        verifier.update(partial.read_at(verifier.seen, CHUNK))
    progress(verifier.seen)
    if verifier.seen < blob.size or blob.size == 0:
        reader = source.open(blob, verifier.seen)
        try:
            _receive(partial, reader, verifier, progress)
        finally:
            reader.close()
    verifier.finish()


def _receive(partial: fs.Partial, reader: ByteReader, verifier: Verifier, progress: Progress) -> None:
    buffer = memoryview(bytearray(CHUNK))
    while count := reader.readinto(buffer):
        start = verifier.seen
        verifier.update(buffer[:count])
        partial.write_at(start, buffer[:count])
        progress(verifier.seen)


def _copy_file(partial: fs.Partial, origin: fs.Origin, digest: Digest) -> None:
    verifier = Verifier(str(origin.path), size=None, digest=digest)
    buffer = memoryview(bytearray(CHUNK))
    while count := os.preadv(origin.descriptor, [buffer], verifier.seen):
        partial.write_at(verifier.seen, buffer[:count])
        verifier.update(buffer[:count])
    verifier.finish()
