"""Archives as Source: an OCI image layout in a tar, as skopeo, podman, docker and `lading save` write it.

Nothing is extracted and no link is followed. The headers are read once; a blob is then read where it lies in the
file, and held to its digest. An archive that says one thing twice, or holds anything but files and folders, is refused.
What `docker save` wrote before it knew layouts is understood by `docker_archive`.
"""

from __future__ import annotations

import io
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lading import fs, media
from lading.digest import Digest, VerifyingReader
from lading.errors import FormatError, IntegrityError, NotFoundError, UsageError
from lading.formats.archive import Compression
from lading.manifest import MAX_DOCUMENT, parse_document
from lading.plan import of_formats
from lading.ranges import FileRanges
from lading.text import clean
from lading.transport.archive_contents import (
    HEAD,
    Contents,
    Root,
    compression_of,
    entries_of,
    layout_contents,
    read_entry,
)
from lading.transport.docker_archive import docker_contents

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, RangeReader
    from lading.formats.archive import Entry
    from lading.manifest import Descriptor, Document
    from lading.reference import Archive as Reference

_SHOWN = 8
_MALFORMED = "the archive is damaged or malformed"


class Archive:
    """The models in an uncompressed archive, which messages call `name`; a Source.

    The file is opened for each read, and refused once it is another than at first: IntegrityError.
    """

    __slots__ = ("_contents", "_path", "_status", "name")

    def __init__(self, path: Path, name: str, status: os.stat_result, contents: Contents) -> None:
        self._path = path
        self._status = status
        self._contents = contents
        self.name = name

    @property
    def kind(self) -> Literal["oci", "docker"]:
        """Which of the two forms it has."""
        return self._contents.kind

    @property
    def roots(self) -> tuple[Root, ...]:
        """What it holds under names of its own, in its order."""
        return self._contents.roots

    def has(self, blob: Descriptor, /) -> bool:
        """Say whether the blob is there with that size."""
        entry = self._contents.blobs.get(blob.digest)
        return blob.digest in self._contents.implied if entry is None else entry.size == blob.size

    def document(self, name: str, /) -> Document:
        """Return the manifest or index under a name or digest; raises NotFoundError, FormatError, IntegrityError."""
        # A digest first: what an archive calls by the name of a digest is not that.
        try:
            digest = Digest(name)
        except FormatError:
            for root in self.roots:
                if root.name == name:
                    return self._document(root.descriptor.digest, root.descriptor.media_type)
            names = ", ".join(clean(root.name) for root in self.roots[:_SHOWN] if root.name) or "none"
            msg = f"{self.name} has no model named `{name}`; it has {names}"
            raise NotFoundError(msg) from None
        types = {root.descriptor.digest: root.descriptor.media_type for root in self.roots}
        return self._document(digest, types.get(digest))

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a blob from `offset` on; read from 0, its end raises unless size and digest are right."""
        entry = self._entry(blob.digest, blob.size)
        section = _Section(self._open(), self.name, entry.offset + offset, entry.size - offset)
        if offset:
            return section
        return VerifyingReader(section, f"blob {blob.digest.short} in {self.name}", size=blob.size, digest=blob.digest)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a blob, without verification."""
        entry = self._entry(blob.digest, blob.size)
        return _Ranges(
            FileRanges(self._open(), self.name), entry, blob.annotations.get(media.FILE_PATH, blob.digest.short)
        )

    def _document(self, digest: Digest, media_type: str | None) -> Document:
        if implied := self._contents.implied.get(digest):
            return implied
        entry = self._entry(digest)
        with closing(FileRanges(self._open(), self.name)) as file:
            raw = read_entry(file, entry, MAX_DOCUMENT + 1)
        return parse_document(raw, name=f"{self.name}, {digest.short}", media_type=media_type, digest=digest)

    def _entry(self, digest: Digest, size: int | None = None) -> Entry:
        entry = self._contents.blobs.get(digest)
        if entry is None:
            msg = f"{self.name} has no blob {digest}"
            raise NotFoundError(msg, hint="it was saved in part only, or of something else")
        if size is not None and entry.size != size:
            msg = f"blob {digest.short} in {self.name} has {entry.size} bytes, not {size}"
            raise IntegrityError(msg, hint=_MALFORMED)
        return entry

    def _open(self) -> int:
        descriptor = fs.open_regular(self._path)
        now = os.fstat(descriptor)
        if not os.path.samestat(now, self._status) or (now.st_size, now.st_mtime_ns) != (
            self._status.st_size,
            self._status.st_mtime_ns,
        ):
            os.close(descriptor)
            msg = f"{self.name} was changed while it was read"
            raise IntegrityError(msg, hint="repeat the command when nothing writes to it")
        return descriptor


def open_archive(path: Path, name: str) -> Archive:
    """Look into an archive, which messages call `name`; raises FormatError for what is none, NotFoundError."""
    descriptor = fs.open_regular(path)
    status = os.fstat(descriptor)
    with closing(FileRanges(descriptor, name)) as file:
        if compression_of(file.read_at(0, HEAD)) is not Compression.NONE:
            msg = f"{name} is compressed, and cannot be read in place"
            raise FormatError(msg, hint="`lading load` reads it; so would gunzip or unzstd make it readable")
        entries = entries_of(file, name)
        if "oci-layout" in entries:
            contents = layout_contents(file, entries, name)
        elif "manifest.json" in entries:
            contents = docker_contents(file, entries, name)
        else:
            msg = f"{name} is an archive, but neither of an OCI image layout nor of `docker save`"
            raise FormatError(msg, hint="a model's files are packed with `lading pack`, once unpacked")
    return Archive(path, name, status, contents)


def open_reference(reference: Reference) -> tuple[Archive, str]:
    """Open the archive that a reference names, and return the name to read from it: the one asked for, else the only one.

    A single model without a name is given by its digest; one in several formats is single. Raises UsageError with the names that are there if one has to be
    said, FormatError where there is none.
    """
    archive = open_archive(Path(reference.path).expanduser(), reference.path)
    if reference.tag is not None:
        return archive, reference.tag
    if not archive.roots:
        msg = f"{archive.name} holds no model"
        raise FormatError(msg, hint="its index is empty")
    if len(archive.roots) > 1:
        names = [root.name for root in archive.roots if root.name]
        if len(names) == len(archive.roots) and (main := of_formats(names, archive.document)):
            return archive, main
        names = [clean(name) for name in names]
        msg = f"{archive.name} holds {len(archive.roots)} models: {', '.join(names[:_SHOWN])}"
        raise UsageError(
            msg, hint=f"name one, as in {reference}:{names[0] if names else 'TAG'}; `lading load` takes all"
        )
    root = archive.roots[0]
    return archive, root.name or str(root.descriptor.digest)


class _Section(io.RawIOBase):
    """The stream of a stretch of an open file, which it owns."""

    def __init__(self, descriptor: int, name: str, offset: int, length: int) -> None:
        self._descriptor = descriptor
        self._name = name
        self._offset = offset
        self._left = max(0, length)

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")[: self._left]
        with fs.os_errors(self._name):
            count = os.preadv(self._descriptor, [view], self._offset) if len(view) else 0
        self._offset += count
        self._left -= count
        return count

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class _Ranges:
    """A RangeReader over a file in an archive."""

    def __init__(self, inner: FileRanges, entry: Entry, name: str) -> None:
        self._inner = inner
        self._offset = entry.offset
        self.name = name
        self.size = entry.size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the file ends."""
        return self._inner.read_at(self._offset + offset, max(0, min(length, self.size - offset)))

    def close(self) -> None:
        """Close the archive."""
        self._inner.close()
