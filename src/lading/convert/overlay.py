"""A Source over another: what was made for a conversion beside what lies there.

A made blob is small and at hand, or a recipe: which bytes of the source, in which order, with what before and after.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from lading.artifact.contents import FileReader, open_part, part_ranges
from lading.content import Redundant
from lading.digest import Digest, VerifyingReader
from lading.formats.archive import Compression, WrappedReader
from lading.ranges import BytesRanges

if TYPE_CHECKING:
    from lading.content import ByteReader, RangeReader, Source
    from lading.formats.archive import Wrapping
    from lading.manifest import Descriptor, Document
    from lading.model import Part

_SKIP = 1024 * 1024


class Recipe(Protocol):
    """How the bytes of a blob come about that lies nowhere as it is."""

    def open(self, offset: int, /) -> ByteReader:
        """Stream them from `offset` on, unverified: whoever reads them does that."""

    def ranges(self) -> RangeReader:
        """Return random access to them, without verification."""

    def raw(self) -> Descriptor | None:
        """Return the blob of the source that they are made of."""


@dataclass(frozen=True, slots=True)
class Small:
    """Bytes at hand."""

    data: bytes

    def open(self, offset: int, /) -> ByteReader:
        """Stream them from `offset` on."""
        return io.BytesIO(self.data[offset:])

    def ranges(self) -> RangeReader:
        """Return random access to them."""
        return BytesRanges(self.data, "what was written")

    def raw(self) -> Descriptor | None:
        """Return None: they were written here."""
        return None


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A blob of `source` with what makes it an archive; `name` is what messages call the file."""

    name: str
    wrapping: Wrapping
    blob: Descriptor
    source: Source

    def open(self, offset: int, /) -> ByteReader:
        """Stream the archive from `offset` on."""
        before = len(self.wrapping.head)
        skipped = min(max(0, offset - before), self.blob.size)
        left = replace(
            self.wrapping,
            head=self.wrapping.head[offset:],
            length=self.blob.size - skipped,
            tail=self.wrapping.tail[max(0, offset - before - self.blob.size) :],
        )
        if skipped and skipped == self.blob.size:
            return WrappedReader(left, io.BytesIO())
        return WrappedReader(left, _unverified(self.source.open(self.blob, skipped)))

    def ranges(self) -> RangeReader:
        """Return random access to the archive."""
        return _WrappedRanges(self)

    def raw(self) -> Descriptor | None:
        """Return the file's blob."""
        return self.blob


@dataclass(frozen=True, slots=True)
class Inside:
    """A file that lies in a layer of `source`."""

    part: Part
    source: Source

    def open(self, offset: int, /) -> ByteReader:
        """Stream the file from `offset` on."""
        member = self.part.member
        assert member is not None  # noqa: S101 - a packed part has one
        if member.compression == Compression.NONE:
            rest = replace(member, offset=member.offset + offset, size=member.size - offset)
            if not rest.size:
                return io.BytesIO()
            return FileReader(self.source.open(self.part.blob, rest.offset), replace(self.part, member=rest))
        reader = open_part(self.part, self.source)
        try:
            while offset and (piece := reader.read(min(offset, _SKIP))):
                offset -= len(piece)
        except BaseException:
            reader.close()
            raise
        return reader

    def ranges(self) -> RangeReader:
        """Return random access to the file."""
        return part_ranges(self.part, self.source)

    def raw(self) -> Descriptor | None:
        """Return the layer."""
        return self.part.blob


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A blob that lies in another source as it is."""

    blob: Descriptor
    source: Source

    def open(self, offset: int, /) -> ByteReader:
        """Stream it from `offset` on."""
        return _unverified(self.source.open(self.blob, offset))

    def ranges(self) -> RangeReader:
        """Return random access to it."""
        return self.source.ranges(self.blob)

    def raw(self) -> Descriptor | None:
        """Return None: it is not of the source that lies below."""
        return None


class Overlay:
    """What was made over what `base` holds; a Source, and Redundant where `base` is."""

    def __init__(self, base: Source) -> None:
        self.base = base
        self._recipes: dict[Digest, Recipe] = {}
        self._documents: dict[str, Document] = {}

    def add(self, digest: Digest, recipe: Recipe) -> None:
        """Hold a made blob."""
        self._recipes[digest] = recipe

    def write(self, data: bytes) -> Digest:
        """Hold a small blob and return its digest."""
        digest = Digest.of(data)
        self._recipes[digest] = Small(data)
        return digest

    def made(self, digest: Digest) -> bool:
        """Say whether a blob was made, and is not just one that lies in the source."""
        return digest in self._recipes

    def add_document(self, document: Document) -> None:
        """Hold a made manifest or index."""
        self._documents[document.digest] = document

    def document(self, name: str, /) -> Document:
        """Return a manifest or index under a tag of the source or a digest."""
        return self._documents.get(name) or self.base.document(name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a blob; read from 0 its end is verified, from elsewhere the caller verifies."""
        recipe = self._recipes.get(blob.digest)
        if recipe is None:
            return self.base.open(blob, offset)
        if offset:
            return recipe.open(offset)
        name = f"blob {blob.digest.short}"
        return VerifyingReader(recipe.open(0), name, size=blob.size, digest=blob.digest)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a blob, without verification."""
        recipe = self._recipes.get(blob.digest)
        return self.base.ranges(blob) if recipe is None else recipe.ranges()

    def distrust(self, blob: Descriptor, /) -> bool:
        """Hear that what was read of a blob is wrong; say whether another place gives it from now on."""
        recipe = self._recipes.get(blob.digest)
        raw = blob if recipe is None else recipe.raw()
        return raw is not None and isinstance(self.base, Redundant) and self.base.distrust(raw)


def _unverified(reader: ByteReader) -> ByteReader:
    """Spare a second hash: what the bytes become is verified, and so are they."""
    return reader.unverified() if isinstance(reader, VerifyingReader) else reader


class _WrappedRanges:
    """A RangeReader over an archive; the file's own ranges are opened when first needed."""

    def __init__(self, recipe: Wrapped) -> None:
        self._recipe = recipe
        self._inner: RangeReader | None = None
        self.name = recipe.wrapping.path
        self.size = recipe.wrapping.size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the archive ends."""
        wrapping = self._recipe.wrapping
        begin, end = len(wrapping.head), len(wrapping.head) + wrapping.length
        stop = offset + length
        data = wrapping.head[offset:stop]
        if stop > begin and offset < end:
            if self._inner is None:
                self._inner = self._recipe.source.ranges(self._recipe.blob)
            start = max(offset, begin)
            data += self._inner.read_at(start - begin, min(stop, end) - start)
        if stop > end:
            data += wrapping.tail[max(0, offset - end) : stop - end]
        return data

    def close(self) -> None:
        """Close the file's ranges."""
        if self._inner is not None:
            self._inner.close()
