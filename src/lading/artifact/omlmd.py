"""omlmd's artifacts: a model file and two files of metadata, each a layer, the metadata also the config. Read, not written."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NoReturn

import msgspec

from lading import media
from lading.artifact.format import Format, decode_config, described, refuse_packed
from lading.artifact.layers import check_files, one_template
from lading.errors import FormatError, UsageError
from lading.model import OPAQUE, Model, ModelFacts, Part, Role, body, check_names, role_of

if TYPE_CHECKING:
    from lading.artifact.layers import Listing
    from lading.manifest import Descriptor, Manifest

CONFIG_TYPE = "application/x-config"
MODEL_TYPE = "application/x-mlmodel"
_KINDS = ("gguf", "safetensors", OPAQUE)
_WEIGHT_ROLES = (Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.BIN)


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    # What is used and no more; what nobody gave is null.
    name: str | None = None
    description: str | None = None
    author: str | None = None
    license: str | None = None
    model_format_name: str | None = None


def _detect(manifest: Manifest) -> bool:
    return manifest.config.media_type == CONFIG_TYPE and any(blob.media_type == MODEL_TYPE for blob in manifest.layers)


def _read(manifest: Manifest, raw: bytes, _listing: Listing) -> Model:
    said = decode_config(raw, _Metadata, "omlmd")
    parts = tuple(map(_part, manifest.layers))
    check_names((part.name for part in parts), "the omlmd artifact")
    check_files(parts, "the omlmd artifact")
    weights = next(iter(body(parts)), None)
    if weights is None:
        msg = "the omlmd artifact has no weights layer"
        raise FormatError(msg, hint="it is an adapter or a projector alone, and no model")
    suffix = PurePosixPath(weights.name).suffix.lower().removeprefix(".")
    return Model(
        one_template(parts),
        described(
            ModelFacts(
                format=suffix if suffix in _KINDS else (said.model_format_name or "").lower(),
                name=said.name or None,
                licence=said.license or None,
                vendor=said.author or None,
                description=said.description or None,
            )
        ),
    )


def _part(blob: Descriptor) -> Part:
    refuse_packed(blob)
    name = blob.annotations.get(media.TITLE)
    if not name:
        msg = f"layer {blob.digest.short} names no file"
        raise FormatError(msg, hint=f"omlmd gives each layer the annotation {media.TITLE}")
    guess = role_of(name)
    if blob.media_type == MODEL_TYPE:
        return Part(guess if guess in _WEIGHT_ROLES else Role.WEIGHTS, name, blob)
    return Part(Role.DOC if blob.media_type == CONFIG_TYPE else guess, name, blob)


def _write(_model: Model, _created: str | None) -> NoReturn:
    msg = "models are not written as omlmd writes them"
    raise UsageError(msg, hint="`modelpack` is, and any OCI client reads it")


ROW = Format("omlmd", _detect, _read, _write)
