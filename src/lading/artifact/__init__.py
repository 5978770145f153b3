"""The table of wire formats. A further format is one new module and one row here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading.artifact import docker, image, kitops, modelpack, ollama, omlmd
from lading.artifact.format import Format, Written
from lading.errors import FormatError, UsageError

if TYPE_CHECKING:
    from lading.manifest import Manifest

__all__ = ["FORMATS", "READ_ONLY", "Format", "Written", "detect", "named"]

FORMATS: tuple[Format, ...] = (docker.ROW, modelpack.ROW)
"""The forms that are read and written."""

READ_ONLY: tuple[Format, ...] = (ollama.ROW, image.ROW, kitops.ROW, omlmd.ROW)
"""The forms that are only read. An image can be written, by who makes its layers first: see `Format.wrap`."""


def detect(manifest: Manifest, name: str) -> Format:
    """Return the format a manifest is written in; raises FormatError, naming its config's type."""
    for row in (*FORMATS, *READ_ONLY):
        if row.detect(manifest):
            return row
    msg = f"{name} is no model artifact that is known here: its config has type {manifest.config.media_type[:80]}"
    raise FormatError(msg, hint=f"known are {', '.join(row.name for row in (*FORMATS, *READ_ONLY))}")


def named(name: str) -> Format:
    """Return the format of that name; raises UsageError."""
    for row in FORMATS:
        if row.name == name:
            return row
    msg = f"unknown format `{name}`"
    raise UsageError(msg, hint=f"formats are {', '.join(row.name for row in FORMATS)}")
