"""Ollama's models: a Docker manifest whose layers have types of Ollama's own.

A layer of Ollama's has no file name; each gets one from its type. The template is text for Go's text/template and no
Jinja, so it never has the role of a chat template: llama.cpp takes the one inside the weights. Nor is a Jinja template
written: Ollama takes what it knows of the weights then.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from lading import media
from lading.artifact.format import (
    OURS,
    PARAMETERS,
    Format,
    Written,
    annotated,
    decode_config,
    described,
    layer,
    metadata_annotation,
    read_metadata,
    said_annotations,
    told,
    told_annotations,
    with_said,
)
from lading.errors import FormatError
from lading.formats.shards import shard_of
from lading.manifest import Descriptor, Manifest
from lading.model import Model, ModelFacts, Part, Role, check_names, human_count, parse_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.artifact.layers import Listing

PREFIX = "application/vnd.ollama.image."
_KINDS = {
    "model": (Role.WEIGHTS, "model", ".gguf"),
    "projector": (Role.PROJECTOR, "mmproj", ".gguf"),
    "adapter": (Role.ADAPTER, "adapter", ".gguf"),
    "draft": (Role.DRAFTER, "draft", ".gguf"),
    "template": (Role.OTHER, "template", ".gotmpl"),
    "prompt": (Role.OTHER, "template", ".gotmpl"),
    "system": (Role.SYSTEM, "system", ".txt"),
    "params": (Role.PARAMS, "params", ".json"),
    "messages": (Role.OTHER, "messages", ".json"),
    "license": (Role.LICENCE, "LICENSE", ""),
}
_LEFT_OUT = frozenset({"embed"})  # of early models; Ollama leaves it out, too
_IN_PIECES = frozenset({"tensor", "json"})
_KIND = re.compile(r"[a-z][a-z0-9-]{0,39}", re.ASCII)
_MAX_CONTEXT = 2**31 - 1
_UNKNOWN = "unknown"
_CREATED = f"{OURS}created"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_BY_ROLE = {role: kind for kind, (role, _stem, _suffix) in _KINDS.items() if role is not Role.OTHER}
# What Ollama alone has goes by the name that reading gives it.
_BY_NAME = {"template.gotmpl": "template", "messages.json": "messages"}
_ORDER = ("model", "draft", "projector", "adapter", "template", "system", "params", "messages", "license")
_OLLAMAS = {"ctx_size": "num_ctx"}


class _Config(msgspec.Struct, frozen=True, kw_only=True):
    # What is used and no more: Ollama adds and removes keys.
    model_format: str | None = None
    model_family: str | None = None
    model_type: str | None = None
    file_type: str | None = None
    context_length: int | None = None
    remote_host: str | None = None
    remote_model: str | None = None


class _RootFs(msgspec.Struct, frozen=True):
    type: str
    diff_ids: tuple[str, ...]


class _WrittenConfig(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    model_format: str
    model_family: str
    model_families: tuple[str, ...]
    model_type: str
    file_type: str
    context_length: int | None = None
    architecture: str
    os: str
    rootfs: _RootFs


def _detect(manifest: Manifest) -> bool:
    return any(blob.media_type.startswith(PREFIX) for blob in manifest.layers)


def _read(manifest: Manifest, raw: bytes, _listing: Listing) -> Model:
    config = decode_config(raw, _Config, "Ollama model")
    if config.remote_host or config.remote_model:
        msg = "the Ollama model has no weights: it stands for one that runs at Ollama's"
        raise FormatError(msg, hint="a model to run here has another name or tag")
    facts = _facts(manifest, config)
    parts = tuple(_parts(manifest, facts))
    check_names((part.name for part in parts), "the Ollama model")
    if not any(part.role is Role.WEIGHTS for part in parts):
        msg = "the Ollama model has no weights layer"
        raise FormatError(msg, hint="it is no model, or of a kind that is not known here")
    return Model(parts, facts)


def _facts(manifest: Manifest, config: _Config) -> ModelFacts:
    context = config.context_length or 0
    facts = ModelFacts(
        format=config.model_format or "gguf",
        architecture=config.model_family if config.model_family not in ("", _UNKNOWN) else None,
        parameters=annotated(manifest.annotations, PARAMETERS) or parse_count(config.model_type or ""),
        file_type=config.file_type if config.file_type not in ("", _UNKNOWN) else None,
        context_length=context if 0 < context <= _MAX_CONTEXT else None,
        metadata=read_metadata(manifest, "Ollama model"),
        created=manifest.annotations.get(_CREATED),
        **told(manifest),
    )
    return with_said(described(facts), manifest, "Ollama model")


def _parts(manifest: Manifest, facts: ModelFacts) -> Iterator[Part]:
    counts: dict[str, int] = {}
    made = Descriptor.of(_params(facts), f"{PREFIX}params").digest if facts.settings else None
    for blob in manifest.layers:
        kind = _kind_of(blob)
        # What was made of the settings is no file of the model's.
        if kind in _LEFT_OUT or blob.digest == made:
            continue
        role, stem, suffix = _KINDS.get(kind, (Role.OTHER, kind, ""))
        count = counts[stem] = counts.get(stem, 0) + 1
        name = f"{stem}{suffix}" if count == 1 else f"{stem}-{count}{suffix}"
        yield Part(role, blob.annotations.get(media.FILE_PATH) or name, blob)


def _kind_of(blob: Descriptor) -> str:
    kind = blob.media_type.removeprefix(PREFIX)
    if kind in _IN_PIECES:
        msg = f"layer {blob.digest.short} of the Ollama model is a piece of one: it has the type {blob.media_type[:80]}"
        raise FormatError(msg, hint="models in one GGUF file are read")
    if not blob.media_type.startswith(PREFIX) or not _KIND.fullmatch(kind):
        msg = f"layer {blob.digest.short} has the unknown media type {blob.media_type[:80]}"
        raise FormatError(msg, hint="it is none of Ollama's layer types")
    return kind


def _write(model: Model, created: str | None) -> Written:
    facts = model.facts
    _check_weights(model)
    kinds = {part.name: kind for part in model.parts if (kind := _kind_for(part))}
    held = sorted((part for part in model.parts if part.name in kinds), key=lambda part: _place(part, kinds))
    layers = [layer(part, PREFIX + kinds[part.name], role=False) for part in held]
    blobs = (_params(facts),) if facts.settings else ()
    layers += (Descriptor.of(data, f"{PREFIX}params") for data in blobs)
    family = facts.architecture or _UNKNOWN
    context = facts.context_length or 0
    config = _WrittenConfig(
        model_format="gguf",
        model_family=family,
        model_families=(family, "clip") if model.of(Role.PROJECTOR) else (family,),
        model_type=human_count(facts.parameters) if facts.parameters else "",
        file_type=facts.file_type or _UNKNOWN,
        context_length=context if 0 < context <= _MAX_CONTEXT else None,
        architecture="amd64",
        os="linux",
        rootfs=_RootFs("layers", tuple(blob.digest for blob in layers)),
    )
    raw = msgspec.json.encode(config, enc_hook=str)
    annotations = said_annotations(facts) | told_annotations(facts) | metadata_annotation(facts)
    if facts.parameters:
        annotations[PARAMETERS] = str(facts.parameters)
    if created:
        annotations[_CREATED] = created
    manifest = Manifest.build(
        Descriptor.of(raw, _CONFIG_TYPE), tuple(layers), annotations=annotations, media_type=media.DOCKER_MANIFEST
    )
    return Written(manifest, raw, blobs, tuple(_left_out(model, kinds)))


def _check_weights(model: Model) -> None:
    weights = model.of(Role.WEIGHTS)
    if model.facts.format != "gguf" or len(weights) != 1 or shard_of(weights[0].name):
        msg = f"Ollama's format holds one GGUF file, and these are {model.facts.format or 'unknown'} weights"
        msg += f" in {len(weights)} files" if len(weights) > 1 else ""
        raise FormatError(msg, hint="`docker`, `modelpack` and `image` hold any model")


def _kind_for(part: Part) -> str | None:
    if part.role is Role.OTHER:
        return _BY_NAME.get(PurePosixPath(part.name).name)
    return _BY_ROLE.get(part.role)


def _place(part: Part, kinds: dict[str, str]) -> tuple[int, str]:
    return _ORDER.index(kinds[part.name]), part.name


def _left_out(model: Model, kinds: dict[str, str]) -> Iterator[str]:
    for part in sorted(model.of(Role.TEMPLATE), key=lambda part: part.name):
        yield f"{part.name} is left out: Ollama's templates are written in Go's language, this one in Jinja's"
    others = sorted(part.name for part in model.parts if part.name not in kinds and part.role is not Role.TEMPLATE)
    if others:
        yield f"Ollama's format has no place for {', '.join(others)}"


def _params(facts: ModelFacts) -> bytes:
    """Return the settings as Ollama's parameters."""
    said = {_OLLAMAS.get(name, name): value for name, value in facts.settings.items()}
    return msgspec.json.encode(said, order="sorted")


ROW = Format("ollama", _detect, _read, _write)
