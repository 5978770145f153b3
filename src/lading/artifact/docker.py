"""Docker model artifacts v0.1 (GGUF) and v0.2 (folders), as Docker Model Runner reads and writes them.

The published model-spec is older than the practice and differs; where they do, the practice is
followed: `descriptor.created` and never `createdAt`, whose presence makes Model Runner take the
config for ModelPack, and no `files` list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lading import media
from lading.artifact.format import ROLE, Format, Written, decode_config, layer
from lading.errors import FormatError
from lading.manifest import Descriptor, Manifest
from lading.model import Model, ModelFacts, Part, Role, human_count, parse_count, role_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_AI = "application/vnd.docker.ai."
CONFIG_V01 = _AI + "model.config.v0.1+json"
CONFIG_V02 = _AI + "model.config.v0.2+json"
_FILE = _AI + "model.file"
_BY_ROLE = {
    Role.PROJECTOR: _AI + "mmproj",
    Role.TEMPLATE: _AI + "chat.template.jinja",
    Role.LICENCE: _AI + "license",
}
_WEIGHTS = {"gguf": _AI + "gguf.v3", "safetensors": _AI + "safetensors", "dduf": _AI + "dduf"}
_ROLES = {
    **{media_type: role for role, media_type in _BY_ROLE.items()},
    **dict.fromkeys(_WEIGHTS.values(), Role.WEIGHTS),
    # The published spec's own names, which old artifacts carry.
    _AI + "gguf.v3.lora": Role.ADAPTER,
    _AI + "gguf.v3.mmproj": Role.PROJECTOR,
}
_V01_ROLES = {Role.WEIGHTS, Role.PROJECTOR, Role.TEMPLATE, Role.LICENCE}


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
    context_size: int | None = None


class _RootFs(msgspec.Struct, frozen=True):
    type: str = "rootfs"
    diff_ids: tuple[str, ...] = ()


class _Config(msgspec.Struct, frozen=True, kw_only=True):
    config: _ModelConfig = _ModelConfig()
    descriptor: _Descriptor = _Descriptor()
    rootfs: _RootFs = _RootFs()


def _detect(manifest: Manifest) -> bool:
    return manifest.config.media_type in (CONFIG_V01, CONFIG_V02)


def _read(manifest: Manifest, raw: bytes) -> Model:
    config = decode_config(raw, _Config, "Docker model").config
    total = sum(_role(blob) is Role.WEIGHTS for blob in manifest.layers)
    parts: list[Part] = []
    shard = 0
    for blob in manifest.layers:
        role = _role(blob)
        if role is None:
            if media.FILE_PATH not in blob.annotations:
                msg = f"layer {blob.digest.short} has the unknown media type {blob.media_type[:80]}"
                raise FormatError(msg, hint="it is none of Docker's model layer types and names no file")
            role = role_of(blob.annotations[media.FILE_PATH])
        shard += role is Role.WEIGHTS
        name = blob.annotations.get(media.FILE_PATH) or _default_name(role, config.format, shard, total, len(parts))
        parts.append(Part(role, name, blob))
    if not total:
        msg = "the Docker model has no weights layer"
        raise FormatError(msg, hint="it is no model, or of a kind that is not known here")
    return Model(tuple(parts), _facts(config))


def _role(blob: Descriptor) -> Role | None:
    if blob.annotations.get(ROLE) in set(Role):
        return Role(blob.annotations[ROLE])
    if blob.media_type == _FILE:
        return role_of(blob.annotations.get(media.FILE_PATH, ""))
    return _ROLES.get(blob.media_type)


def _default_name(role: Role, kind: str, shard: int, total: int, index: int) -> str:
    # Model Runner names files itself when layers carry no path, weights by their order.
    if role is Role.WEIGHTS:
        suffix = kind or "gguf"
        return f"model.{suffix}" if total == 1 else f"model-{shard:05d}-of-{total:05d}.{suffix}"
    fixed = {Role.PROJECTOR: "model.mmproj", Role.TEMPLATE: "template.jinja", Role.ADAPTER: "adapter.gguf"}
    return fixed.get(role, f"{'LICENSE' if role is Role.LICENCE else 'file'}-{index}")


def _facts(config: _ModelConfig) -> ModelFacts:
    metadata = config.gguf or config.safetensors or {}
    return ModelFacts(
        format=config.format,
        architecture=config.architecture or metadata.get("general.architecture"),
        name=metadata.get("general.name"),
        parameters=parse_count(config.parameters),
        file_type=config.quantization or None,
        context_length=config.context_size,
        chat_template=metadata.get("tokenizer.chat_template"),
        licence=metadata.get("general.license"),
        vendor=metadata.get("general.organization"),
        metadata=metadata,
    )


def _write(model: Model, created: str | None) -> Written:
    facts = model.facts
    order = list(Role)
    single = facts.format == "gguf" and {part.role for part in model.parts} <= _V01_ROLES
    single = single and len(model.of(Role.PROJECTOR)) <= 1 and len(model.of(Role.TEMPLATE)) <= 1
    parts = sorted(model.parts, key=lambda part: (order.index(part.role) if single else 0, part.name))
    layers = tuple(_layer(part, facts.format) for part in parts)
    metadata: Mapping[str, str] = dict(sorted(facts.metadata.items()))
    config = _Config(
        config=_ModelConfig(
            format=facts.format,
            quantization=facts.file_type or "",
            parameters=human_count(facts.parameters) if facts.parameters else "",
            architecture=facts.architecture or "",
            size=_human_size(sum(part.blob.size for part in model.of(Role.WEIGHTS)), facts.format),
            gguf=dict(metadata) if facts.format == "gguf" else None,
            safetensors=dict(metadata) if facts.format == "safetensors" else None,
            context_size=facts.context_length,
        ),
        descriptor=_Descriptor(created),
        rootfs=_RootFs(diff_ids=tuple(blob.digest for blob in layers)),
    )
    raw = msgspec.json.encode(config, enc_hook=str)
    media_type = CONFIG_V01 if single else CONFIG_V02
    return Written(Manifest.build(Descriptor.of(raw, media_type), layers), raw)


def _layer(part: Part, kind: str) -> Descriptor:
    media_type = _WEIGHTS.get(kind, _FILE) if part.role is Role.WEIGHTS else _BY_ROLE.get(part.role, _FILE)
    read_back = role_of(part.name) if media_type == _FILE else _ROLES[media_type]
    return layer(part, media_type, role=read_back is not part.role)


def _human_size(size: int, kind: str) -> str:
    # Model Runner shows GGUF in binary units and safetensors in decimal ones; readers only display it.
    step, units = (1024, ("B", "KiB", "MiB", "GiB", "TiB")) if kind == "gguf" else (1000, ("B", "kB", "MB", "GB", "TB"))
    value, unit = float(size), 0
    while value >= step and unit < len(units) - 1:
        value, unit = value / step, unit + 1
    return f"{value:.2f}{units[unit]}" if unit else f"{size}B"


ROW = Format("docker", _detect, _read, _write)
