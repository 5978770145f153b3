"""The store's names: `index.json` of the OCI image layout (image-layout.md).

Entries that others wrote, with or without a name, are kept as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from lading import fs, media
from lading.errors import FormatError, NotFoundError
from lading.manifest import Descriptor, decode_descriptor, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

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


class TagIndex:
    """The names of one layout; every change is one atomic replacement under a lock."""

    __slots__ = ("_lock_path", "_root")

    def __init__(self, root: Path, lock_path: Path) -> None:
        self._root = root
        self._lock_path = lock_path

    def tags(self) -> tuple[Tag, ...]:
        """Return all named entries in the file's order; none when there is no layout yet."""
        return tuple(Tag(entry.annotations[media.REF_NAME], entry) for entry in self.roots() if _named(entry))

    def roots(self) -> tuple[Descriptor, ...]:
        """Return all entries, the nameless too: what must be kept."""
        return tuple(self._decode(entry) for entry in self._read()["manifests"])

    def find(self, name: str) -> Tag | None:
        """Return the entry of that name, or None."""
        return next((tag for tag in self.tags() if tag.name == name), None)

    def set(self, name: str, descriptor: Descriptor, annotations: Mapping[str, str]) -> None:
        """Point a name at a document, replacing what it pointed at."""
        entry = msgspec.structs.replace(
            descriptor,
            annotations=dict(sorted({**descriptor.annotations, **annotations, media.REF_NAME: name}.items())),
        )
        raw = json.loads(encode(entry))
        self._change(lambda entries: [*(old for old in entries if _name_of(old) != name), raw])

    def remove(self, name: str) -> None:
        """Drop a name; raises NotFoundError when it is not there."""

        def without(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            kept = [entry for entry in entries if _name_of(entry) != name]
            if len(kept) == len(entries):
                msg = f"no model is named `{name}` in the store"
                raise NotFoundError(msg, hint="`lading list` shows what is there")
            return kept

        self._change(without)

    def create(self) -> None:
        """Write the two files that make a folder an image layout, unless they are there."""
        with fs.Lock(self._lock_path, "the store's index"):
            if not (self._root / "oci-layout").exists():
                fs.atomic_write(self._root / "oci-layout", _LAYOUT)
            if not (self._root / "index.json").exists():
                fs.atomic_write(self._root / "index.json", msgspec.json.encode(_EMPTY))

    def _change(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        with fs.Lock(self._lock_path, "the store's index"):
            index = self._read()
            fs.atomic_write(
                self._root / "index.json", msgspec.json.encode({**index, "manifests": change(index["manifests"])})
            )

    def _read(self) -> dict[str, Any]:
        path = self._root / "index.json"
        try:
            with fs.os_errors(path):
                raw = path.read_bytes()
        except NotFoundError:
            return dict(_EMPTY)
        try:
            index = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            msg = f"{path} is not JSON"
            raise FormatError(
                msg, hint="it was written by something else or damaged; restore it or remove it"
            ) from error
        entries = index.get("manifests") if isinstance(index, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            msg = f"{path} is not the index of an OCI image layout"
            raise FormatError(msg, hint="name another folder with --store")
        return dict(index)

    def _decode(self, entry: dict[str, Any]) -> Descriptor:
        return decode_descriptor(entry, name=str(self._root / "index.json"))


def _named(entry: Descriptor) -> bool:
    return media.REF_NAME in entry.annotations


def _name_of(entry: dict[str, Any]) -> str | None:
    annotations = entry.get("annotations")
    return annotations.get(media.REF_NAME) if isinstance(annotations, dict) else None
