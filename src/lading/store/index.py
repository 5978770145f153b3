"""The store's names: `index.json` of the OCI image layout (image-layout.md).

Entries that others wrote, with or without a name, are kept as they are.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from lading import fs, media
from lading.errors import FormatError, NoSpaceError, NotFoundError
from lading.manifest import Descriptor, decode_descriptor, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lading.store.blobs import Blobs

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MAX_INDEX = 256 * 1024 * 1024
_EMPTY: dict[str, Any] = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": []}


@dataclass(frozen=True, slots=True)
class Tag:
    """A name in a layout and what it points at."""

    name: str
    descriptor: Descriptor

    @property
    def reference(self) -> str | None:
        """The full reference it was pulled by; None for what was packed here."""
        return self.descriptor.annotations.get(media.REFERENCE)

    @property
    def source(self) -> str | None:
        """Where it came from, exactly: a reference with its digest, or the file that was packed."""
        return self.descriptor.annotations.get(media.SOURCE)

    @property
    def pulled(self) -> str | None:
        """When it was written under this name, RFC 3339 in UTC."""
        return self.descriptor.annotations.get(media.PULLED)

    @property
    def packed(self) -> str | None:
        """How it was packed, as the library noted it; None for what was not packed here."""
        return self.descriptor.annotations.get(media.PACKED)


class TagIndex:
    """The names of one layout; every change is one atomic replacement under a lock.

    A layout without an index is a new one only as long as it has no blobs. One that has lost its index is neither
    read nor written: FormatError. What its blobs are needed for is not known, and a new index would free them.
    """

    __slots__ = ("_blobs", "_root", "_work")

    def __init__(self, root: Path, work: Path, blobs: Blobs) -> None:
        self._root = root
        self._work = work
        self._blobs = blobs

    def tags(self) -> tuple[Tag, ...]:
        """Return all named entries in the file's order; none when there is no layout yet.

        An entry that others wrote and lading cannot read (another digest algorithm, say) is no model of ours.
        """
        found = []
        for entry in self._read()["manifests"]:
            name = _name_of(entry)
            if name is not None:
                with suppress(FormatError):
                    found.append(Tag(name, self._decode(entry)))
        return tuple(found)

    def roots(self) -> tuple[Descriptor, ...]:
        """Return all entries, the nameless too: what must be kept. Raises FormatError for one that cannot be read."""
        return tuple(self._decode(entry) for entry in self._read()["manifests"])

    def find(self, name: str) -> Tag | None:
        """Return the entry of that name, or None."""
        entry = next((entry for entry in self._read()["manifests"] if _name_of(entry) == name), None)
        return None if entry is None else Tag(name, self._decode(entry))

    def set(self, name: str, descriptor: Descriptor, annotations: Mapping[str, str]) -> None:
        """Point a name at a document, replacing what it pointed at."""
        self.set_all({name: (descriptor, annotations)})

    def set_all(self, named: Mapping[str, tuple[Descriptor, Mapping[str, str]]]) -> None:
        """Point names at documents, with annotations: all of them or, after a failure, none."""
        raws = []
        for name, (descriptor, more) in named.items():
            annotations = dict(sorted({**descriptor.annotations, **more, media.REF_NAME: name}.items()))
            raws.append(json.loads(encode(msgspec.structs.replace(descriptor, annotations=annotations))))
        self._change(lambda entries: [*(old for old in entries if _name_of(old) not in named), *raws])

    def remove(self, name: str) -> None:
        """Drop a name; raises NotFoundError when it is not there."""

        def without(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            kept = [entry for entry in entries if _name_of(entry) != name]
            if len(kept) == len(entries):
                msg = f"no model is named `{name}` in the store"
                raise NotFoundError(msg, hint="`lading list` shows what is there")
            return kept

        self._change(without)

    def exists(self) -> bool:
        """Say whether the layout has its index at all."""
        return self._path.exists()

    def create(self) -> None:
        """Write the two files that make a folder an image layout, unless they are there."""
        with self._lock():
            if not self._path.exists():
                self._refuse_lost()
                self._write(_EMPTY)
            if not (self._root / "oci-layout").exists():
                fs.atomic_write(self._root / "oci-layout", _LAYOUT, staging=self._work / "ingest" / "oci-layout")

    def _change(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        with self._lock():
            index = self._read()
            self._write({**index, "manifests": change(index["manifests"])})

    @property
    def _path(self) -> Path:
        return self._root / "index.json"

    def _lock(self) -> fs.Lock:
        return fs.Lock(self._work / "locks" / "index", "the store's index")

    def _write(self, index: dict[str, Any]) -> None:
        try:
            fs.atomic_write(self._path, msgspec.json.encode(index), staging=self._work / "ingest" / "index.json")
        except NoSpaceError as error:
            msg = f"no space left for the names in {self._root}"
            raise NoSpaceError(msg, hint=error.hint) from error

    def _refuse_lost(self) -> None:
        # Blobs come after the index, which is never removed: seen in this order, nobody is just beginning the layout.
        if any(self._blobs.digests()) and not self._path.exists():
            msg = f"{self._root} has blobs but no index.json: what is needed is not known"
            raise FormatError(msg, hint="restore index.json, or begin anew with another --store; nothing was changed")

    def _read(self) -> dict[str, Any]:
        path = self._path
        try:
            with open(fs.open_regular(path), "rb") as file, fs.os_errors(path):  # noqa: PTH123 - a descriptor, not a path
                raw = file.read(_MAX_INDEX)
        except NotFoundError:
            self._refuse_lost()
            return dict(_EMPTY)
        try:
            index = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            msg = f"{path} is not JSON"
            hint = "restore it, or begin anew with another --store; nothing was changed"
            raise FormatError(msg, hint=hint) from error
        entries = index.get("manifests") if isinstance(index, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            msg = f"{path} is not the index of an OCI image layout"
            raise FormatError(msg, hint="name another folder with --store")
        if index.get("schemaVersion") != _EMPTY["schemaVersion"]:
            msg = f"{path} has schemaVersion {str(index.get('schemaVersion'))[:20]!r}, not 2"
            raise FormatError(msg, hint="it was written by a newer tool, or is no image layout; nothing was changed")
        return dict(index)

    def _decode(self, entry: dict[str, Any]) -> Descriptor:
        return decode_descriptor(entry, name=str(self._root / "index.json"))


def _name_of(entry: dict[str, Any]) -> str | None:
    annotations = entry.get("annotations")
    name = annotations.get(media.REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None
