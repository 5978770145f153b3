"""A wire format as one row: how to know it, read it and write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from lading import media
from lading.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.manifest import Descriptor, Manifest
    from lading.model import Model, Part

ROLE = "io.lading.role"
"""Layer annotation, written only where the format's own types would be read as another role."""


_Config = TypeVar("_Config", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Written:
    """A model in a format: the manifest, and the bytes of the config blob it names."""

    manifest: Manifest
    config: bytes


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table of formats.

    `read` takes the manifest and its config's bytes and raises FormatError for what breaks the format's
    rules; `write` takes a model and the time to record (RFC 3339), if any, and gives the same bytes anywhere.
    """

    name: str
    detect: Callable[[Manifest], bool]
    read: Callable[[Manifest, bytes], Model]
    write: Callable[[Model, str | None], Written]


class _FileMetadata(msgspec.Struct, frozen=True, kw_only=True):
    # The fields and their order as ModelPack's FileMetadata has them; mtime is left out, not invented.
    name: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int
    typeflag: int = 0


def layer(part: Part, media_type: str, *, role: bool) -> Descriptor:
    """Describe a part as a raw layer with the annotations that Docker, ModelPack and Podman readers look for."""
    annotations = {
        media.FILE_METADATA: msgspec.json.encode(
            _FileMetadata(name=part.name.rpartition("/")[2], size=part.blob.size)
        ).decode(),
        media.FILE_TYPE_UNTESTED: "false",
        media.FILE_PATH: part.name,
        media.TITLE: part.name,
    }
    if role:
        annotations[ROLE] = part.role.value
    return msgspec.structs.replace(
        part.blob,
        media_type=media_type,
        annotations=dict(sorted(annotations.items())),
        artifact_type=None,
        platform=None,
    )


def decode_config(raw: bytes, kind: type[_Config], name: str) -> _Config:
    """Read a config blob; raises FormatError, naming the format."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        msg = f"the {name} config is malformed: {error}"
        raise FormatError(msg, hint="the artifact was written by something that does not keep to the format") from error
