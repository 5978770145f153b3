"""The table of wire formats. A further format is one new module and one row here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading.artifact import docker, image, kitops, modelpack, ollama, omlmd
from lading.artifact.format import Format, Written
from lading.errors import FormatError, UsageError

if TYPE_CHECKING:
    from lading.manifest import Manifest

__all__ = [
    "EVERY",
    "FORMATS",
    "LIMITED",
    "RAW",
    "READ_ONLY",
    "Format",
    "Written",
    "detect",
    "is_written",
    "named",
    "several",
]

RAW: tuple[Format, ...] = (docker.ROW, modelpack.ROW)
"""The forms that are read and written, and whose layers are the files themselves."""

FORMATS: tuple[Format, ...] = (*RAW, image.ROW)
"""The forms that are read and written; of some `Format.wrap` makes the layers first."""

LIMITED: tuple[Format, ...] = (ollama.ROW,)
"""The forms that are read, and written for the models that they can hold."""

READ_ONLY: tuple[Format, ...] = (kitops.ROW, omlmd.ROW)
"""The forms that are only read."""

EVERY: tuple[Format, ...] = (*FORMATS, *LIMITED, *READ_ONLY)
"""All of them."""

_BOTH = tuple(row.name for row in RAW)
_WRITTEN = {row.name: row for row in (*FORMATS, *LIMITED)}


def detect(manifest: Manifest, name: str) -> Format:
    """Return the format a manifest is written in; raises FormatError, naming its config's type."""
    for row in EVERY:
        if row.detect(manifest):
            return row
    msg = f"{name} is no model artifact that is known here: its config has type {manifest.config.media_type[:80]}"
    raise FormatError(msg, hint=f"known are {', '.join(row.name for row in EVERY)}")


def several(text: str) -> tuple[Format, ...]:
    """Return the formats of a list such as `docker,image`, each once and in its order; `both` are those of files.

    One that is only read is among them: a model that was in it once may have a way back. Raises UsageError.
    """
    every = {row.name: row for row in EVERY}
    names = [name for word in text.split(",") for name in (_BOTH if word.strip() == "both" else (word.strip(),))]
    unknown = [name for name in names if name not in every]
    if unknown:
        msg = f"unknown format `{unknown[0]}`"
        raise UsageError(msg, hint=f"formats are {', '.join(_WRITTEN)}; `both` is {','.join(_BOTH)}")
    return tuple(every[name] for name in dict.fromkeys(names))


def is_written(row: Format) -> bool:
    """Say whether models are written in a format, and not only read."""
    return row.name in _WRITTEN


def named(name: str) -> Format:
    """Return the format of that name, if it is written; raises UsageError."""
    if name in _WRITTEN:
        return _WRITTEN[name]
    if any(row.name == name for row in READ_ONLY):
        msg = f"models are read in the format `{name}`, and not written"
        raise UsageError(msg, hint=f"written are {', '.join(_WRITTEN)}")
    msg = f"unknown format `{name}`"
    raise UsageError(msg, hint=f"formats are {', '.join(_WRITTEN)}")
