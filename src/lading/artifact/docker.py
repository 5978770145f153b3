"""Docker model artifacts v0.1 (GGUF) and v0.2 (folders), as Docker Model Runner reads and writes them.

The published model-spec is older than the practice and differs; where they do, the practice is
followed: `descriptor.created` and never `createdAt`, whose presence makes Model Runner take the
config for ModelPack, and no `files` list. The archives of folders that it wrote once are read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from lading import media
from lading.artifact.format import (
    CONTEXT,
    PARAMETERS,
    ROLE,
    Format,
    Written,
    annotated,
    check_raw_diff_ids,
    decode_config,
    described,
    held,
    layer,
    refuse_packed,
    said_annotations,
    told,
    told_annotations,
    with_diff_ids,
    with_said,
)
from lading.artifact.layers import Archive, check_files, files_of, one_template, part_of
from lading.errors import FormatError
from lading.formats.archive import Compression
from lading.formats.shards import shard_of
from lading.manifest import Descriptor, Manifest
from lading.model import Model, ModelFacts, Part, Role, body, check_names, human_count, parse_count, role_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.artifact.layers import Listing

_AI = "application/vnd.docker.ai."
CONFIG_V01 = _AI + "model.config.v0.1+json"
CONFIG_V02 = _AI + "model.config.v0.2+json"
_FILE = _AI + "model.file"
# Archives of the files beside the weights: the first kind at most once, for vLLM. Neither is written any more.
_ARCHIVES = (_AI + "vllm.config.tar", _AI + "dir.tar")
_BY_ROLE = {
    Role.PROJECTOR: _AI + "mmproj",
    Role.TEMPLATE: _AI + "chat.template.jinja",
    Role.LICENCE: _AI + "license",
}
_WEIGHTS = {"gguf": _AI + "gguf.v3", "safetensors": _AI + "safetensors", "dduf": _AI + "dduf"}
_KINDS = {media_type: kind for kind, media_type in _WEIGHTS.items()}
_ROLES = {
    **{media_type: role for role, media_type in _BY_ROLE.items()},
    **dict.fromkeys(_KINDS, Role.WEIGHTS),
    # The published spec's own names, which old artifacts carry.
    _AI + "gguf.v3.lora": Role.ADAPTER,
    _AI + "gguf.v3.mmproj": Role.PROJECTOR,
}
_V01_ORDER = (Role.WEIGHTS, Role.PROJECTOR, Role.TEMPLATE, Role.LICENCE)
_FIXED_NAMES = {
    Role.PROJECTOR: ("model", ".mmproj"),
    Role.ADAPTER: ("adapter", ".gguf"),
    Role.TEMPLATE: ("template", ".jinja"),
    Role.LICENCE: ("LICENSE", ""),
}
_MAX_CONTEXT = 2**31 - 1
_WISH = "ctx_size"


class _Descriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    created: str | None = None


class _ModelConfig(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    format: str = ""
    quantization: str = ""
    parameters: str = ""
    architecture: str = ""
    size: str = ""
    gguf: dict[str, str] | None = None
    safetensors: dict[str, str] | None = None
    diffusers: dict[str, str] | None = None
    context_size: int | None = None


class _RootFs(msgspec.Struct, frozen=True):
    type: str = "rootfs"
    diff_ids: tuple[str, ...] = ()


class _Config(msgspec.Struct, frozen=True, kw_only=True):
    config: _ModelConfig
    descriptor: _Descriptor
    rootfs: _RootFs


class _ReadRootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] | None = None


class _ReadConfig(msgspec.Struct, frozen=True, kw_only=True):
    # What is used and no more: Go writes an empty list of layers as null.
    config: _ModelConfig = _ModelConfig()
    descriptor: _Descriptor | None = None
    rootfs: _ReadRootFs | None = None
    # ModelPack's and Ollama's.
    modelfs: object = None
    model_format: object = None


def _detect(manifest: Manifest) -> bool:
    return manifest.config.media_type in (CONFIG_V01, CONFIG_V02)


def _config(raw: bytes) -> _ReadConfig:
    said = decode_config(raw, _ReadConfig, "Docker model")
    if said.modelfs is not None or said.model_format is not None:
        key = "model_format" if said.modelfs is None else "modelfs"
        msg = f"the Docker model config is another format's: it has `{key}`"
        raise FormatError(msg, hint="the artifact was put together from parts that do not belong together")
    return said


def _archives(manifest: Manifest, raw: bytes) -> tuple[Archive, ...]:
    rootfs = _config(raw).rootfs
    return tuple(
        Archive(blob, Compression.NONE, diff_id)
        for blob, diff_id in with_diff_ids(manifest.layers, rootfs.diff_ids if rootfs else None)
        if blob.media_type in _ARCHIVES
    )


def _read(manifest: Manifest, raw: bytes, listing: Listing) -> Model:
    config = _config(raw)
    check_raw_diff_ids(manifest.layers, config.rootfs.diff_ids if config.rootfs else None)
    archives = {archive.blob.digest: archive for archive in _archives(manifest, raw)}
    files = [blob for blob in manifest.layers if blob.digest not in archives]
    found = [(role, blob) for blob in files if (role := _role(blob)) is not None]
    total = sum(role is Role.WEIGHTS for role, _blob in found)
    parts: list[Part] = []
    for role, blob in found:
        count = sum(part.role is role for part in parts) + 1
        name = blob.annotations.get(media.FILE_PATH) or _default_name(role, _KINDS.get(blob.media_type), count, total)
        parts.append(Part(role, name, blob))
    for archive in archives.values():
        parts += (part_of(archive, entry, role_of(entry.name), entry.name) for entry in files_of(archive, listing))
    check_names((part.name for part in parts), "the Docker model")
    check_files(parts, "the Docker model")
    if not body(parts):
        msg = "the Docker model has no weights layer"
        raise FormatError(msg, hint="it is no model, or of a kind that is not known here")
    return Model(one_template(parts), _facts(manifest, config))


def _role(blob: Descriptor) -> Role | None:
    """Return the role of a layer's file; None for one without a name, which Model Runner leaves out too."""
    refuse_packed(blob)
    name = blob.annotations.get(media.FILE_PATH, "")
    if blob.annotations.get(ROLE) in set(Role):
        return Role(blob.annotations[ROLE])
    if name or blob.media_type in _ROLES:
        return _inferred(blob.media_type, name)
    if blob.media_type == _FILE:
        return None
    msg = f"layer {blob.digest.short} has the unknown media type {blob.media_type[:80]}"
    raise FormatError(msg, hint="it is none of Docker's model layer types and names no file")


def _inferred(media_type: str, name: str) -> Role:
    guess = role_of(name)
    role = _ROLES.get(media_type, guess)
    # In a folder Model Runner gives a projector the plain type of a GGUF.
    return guess if role is Role.WEIGHTS and guess is Role.PROJECTOR else role


def _default_name(role: Role, kind: str | None, count: int, total: int) -> str:
    # Model Runner names files itself when layers carry no path, weights by their order.
    if role is Role.WEIGHTS:
        suffix = kind or "gguf"
        return f"model.{suffix}" if total == 1 else f"model-{count:05d}-of-{total:05d}.{suffix}"
    stem, suffix = _FIXED_NAMES.get(role, (role.value, ""))
    return f"{stem}{suffix}" if count == 1 else f"{stem}-{count}{suffix}"


def _facts(manifest: Manifest, said: _ReadConfig) -> ModelFacts:
    config = said.config
    facts = described(
        ModelFacts(
            format=config.format,
            architecture=config.architecture or None,
            parameters=annotated(manifest.annotations, PARAMETERS) or parse_count(config.parameters),
            file_type=config.quantization or None,
            metadata=config.gguf or config.safetensors or config.diffusers or {},
            created=said.descriptor.created if said.descriptor else None,
            **told(manifest),
        )
    )
    facts = with_said(facts, manifest, "Docker model")
    size = config.context_size or 0
    size = size if 0 < size <= _MAX_CONTEXT else 0
    if _WISH in facts.settings:
        return replace(facts, context_length=annotated(manifest.annotations, CONTEXT))
    trained = annotated(facts.metadata, f"{facts.architecture}.context_length")
    # `docker model package --context-size` writes a wish where the model's own context stands without one.
    if size and trained and size != trained:
        return replace(facts, context_length=trained, settings={**facts.settings, _WISH: size})
    return replace(facts, context_length=size or None)


def _write(model: Model, created: str | None) -> Written:
    facts = model.facts
    plain = _is_plain(model)
    parts = sorted(model.parts, key=lambda part: (_V01_ORDER.index(part.role) if plain else 0, part.name))
    layers = tuple(_layer(part, facts.format) for part in parts)
    trained, wished = facts.context_length or 0, facts.settings.get(_WISH)
    context = wished if isinstance(wished, int) else trained
    metadata = held(facts.metadata)
    config = _Config(
        config=_ModelConfig(
            format=facts.format,
            quantization=facts.file_type or "",
            parameters=human_count(facts.parameters) if facts.parameters else "",
            architecture=facts.architecture or "",
            size=_human_size(sum(part.size for part in body(model.parts)), facts.format),
            gguf=metadata if facts.format == "gguf" else None,
            safetensors=metadata if facts.format == "safetensors" else None,
            # Model Runner reads 32 bits, and nothing of a config that has more.
            context_size=context if 0 < context <= _MAX_CONTEXT else None,
        ),
        descriptor=_Descriptor(created),
        rootfs=_RootFs(diff_ids=tuple(blob.digest for blob in layers)),
    )
    raw = msgspec.json.encode(config, enc_hook=str)
    annotations = said_annotations(facts) | told_annotations(facts)
    if facts.parameters:
        annotations[PARAMETERS] = str(facts.parameters)
    if trained and _WISH in facts.settings:
        annotations[CONTEXT] = str(trained)
    media_type = CONFIG_V01 if plain else CONFIG_V02
    return Written(Manifest.build(Descriptor.of(raw, media_type), layers, annotations=annotations), raw)


def _is_plain(model: Model) -> bool:
    """Say whether v0.1 can hold a model: one GGUF or its shards, at most one projector and template, no folders."""
    return (
        model.facts.format in ("gguf", "dduf")
        and all(part.role in _V01_ORDER and "/" not in part.name for part in model.parts)
        and len(model.of(Role.PROJECTOR)) <= 1
        and len(model.of(Role.TEMPLATE)) <= 1
        and _is_one([part.name for part in model.of(Role.WEIGHTS)])
    )


def _is_one(names: Sequence[str]) -> bool:
    # Model Runner takes several GGUF layers of v0.1 for shards, whatever their names.
    sets = {shard and (shard.stem, shard.count) for shard in map(shard_of, names)}
    return len(names) == 1 or (len(sets) == 1 and None not in sets)


def _layer(part: Part, kind: str) -> Descriptor:
    suffix = PurePosixPath(part.name).suffix.lower().removeprefix(".")
    weights = _WEIGHTS.get(suffix) or _WEIGHTS.get(kind, _FILE)
    media_type = weights if part.role is Role.WEIGHTS else _BY_ROLE.get(part.role, _FILE)
    return layer(part, media_type, role=_inferred(media_type, part.name) is not part.role)


def _human_size(size: int, kind: str) -> str:
    # Model Runner shows GGUF in binary units and safetensors in decimal ones; readers only display it.
    step, units = (1024, ("B", "KiB", "MiB", "GiB", "TiB")) if kind == "gguf" else (1000, ("B", "kB", "MB", "GB", "TB"))
    value, unit = float(size), 0
    while value >= step and unit < len(units) - 1:
        value, unit = value / step, unit + 1
    return f"{value:.2f}{units[unit]}" if unit else f"{size}B"


ROW = Format("docker", _detect, _read, _write, _archives)
