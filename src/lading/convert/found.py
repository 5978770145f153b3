"""A model as it lies at a source, read and understood before it is converted."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import artifact
from lading.artifact.layers import list_archives
from lading.errors import IntegrityError
from lading.manifest import MAX_DOCUMENT

if TYPE_CHECKING:
    from lading.artifact import Format
    from lading.content import Source
    from lading.manifest import Descriptor, Manifest
    from lading.model import Model


@dataclass(frozen=True, slots=True)
class Found:
    """One artifact: its manifest and config as they came, the row that reads them, and the model that they are."""

    name: str
    source: Source
    manifest: Manifest
    config: bytes
    row: Format
    model: Model


def find(manifest: Manifest, source: Source, name: str) -> Found:
    """Read an artifact's config, and what is in its layers where these are archives.

    Compressed layers are read whole for that. Raises FormatError and IntegrityError for what is no model.
    """
    row = artifact.detect(manifest, name)
    config = read_small(manifest.config, source)
    listing = list_archives(row.archives(manifest, config), source)
    return Found(name, source, manifest, config, row, row.read(manifest, config, listing))


def read_small(blob: Descriptor, source: Source) -> bytes:
    """Return a config whole and verified; raises IntegrityError for one of more than 4 MiB."""
    if blob.size > MAX_DOCUMENT:
        msg = f"the config {blob.digest.short} has {blob.size} bytes; 4 MiB are the most"
        raise IntegrityError(msg, hint="the artifact is malformed")
    with closing(source.open(blob)) as reader:
        return b"".join(iter(lambda: reader.read(blob.size + 1) or b"", b""))
