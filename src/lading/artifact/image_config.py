"""Writing an image: its config, with GGUF Packer's keys where the packager gave a command, and its manifest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from lading import media
from lading.artifact.command import renamed
from lading.artifact.format import (
    CONTEXT,
    OURS,
    PARAMETERS,
    Written,
    decode_config,
    metadata_annotation,
    said_annotations,
)
from lading.artifact.image_layers import LAYER, RootFs, archives_of, is_image, layer_of, said_file, with_role
from lading.artifact.packer import Packing
from lading.errors import FormatError
from lading.formats.archive import Compression
from lading.manifest import MAX_DOCUMENT, Descriptor, Manifest
from lading.model import Model, ModelFacts, Part, Role, body

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lading.manifest import Platform

FORMAT = "io.lading.format"
"""Label: a model's format. Where it stands, the labels beside it speak of the model and not of a base image."""

ARCHITECTURE = "io.lading.architecture"
FILE_TYPE = "io.lading.file-type"
LICENCE = "org.opencontainers.image.licenses"
VENDOR = "org.opencontainers.image.vendor"
DESCRIPTION = "org.opencontainers.image.description"

UNKNOWN_TIME = "0001-01-01T00:00:00Z"
"""What Go's programs write for a time that nobody said; umoci wants every step of a history to have one."""

_SUFFIXES = {Compression.NONE: "", Compression.GZIP: "+gzip", Compression.ZSTD: "+zstd"}


@dataclass(frozen=True, slots=True)
class Said:
    """What an image says of itself beside the model's facts.

    `command` are its arguments for llama-server, with paths of the image, `packing` what GGUF Packer says of the files
    in them, `labels` go before those that follow from the facts. Upon a base, `kept_labels` stay of the base's, None
    for all, and `roles` are those of the base's own files, by path.
    """

    command: tuple[str, ...] = ()
    packing: Packing | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    kept_labels: Mapping[str, str] | None = None
    roles: Mapping[str, Role] | None = None


class _BaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    config: dict[str, Any] | None = None
    rootfs: RootFs
    history: tuple[dict[str, Any], ...] | None = None


class _Step(msgspec.Struct, frozen=True, kw_only=True):
    created: str
    created_by: str


class _Config(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    created: str | None = None
    architecture: str
    variant: str | None = None
    os: str
    config: dict[str, Any]
    rootfs: RootFs
    history: tuple[_Step, ...]


def write(model: Model, created: str | None, platform: Platform, said: Said | None = None) -> Written:
    """Return an image of wrapped parts for a platform; images for several share their layers."""
    said = said or _said(model)
    parts = _in_order(model)
    layers = tuple(map(layer_of, parts))
    config = _Config(
        created=created,
        architecture=platform.architecture,
        variant=platform.variant,
        os=platform.os,
        config=_run({}, model.facts, said),
        rootfs=RootFs(diff_ids=tuple(blob.digest for blob in layers)),
        history=_steps(parts, created),
    )
    return _written(_encoded(config, said), layers, model.facts)


def write_upon(
    base: Manifest, base_config: bytes, model: Model, created: str | None, said: Said | None = None
) -> Written:
    """Return an image of another image and wrapped parts, as `FROM` and `COPY` make it.

    Platform, user and all else that the base's config says stay; of a model that the base holds what GGUF Packer says
    of it goes, and with it the command, unless the model brings its own. Raises FormatError for a base that is no
    image, or whose config is not one's.
    """
    said = said or _said(model)
    if not is_image(base):
        msg = f"the base {base.digest.short} is no container image"
        raise FormatError(msg, hint="name an image that has the programs you need")
    below = tuple(
        _below(msgspec.structs.replace(archive.blob, media_type=LAYER + _SUFFIXES[archive.compression]), said)
        for archive in archives_of(base, base_config)
    )
    tree = decode_config(base_config, _BaseConfig, "base image")
    parts = _in_order(model)
    layers = tuple(map(layer_of, parts))
    config: dict[str, Any] = msgspec.json.decode(base_config)
    diff_ids = [*(tree.rootfs.diff_ids or ()), *(blob.digest for blob in layers)]
    config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    config["config"] = _run(tree.config or {}, model.facts, said)
    # A base without a history has none to go on with: it must tell of every layer.
    steps = map(msgspec.to_builtins, _steps(parts, created))
    config["history"] = [*(tree.history or ()), *steps] if tree.history or not below else None
    if created:
        config["created"] = created
    kept = {key: value for key, value in config.items() if value is not None}
    return _written(_encoded(kept, said), (*below, *layers), model.facts)


def _said(model: Model) -> Said:
    paths = {part.name: f"/{part.member.path}" for part in model.parts if part.member}
    return Said(command=renamed(model.facts.command, lambda name: paths.get(name, name)))


def _below(blob: Descriptor, said: Said) -> Descriptor:
    ours = said_file(blob)
    return with_role(blob, said.roles[ours.path]) if ours and said.roles and ours.path in said.roles else blob


def _run(base: Mapping[str, Any], facts: ModelFacts, said: Said) -> dict[str, Any]:
    """Return what a container is started with, and GGUF Packer's keys beside it."""
    packers = Packing.__struct_encode_fields__
    stale = (*packers, "Cmd") if "Model" in base else packers
    run = {key: value for key, value in base.items() if key not in stale}
    if said.packing is not None:
        run |= msgspec.to_builtins(said.packing)
    if said.command:
        run["Cmd"] = list(said.command)
    labels = base.get("Labels") or {} if said.kept_labels is None else said.kept_labels
    kept = {key: text for key, text in labels.items() if not key.startswith(OURS)}
    return {**run, "Labels": {**kept, **_labels(facts), **said.labels}}


def _encoded(config: _Config | dict[str, Any], said: Said) -> bytes:
    raw = msgspec.json.encode(config, enc_hook=str, order="deterministic")
    if len(raw) <= MAX_DOCUMENT or said.packing is None:
        return raw
    # Readers take no larger ones; the headers are in the files, too.
    bare = msgspec.to_builtins(said.packing.without_headers())
    run = config.config if isinstance(config, _Config) else config["config"]
    smaller = {key: value for key, value in run.items() if key not in Packing.__struct_encode_fields__} | bare
    if isinstance(config, _Config):
        config = msgspec.structs.replace(config, config=smaller)
    else:
        config = {**config, "config": smaller}
    return msgspec.json.encode(config, enc_hook=str, order="deterministic")


def _written(config: bytes, layers: tuple[Descriptor, ...], facts: ModelFacts) -> Written:
    # The command stands in the config.
    annotations = said_annotations(replace(facts, command=())) | metadata_annotation(facts)
    return Written(Manifest.build(Descriptor.of(config, media.OCI_CONFIG), layers, annotations=annotations), config)


def _in_order(model: Model) -> list[Part]:
    # What changes least stands lowest, as in any image.
    below = body(model.parts)
    return sorted(model.parts, key=lambda part: (part not in below, part.name))


def _steps(parts: Sequence[Part], created: str | None) -> tuple[_Step, ...]:
    paths = (part.member.path for part in parts if part.member)
    return tuple(_Step(created=created or UNKNOWN_TIME, created_by=f"lading: /{path}") for path in paths)


def _labels(facts: ModelFacts) -> dict[str, str]:
    said = {
        ARCHITECTURE: facts.architecture,
        FILE_TYPE: facts.file_type,
        LICENCE: facts.licence,
        VENDOR: facts.vendor,
        DESCRIPTION: facts.description,
        media.TITLE: facts.name,
        CONTEXT: str(facts.context_length or ""),
        PARAMETERS: str(facts.parameters or ""),
    }
    # The format, even if it is none, says that the others are ours.
    return {FORMAT: facts.format, **{key: text for key, text in said.items() if text}}
