"""What a format cannot hold: the first artifact's own words travel with the model, so that a way back exists.

A manifest's annotations carry the manifest and config that it was made from, as text. Converting back takes them as
they are, if every blob they name is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading import media
from lading.artifact import Written
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError
from lading.manifest import Manifest, parse_document

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from lading.artifact import Format
    from lading.convert.found import Found
    from lading.manifest import Descriptor

MANIFEST = "io.lading.original.manifest"
"""Manifest annotation: the text of the manifest that this one was converted from, where it could not be written again."""

CONFIG = "io.lading.original.config"
"""Manifest annotation: the text of its config."""

LONGEST = 512 * 1024
"""Bytes of manifest and config together that are kept; what is longer has no way back."""

_CARRIED = (media.SOURCE, media.REVISION, MANIFEST, CONFIG)


def carried(manifest: Manifest) -> dict[str, str]:
    """Return the annotations that every form of a model has, whatever its format: where it is from."""
    return {key: manifest.annotations[key] for key in _CARRIED if key in manifest.annotations}


def kept(found: Found) -> dict[str, str] | None:
    """Return the annotations that keep an artifact's own words; None where they are too long, or no text."""
    if len(found.manifest.raw) + len(found.config) > LONGEST:
        return None
    try:
        return {MANIFEST: found.manifest.raw.decode(), CONFIG: found.config.decode()}
    except UnicodeDecodeError:
        return None


def restored(
    annotations: Mapping[str, str],
    row: Format,
    present: Collection[Digest],
    has: Callable[[Descriptor], bool],
) -> Written | None:
    """Return the kept artifact if it is one of that format and all it needs is there; None otherwise.

    `present` are the model's files by digest, each of which it must name where its layers are files. `has` is asked for
    layers that are none of them.
    """
    if MANIFEST not in annotations or CONFIG not in annotations:
        return None
    config = annotations[CONFIG].encode()
    try:
        manifest = parse_document(annotations[MANIFEST].encode(), name=f"the annotation {MANIFEST}")
        if not isinstance(manifest, Manifest) or not row.detect(manifest):
            return None
        if Digest.of(config, manifest.config.digest.algorithm) != manifest.config.digest:
            return None
        packed = bool(row.archives(manifest, config))
    except (FormatError, IntegrityError):
        # Whoever wrote the annotation did not mean a manifest; the model is written anew.
        return None
    named = {blob.digest for blob in manifest.layers}
    if not packed and not named.issuperset(present):
        return None
    whole = all(blob.digest in present or has(blob) for blob in manifest.layers)
    return Written(manifest, config) if whole else None
