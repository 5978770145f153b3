"""CNCF ModelPack (model-spec v1), raw layers: one file, one layer, no tar.

Config keys beyond the published schema are forbidden, so what it cannot hold stands in annotations.
"""

from __future__ import annotations

import msgspec

from lading import media
from lading.artifact.format import ROLE, Format, Written, decode_config, layer
from lading.errors import FormatError
from lading.manifest import Descriptor, Manifest
from lading.model import Model, ModelFacts, Part, Role, human_count, parse_count, role_of

_CNCF = "application/vnd.cncf.model."
MANIFEST_TYPE = _CNCF + "manifest.v1+json"
CONFIG_TYPE = _CNCF + "config.v1+json"
_WEIGHT = _CNCF + "weight.v1.raw"
_WEIGHT_CONFIG = _CNCF + "weight.config.v1.raw"
_DOC = _CNCF + "doc.v1.raw"
_CODE = _CNCF + "code.v1.raw"
_DATASET = _CNCF + "dataset.v1.raw"
_WEIGHT_ROLES = (Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFTER)
_CONTEXT = "io.lading.context-length"
_PARAMETERS = "io.lading.parameters"


class _Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    created_at: str | None = None
    name: str | None = None
    vendor: str | None = None
    licenses: tuple[str, ...] = ()
    description: str | None = None


class _ModelConfig(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    architecture: str | None = None
    format: str | None = None
    param_size: str | None = None
    precision: str | None = None
    quantization: str | None = None


class _ModelFs(msgspec.Struct, frozen=True, rename="camel"):
    type: str = "layers"
    diff_ids: tuple[str, ...] = ()


class _Config(msgspec.Struct, frozen=True, kw_only=True):
    descriptor: _Descriptor = _Descriptor()
    config: _ModelConfig = _ModelConfig()
    modelfs: _ModelFs = _ModelFs()


def _detect(manifest: Manifest) -> bool:
    return manifest.artifact_type == MANIFEST_TYPE or manifest.config.media_type == CONFIG_TYPE


def _read(manifest: Manifest, raw: bytes) -> Model:
    # Artifacts made by `podman artifact add` carry the artifact type but an empty config.
    config = decode_config(raw, _Config, "ModelPack") if manifest.config.media_type == CONFIG_TYPE else _Config()
    parts = tuple(_part(blob) for blob in manifest.layers)
    if not any(part.role is Role.WEIGHTS for part in parts):
        msg = "the ModelPack artifact has no weights layer"
        raise FormatError(msg, hint="it is no model, or of a kind that is not known here")
    said = config.config
    count = manifest.annotations.get(_PARAMETERS, "")
    context = manifest.annotations.get(_CONTEXT, "")
    return Model(
        parts,
        ModelFacts(
            format=said.format or parts[0].name.rpartition(".")[2],
            architecture=said.architecture,
            name=config.descriptor.name,
            parameters=int(count) if count.isdecimal() else parse_count(said.param_size or ""),
            file_type=said.quantization or said.precision,
            context_length=int(context) if context.isdecimal() else None,
            licence=config.descriptor.licenses[0] if config.descriptor.licenses else None,
            vendor=config.descriptor.vendor,
            description=config.descriptor.description,
        ),
    )


def _part(blob: Descriptor) -> Part:
    name = blob.annotations.get(media.FILE_PATH) or blob.annotations.get(media.TITLE)
    if not blob.media_type.startswith(_CNCF):
        msg = f"layer {blob.digest.short} has the unknown media type {blob.media_type[:80]}"
        raise FormatError(msg, hint="a ModelPack layer's type begins with application/vnd.cncf.model.")
    if not blob.media_type.endswith(".raw"):
        msg = f"layer {blob.digest.short} is packed as {blob.media_type.rpartition('.')[2]}"
        raise FormatError(msg, hint="only raw ModelPack layers are read yet")
    if name is None:
        msg = f"layer {blob.digest.short} names no file"
        raise FormatError(msg, hint=f"a ModelPack layer has the annotation {media.FILE_PATH}")
    return Part(_role(blob, name), name, blob)


def _role(blob: Descriptor, name: str) -> Role:
    if blob.annotations.get(ROLE) in set(Role):
        return Role(blob.annotations[ROLE])
    return _inferred(blob.media_type, name)


def _inferred(media_type: str, name: str) -> Role:
    guess = role_of(name)
    if media_type == _WEIGHT:
        return guess if guess in _WEIGHT_ROLES else Role.WEIGHTS
    if media_type == _WEIGHT_CONFIG:
        return guess if guess in (Role.TEMPLATE, Role.TOKENIZER, Role.CONFIG) else Role.CONFIG
    if media_type == _DOC:
        return guess if guess in (Role.LICENCE, Role.DOC) else Role.DOC
    return Role.OTHER


def _write(model: Model, created: str | None) -> Written:
    facts = model.facts
    # The order of modctl: config, model, code, doc, each by path.
    kinds = (_WEIGHT_CONFIG, _WEIGHT, _CODE, _DOC)
    parts = sorted(model.parts, key=lambda part: (kinds.index(_media_type(part)), part.name))
    layers = tuple(_layer(part) for part in parts)
    quantized = facts.format == "gguf"
    config = _Config(
        descriptor=_Descriptor(
            created_at=created,
            name=facts.name or None,
            vendor=facts.vendor,
            licenses=(facts.licence,) if facts.licence else (),
            description=facts.description,
        ),
        config=_ModelConfig(
            architecture=facts.architecture,
            format=facts.format or None,
            param_size=human_count(facts.parameters) if facts.parameters else None,
            precision=None if quantized else facts.file_type,
            quantization=facts.file_type if quantized else None,
        ),
        modelfs=_ModelFs(diff_ids=tuple(blob.digest for blob in layers)),
    )
    raw = msgspec.json.encode(config, enc_hook=str)
    annotations = {}
    if facts.context_length:
        annotations[_CONTEXT] = str(facts.context_length)
    if facts.parameters:
        annotations[_PARAMETERS] = str(facts.parameters)
    manifest = Manifest.build(
        Descriptor.of(raw, CONFIG_TYPE), layers, artifact_type=MANIFEST_TYPE, annotations=annotations
    )
    return Written(manifest, raw)


def _media_type(part: Part) -> str:
    if part.role in _WEIGHT_ROLES:
        return _WEIGHT
    return _DOC if part.role in (Role.LICENCE, Role.DOC) else _WEIGHT_CONFIG


def _layer(part: Part) -> Descriptor:
    media_type = _media_type(part)
    return layer(part, media_type, role=_inferred(media_type, part.name) is not part.role)


ROW = Format("modelpack", _detect, _read, _write)
