"""Unpack: files of a stored model that lie in archives become files in its view, for a runtime."""

from __future__ import annotations

from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from lading.artifact.contents import FileReader, open_part
from lading.artifact.layers import Archive, Listing, Walk, archive_of, list_archives
from lading.errors import IntegrityError
from lading.events import Advanced, Finished, Started
from lading.formats.archive import Compression, Entry
from lading.store.unpacked import Unpacked, remember, remembered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from lading.artifact.format import Format
    from lading.content import ByteReader
    from lading.digest import Digest
    from lading.events import Reporter
    from lading.manifest import Manifest
    from lading.model import Model, Part
    from lading.store import Store


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a compressed layer that was read whole and held to its digests."""

    diff_id: str | None
    entries: tuple[Entry, ...]


def read_stored(row: Format, manifest: Manifest, store: Store) -> Model:
    """Return the model of an artifact that is in the store whole; its archives are looked into.

    Raises FormatError and IntegrityError, naming the layer, for what is wrong with one.
    """
    config = store.read(manifest.config)
    return row.read(manifest, config, list_stored(row.archives(manifest, config), store))


def list_stored(archives: Iterable[Archive], store: Store) -> Listing:
    """Look into archives that are in the store, as `list_archives` does; a compressed one is read once, ever."""
    entries: dict[Digest, tuple[Entry, ...]] = {}
    for archive in archives:
        known = _known(store, archive)
        if known is None:
            known = list_archives([archive], store).of(archive)
            if archive.compression is not Compression.NONE and store.writable:
                remember(store, archive.blob.digest, msgspec.json.encode(_Record(archive.diff_id, known), enc_hook=str))
        entries[archive.blob.digest] = known
    return Listing(entries)


def unpack(store: Store, digest: Digest, parts: Iterable[Part], reporter: Reporter) -> Path:
    """Return the folder in which the packed ones among `parts` lie under their names, written there unless they were.

    `digest` is the model's manifest's. All layers that are read are held to their digests, all files to theirs where
    they are said, before any has its name. Raises IntegrityError, FormatError, NoSpaceError; AccessDeniedError in a
    store that is read-only.
    """
    files = Unpacked(store, digest)
    packed = [part for part in parts if part.member]
    if all(files.has(part.name, part.size) for part in packed):
        return files.folder
    with files:
        # Another process may have written some of them while this one waited for it.
        missing = sorted(
            (part for part in packed if not files.has(part.name, part.size)), key=lambda part: part.blob.digest
        )
        store.require_space(sum(part.size for part in missing))
        for _layer, group in groupby(missing, key=lambda part: part.blob.digest):
            _unpack_layer(store, files, list(group), reporter)
        files.commit()
    return files.folder


def _unpack_layer(store: Store, files: Unpacked, parts: Sequence[Part], reporter: Reporter) -> None:
    archive = archive_of(parts[0])
    if archive.compression is Compression.NONE:
        for part in parts:
            with closing(open_part(part, store)) as reader:
                _write(files, part, reader, reporter)
        return
    wanted = {part.member.path: part for part in parts if part.member}
    with closing(Walk(archive, store)) as walk:
        for entry in walk:
            if entry.name in wanted:
                part = wanted.pop(entry.name)
                _write(files, part, FileReader(walk, part, keep=True), reporter)
    if wanted:
        msg = f"{archive.name} lacks {min(wanted)}"
        raise IntegrityError(msg, hint="`lading verify` tells what else is damaged; pull the model again")


def _write(files: Unpacked, part: Part, reader: ByteReader, reporter: Reporter) -> None:
    reporter.emit(Started(part.name, part.role.value, part.name, part.size))
    claimed = part.member.digest if part.member else None
    files.write(part.name, part.size, claimed, reader, lambda done: reporter.emit(Advanced(part.name, done)))
    reporter.emit(Finished(part.name))


def _known(store: Store, archive: Archive) -> tuple[Entry, ...] | None:
    text = None if archive.compression is Compression.NONE else remembered(store, archive.blob.digest)
    if text is None:
        return None
    try:
        record = msgspec.json.decode(text, type=_Record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # of another version, or damaged: it is made again
    return record.entries if record.diff_id == archive.diff_id else None
