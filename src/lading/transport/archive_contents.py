"""What is in an archive, from its headers: files by path, and as an OCI image layout (image-layout.md), blobs and names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lading import media
from lading.digest import Digest
from lading.errors import FormatError
from lading.formats.archive import Compression, Entry, Kind, RangeCursor, read_entries
from lading.manifest import MAX_DOCUMENT, Descriptor, Index, parse_document
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.content import RangeReader
    from lading.manifest import Document

HEAD = 4
"""Bytes from which on `compression_of` knows."""

_MAGICS = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5\x2f\xfd": Compression.ZSTD}
_CONTAINERD_NAME = "io.containerd.image.name"  # what docker and containerd write beside a mere tag
_MALFORMED = "the archive is damaged or malformed"


@dataclass(frozen=True, slots=True)
class Root:
    """What an archive holds under a name; None where nobody gave it one."""

    name: str | None
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive turned out to hold: its kind, where its blobs lie, and the manifests that it only implies."""

    kind: Literal["oci", "docker"]
    roots: tuple[Root, ...]
    blobs: Mapping[Digest, Entry]
    implied: Mapping[Digest, Document]


def compression_of(head: bytes) -> Compression:
    """Return how a file is compressed that begins with these bytes."""
    return next((kind for magic, kind in _MAGICS.items() if head.startswith(magic)), Compression.NONE)


def read_entry(file: RangeReader, entry: Entry, limit: int) -> bytes:
    """Return a small file of an archive, whole; raises FormatError where it is longer than `limit` bytes."""
    if entry.size > limit:
        msg = f"{clean(entry.name)} in {file.name} has {entry.size:,} bytes where at most {limit:,} are expected"
        raise FormatError(msg, hint=_MALFORMED)
    return file.read_at(entry.offset, entry.size)


def entries_of(file: RangeReader, name: str) -> dict[str, Entry]:
    """Return all that is in an archive but folders, by path; raises FormatError for what is no plain archive."""
    found: dict[str, Entry] = {}
    for entry in read_entries(RangeCursor(file, name)):
        if entry.kind is Kind.FOLDER:
            continue
        if entry.name in found:
            msg = f"{name} has {clean(entry.name)} twice"
            raise FormatError(msg, hint="two readers could read two things")
        found[entry.name] = entry
    return found


def layout_contents(file: RangeReader, entries: Mapping[str, Entry], name: str) -> Contents:
    """Return what is in an image layout; raises FormatError, naming what is wrong with it."""
    for entry in entries.values():
        if entry.kind is not Kind.FILE:
            msg = f"{name} has {clean(entry.name)}, which is a {entry.kind}"
            raise FormatError(msg, hint="an image layout is made of regular files; links are not followed")
    if "index.json" not in entries:
        msg = f"{name} has oci-layout and no index.json"
        raise FormatError(msg, hint=_MALFORMED)
    raw = read_entry(file, entries["index.json"], MAX_DOCUMENT)
    index = parse_document(raw, name=f"{name}, index.json", media_type=media.OCI_INDEX)
    assert isinstance(index, Index)  # noqa: S101 - by the type it was parsed as
    roots = tuple(Root(_name_of(entry), entry) for entry in index.manifests)
    refuse_twice(roots, name)
    return Contents("oci", roots, blobs_by_digest(entries), {})


def blobs_by_digest(entries: Mapping[str, Entry]) -> dict[Digest, Entry]:
    """Return the files of an archive that are named as a layout names blobs."""
    found = {}
    for entry in entries.values():
        folder, _slash, rest = entry.name.partition("/")
        if folder == "blobs" and entry.kind is Kind.FILE:
            try:
                digest = Digest(rest.replace("/", ":", 1))
            except FormatError:
                continue  # of another algorithm, or no blob at all: what names it will not find it
            found[digest] = entry
    return found


def refuse_twice(roots: tuple[Root, ...], name: str) -> None:
    """Raise FormatError for an archive that gives two models one name."""
    seen: dict[str, Digest] = {}
    for root in roots:
        if root.name is not None and seen.setdefault(root.name, root.descriptor.digest) != root.descriptor.digest:
            msg = f"{name} has two models named `{clean(root.name)}`"
            raise FormatError(msg, hint=_MALFORMED)


def _name_of(entry: Descriptor) -> str | None:
    return entry.annotations.get(_CONTAINERD_NAME) or entry.annotations.get(media.REF_NAME) or None
