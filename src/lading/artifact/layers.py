"""Layers that are archives: what is in them, and the bytes of a file in one, wherever the layer lies.

An uncompressed archive is listed by ranges, and a file in it read in place. A compressed one has to be read from
its start.
"""

from __future__ import annotations

import io
import unicodedata
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lading.digest import Verifier
from lading.errors import FormatError, IntegrityError
from lading.formats.archive import (
    Compression,
    Entry,
    Kind,
    RangeCursor,
    StreamCursor,
    decompressed,
    read_entries,
)
from lading.formats.shards import check_safetensors, shard_sets
from lading.manifest import Descriptor
from lading.model import Member, Part, Role, chat_templates
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, Source
    from lading.digest import Digest
    from lading.formats.archive import Wrapping

LOOK = 8 * 1024 * 1024
"""Bytes of a compressed layer, uncompressed, that are looked at where it is not to be fetched whole."""

MAX_FILES = 10_000
"""In the archives of one artifact."""

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Archive:
    """A layer that is a tar archive. `diff_id` is what its uncompressed bytes hash to, None where nobody says it."""

    blob: Descriptor
    compression: Compression
    diff_id: Digest | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"layer {self.blob.digest.short}"


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in the archives of an artifact, by their digests. `cut` are those of which only the beginning was read."""

    entries: Mapping[Digest, tuple[Entry, ...]]
    cut: tuple[Archive, ...] = ()

    def of(self, archive: Archive) -> tuple[Entry, ...]:
        """Return what is in an archive, in its order; raises FormatError if nobody has looked."""
        try:
            return self.entries[archive.blob.digest]
        except KeyError:
            msg = f"{archive.name} is packed: it has the type {archive.blob.media_type[:_SHOWN]}"
            raise FormatError(msg, hint="what is in it is not known") from None


EMPTY = Listing({})
"""Of an artifact whose layers are all files themselves."""


def list_archives(archives: Iterable[Archive], source: Source, *, within: int | None = None) -> Listing:
    """Look into archives. `within` bounds the bytes of a compressed one, uncompressed, that are looked at.

    Without it compressed layers are read whole and held to their digests. Raises FormatError for what is no plain
    archive, IntegrityError for a layer or diff_id that lies.
    """
    entries = {}
    cut = []
    for archive in archives:
        if archive.compression is Compression.NONE:
            _check_plain_diff_id(archive)
            with closing(source.ranges(archive.blob)) as reader:
                entries[archive.blob.digest] = tuple(read_entries(RangeCursor(reader, archive.name)))
            continue
        found = []
        with closing(Walk(archive, source)) as walk:
            for entry in walk:
                found.append(entry)
                # What a file that reaches further hides is not looked for.
                if within is not None and entry.offset + entry.size > within:
                    cut.append(archive)
                    break
        entries[archive.blob.digest] = tuple(found)
    return Listing(entries, tuple(cut))


def files_of(archive: Archive, listing: Listing) -> tuple[Entry, ...]:
    """Return the files in an archive that is to hold files and folders alone; raises FormatError for anything else."""
    entries = listing.of(archive)
    for entry in entries:
        if entry.kind not in (Kind.FILE, Kind.FOLDER):
            raise refused(archive, entry)
    return tuple(entry for entry in entries if entry.kind is Kind.FILE)


def refused(archive: Archive, entry: Entry) -> FormatError:
    """Return the error for what is no file, where a file of a model should be."""
    msg = f"{archive.name} has {clean(entry.name)[:_SHOWN]}, which is a {entry.kind}"
    return FormatError(msg, hint="a model is made of regular files; links are not followed")


def part_of(archive: Archive, entry: Entry, role: Role, name: str, digest: Digest | None = None) -> Part:
    """Return the part of a model that a file in an archive is; `digest` is what the artifact says of the file alone."""
    member = Member(entry.name, entry.offset, entry.size, archive.compression.value, archive.diff_id, digest)
    return Part(role, name, archive.blob, member)


def wrapped_part(part: Part, wrapping: Wrapping, layer: Digest) -> Part:
    """Return a part whose bytes stand in a layer of their own, as `wrapping` made it."""
    member = Member(wrapping.path, len(wrapping.head), part.size, Compression.NONE.value, layer, part.digest)
    blob = Descriptor(media_type=part.blob.media_type, digest=layer, size=wrapping.size)
    return Part(part.role, part.name, blob, member)


def plain_part(part: Part) -> Part | None:
    """Return a part as the file itself, in no layer but its own, if it is known what the file hashes to."""
    if part.member is None:
        return part
    if part.digest is None:
        return None
    blob = Descriptor(media_type="application/octet-stream", digest=part.digest, size=part.size)
    return Part(part.role, part.name, blob)


def check_files(parts: Sequence[Part], thing: str) -> None:
    """Hold a model's files to what can lie side by side on every machine, and be a whole model; raises FormatError.

    No more than `MAX_FILES` are packed, no two names differ by case or accents only, which some file systems cannot tell
    apart, no shard of the weights is missing, and one chat template at most is the model's own.
    """
    if sum(part.member is not None for part in parts) > MAX_FILES:
        raise too_many(thing)
    seen: dict[str, str] = {}
    for part in parts:
        segments = part.name.split("/")
        for depth in range(1, len(segments) + 1):
            name = "/".join(segments[:depth])
            folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
            if (other := seen.setdefault(folded, name)) != name:
                msg = f"{thing} has {clean(other)[:_SHOWN]} and {clean(name)[:_SHOWN]}, which differ by case or accents only"
                raise FormatError(msg, hint="they would be one file on some disks")
    weights = [part.name for part in parts if part.role is Role.WEIGHTS]
    shard_sets(weights)
    check_safetensors(weights)
    templates = _templates(parts)
    if len(templates) > 1:
        msg = f"{thing} has {len(templates)} chat templates: {clean(', '.join(templates))[:_SHOWN]}"
        raise FormatError(msg, hint="a model has one; nothing says which of them is meant")


def one_template(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return parts of which those that only stand beside the chat template are files like others."""
    known = tuple(parts)
    aside = {part.name for part in known if part.role is Role.TEMPLATE}.difference(_templates(known))
    return tuple(replace(part, role=Role.CONFIG) if part.name in aside else part for part in known)


def _templates(parts: Iterable[Part]) -> tuple[str, ...]:
    return chat_templates(part.name for part in parts if part.role is Role.TEMPLATE)


def too_many(thing: str) -> FormatError:
    """Return the error for more packed files than any model has."""
    msg = f"{thing} holds more than {MAX_FILES:,} files"
    return FormatError(msg, hint="no honest model does; nothing was unpacked")


def archive_of(part: Part) -> Archive:
    """Return the archive that a packed part lies in."""
    assert part.member is not None  # noqa: S101 - asked only of packed ones
    return Archive(part.blob, Compression(part.member.compression), part.member.diff_id)


class Walk:
    """A way through an archive's stream, entry by entry, with the bytes of the file at hand to be read.

    Iterated to its end it has held the layer to its digest and size, and its uncompressed bytes to the diff_id. Raises
    FormatError and IntegrityError, naming the layer.
    """

    def __init__(self, archive: Archive, source: Source) -> None:
        self._archive = archive
        self._reader = _Hashed(decompressed(source.open(archive.blob), archive.compression, archive.name), archive)
        self._cursor = StreamCursor(self._reader, archive.name)
        self._entry: Entry | None = None

    def __iter__(self) -> Iterator[Entry]:
        for entry in read_entries(self._cursor):
            self._entry = entry
            yield entry
        self._entry = None
        self._reader.finish()

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer with the bytes of the file at hand and return their number; 0 at the file's end."""
        if self._entry is None:
            return 0
        left = self._entry.offset + self._entry.size - self._cursor.position
        count = self._cursor.readinto(buffer[:left]) if left else 0
        if left and len(buffer) and not count:
            msg = f"{clean(self._entry.name)[:_SHOWN]} in {self._archive.name} is cut off"
            raise FormatError(msg, hint="the archive is damaged or malformed")
        return count

    def close(self) -> None:
        """Close the layer's stream."""
        self._reader.close()


class _Hashed(io.RawIOBase):
    """A stream held to the archive's diff_id, for which the layer's own digest does not vouch."""

    def __init__(self, inner: ByteReader, archive: Archive) -> None:
        _check_plain_diff_id(archive)
        self._inner = inner
        wanted = archive.diff_id if archive.compression is not Compression.NONE else None
        self._verifier = wanted and Verifier(f"{archive.name}, uncompressed,", size=None, digest=wanted)

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        count = self._inner.readinto(view)
        if self._verifier:
            self._verifier.update(view[:count])
        return count

    def finish(self) -> None:
        """Raise IntegrityError unless all bytes were those of the diff_id."""
        if self._verifier:
            self._verifier.finish()

    def close(self) -> None:
        """Close the stream too."""
        if not self.closed:
            self._inner.close()
        super().close()


def _check_plain_diff_id(archive: Archive) -> None:
    wanted, actual = archive.diff_id, archive.blob.digest
    if archive.compression is Compression.NONE and wanted and wanted.algorithm == actual.algorithm and wanted != actual:
        msg = f"{archive.name} is not compressed, and its diff_id is {wanted.short}"
        raise IntegrityError(msg, hint="the config and the manifest of the artifact contradict each other")
