"""What a copy has to move: pure, from a document and what the target already holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import media
from lading.errors import FormatError
from lading.manifest import Index, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.manifest import Descriptor, Document

MAX_DEPTH = 4
"""How deep indexes may nest; real ones have one level."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The blobs of one manifest, in its order, split by whether the target has them. Sizes in bytes."""

    manifest: Manifest
    missing: tuple[Descriptor, ...]
    present: tuple[Descriptor, ...]

    @property
    def missing_bytes(self) -> int:
        """Bytes to move."""
        return sum(blob.size for blob in self.missing)

    @property
    def total_bytes(self) -> int:
        """Bytes of all blobs, config included."""
        return self.missing_bytes + sum(blob.size for blob in self.present)


def make_plan(manifest: Manifest, has: Callable[[Descriptor], bool]) -> Plan:
    """Ask the target about every blob, each digest once.

    Raises FormatError when one digest is declared with two sizes.
    """
    sizes: dict[str, int] = {}
    for blob in (manifest.config, *manifest.layers):
        if sizes.setdefault(blob.digest, blob.size) != blob.size:
            msg = f"manifest {manifest.digest.short} gives blob {blob.digest.short} two sizes"
            raise FormatError(msg, hint="the source's manifest is malformed")
    present: list[Descriptor] = []
    missing: list[Descriptor] = []
    for blob in manifest.blobs:
        (present if has(blob) else missing).append(blob)
    return Plan(manifest, tuple(missing), tuple(present))


def single_manifest(document: Document, fetch: Callable[[str], Document], name: str) -> Manifest:
    """Return the one model that a document stands for, following indexes that have a single entry.

    `fetch` reads a document by digest. Raises FormatError for an index of several, naming them, or of none,
    and for indexes nested deeper than `MAX_DEPTH`.
    """
    for _level in range(MAX_DEPTH):
        if isinstance(document, Manifest):
            return document
        document = fetch(str(_only_entry(document, name).digest))
    if isinstance(document, Manifest):
        return document
    msg = f"{name} is an index nested deeper than {MAX_DEPTH} levels"
    raise FormatError(msg, hint="no honest artifact needs that; no blob was fetched")


def _only_entry(index: Index, name: str) -> Descriptor:
    if len(index.manifests) == 1:
        return index.manifests[0]
    shown = ", ".join(f"{entry.digest.short} ({_words(entry)})" for entry in index.manifests[:8])
    more = f" and {len(index.manifests) - 8} more" if len(index.manifests) > 8 else ""  # noqa: PLR2004 - the eight shown
    msg = f"{name} is an index of {len(index.manifests)} manifests, not one model"
    raise FormatError(msg, hint=f"name one by its digest: {shown}{more}" if shown else "it is empty")


def _words(entry: Descriptor) -> str:
    if entry.platform:
        return f"{entry.platform.os}/{entry.platform.architecture}"
    return entry.annotations.get(media.TITLE) or entry.artifact_type or entry.media_type
