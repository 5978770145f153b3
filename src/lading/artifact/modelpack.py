"""CNCF ModelPack (model-spec v1). Written are raw layers, one file each; read are also archives of them.

Config keys beyond the published schema are forbidden, so what it cannot hold stands in annotations.
Read are also the names of the time before February 2026 (`vnd.cnai`), and what Podman and RamaLama
write, who give an artifact ModelPack's type but no config.
"""

from __future__ import annotations

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
    layer,
    metadata_annotation,
    read_metadata,
    refuse_packed,
    said_annotations,
    with_diff_ids,
    with_said,
)
from lading.artifact.layers import Archive, check_files, files_of, one_template, part_of
from lading.errors import FormatError
from lading.formats.archive import Compression
from lading.manifest import Descriptor, Manifest
from lading.model import OPAQUE, Model, ModelFacts, Part, Role, body, check_names, human_count, parse_count, role_of

if TYPE_CHECKING:
    from lading.artifact.layers import Listing

_CNCF = "application/vnd.cncf.model."
_CNAI = "application/vnd.cnai.model."
MANIFEST_TYPE = _CNCF + "manifest.v1+json"
CONFIG_TYPE = _CNCF + "config.v1+json"
_MANIFEST_TYPES = (MANIFEST_TYPE, _CNAI + "manifest.v1+json")
_CONFIG_TYPES = (CONFIG_TYPE, _CNAI + "config.v1+json")
_WEIGHT = "weight.v1.raw"
_WEIGHT_CONFIG = "weight.config.v1.raw"
_DOC = "doc.v1.raw"
_CODE = "code.v1.raw"
_DATASET = "dataset.v1.raw"
# What stands for `.raw` in the type of a layer that is an archive.
_PACKED = {".tar": Compression.NONE, ".tar+gzip": Compression.GZIP, ".tar+zstd": Compression.ZSTD}
# Model Runner's own, of before it wrote raw layers.
_OLD_WEIGHTS = ("weight.v1.gguf", "weight.v1.safetensors")
# The order of modctl: config, model, code, doc, each by path.
_ORDER = (_WEIGHT_CONFIG, _WEIGHT, _CODE, _DOC)
_NAME_KEYS = (media.FILE_PATH, "org.cnai.model.filepath", media.TITLE)
_FILE_METADATA_KEYS = (media.FILE_METADATA, "org.cnai.model.file.metadata+json")
# tar's types of regular files, as the number that ModelPack means and as the character that RamaLama writes.
_REGULAR = (0, ord("0"))
_WEIGHT_ROLES = (Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFTER, Role.BIN)
_KINDS = ("gguf", "safetensors", OPAQUE)
_CODE_SUFFIXES = (".py", ".sh", ".ipynb")
# ModelPack's names for element types; one that is not here is written as it is.
_PRECISIONS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3",
    "F8_E5M2": "float8_e5m2",
    "I8": "int8",
    "U8": "uint8",
}
_TYPES = {precision: name for name, precision in _PRECISIONS.items()}


class _Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    created_at: str | None = None
    name: str | None = None
    vendor: str | None = None
    licenses: tuple[str, ...] | None = None
    description: str | None = None


class _ModelConfig(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    architecture: str | None = None
    format: str | None = None
    param_size: str | None = None
    precision: str | None = None
    quantization: str | None = None


class _ModelFs(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    diff_ids: tuple[str, ...]


class _Config(msgspec.Struct, frozen=True, kw_only=True):
    descriptor: _Descriptor
    config: _ModelConfig
    modelfs: _ModelFs


class _ReadModelFs(msgspec.Struct, frozen=True, rename={"new": "diffIds", "old": "diff_ids"}):
    new: tuple[str, ...] | None = None
    old: tuple[str, ...] | None = None

    @property
    def diff_ids(self) -> tuple[str, ...] | None:
        return self.new or self.old


class _ReadConfig(msgspec.Struct, frozen=True, kw_only=True):
    # What is used and no more: old versions wrote capabilities otherwise.
    descriptor: _Descriptor | None = None
    config: _ModelConfig | None = None
    modelfs: _ReadModelFs | None = None
    # An image's or Docker's, and Ollama's.
    rootfs: object = None
    model_format: object = None


class _FileMetadata(msgspec.Struct, frozen=True):
    typeflag: int = 0


def _detect(manifest: Manifest) -> bool:
    return (
        manifest.artifact_type in _MANIFEST_TYPES
        or manifest.config.media_type in _CONFIG_TYPES
        or any(_kind(blob.media_type) for blob in manifest.layers)
    )


def _kind(media_type: str) -> str:
    """Return a ModelPack layer type without its prefix; empty for others."""
    prefix = next((prefix for prefix in (_CNCF, _CNAI) if media_type.startswith(prefix)), None)
    return media_type.removeprefix(prefix) if prefix else ""


def _unpacked(media_type: str) -> tuple[str, Compression | None]:
    """Return the type that a layer's file would have as a raw layer, and the compression of its archive if it has one."""
    kind = _kind(media_type)
    stem, _, suffix = kind.partition(".tar")
    compression = _PACKED.get(f".tar{suffix}") if stem != kind else None
    return (kind, None) if compression is None else (f"{stem}.raw", compression)


def _is_raw(blob: Descriptor) -> bool:
    return _unpacked(blob.media_type)[1] is None


def _config(manifest: Manifest, raw: bytes) -> _ReadConfig:
    # Artifacts made by `podman artifact add` carry the artifact type but an empty config.
    if manifest.config.media_type not in _CONFIG_TYPES:
        return _ReadConfig()
    said = decode_config(raw, _ReadConfig, "ModelPack")
    if said.rootfs is not None or said.model_format is not None:
        key = "model_format" if said.rootfs is None else "rootfs"
        msg = f"the ModelPack config is another format's: it has `{key}`"
        raise FormatError(msg, hint="the artifact was put together from parts that do not belong together")
    has = {"descriptor": said.descriptor, "config": said.config, "modelfs": said.modelfs}
    missing = next((key for key, value in has.items() if value is None), None)
    if missing is None and said.modelfs and not said.modelfs.diff_ids:
        missing = "modelfs.diffIds"
    if missing:
        msg = f"the ModelPack config lacks `{missing}`"
        raise FormatError(msg, hint="its schema requires it; whoever wrote the artifact has to write it anew")
    return said


def _archives(manifest: Manifest, raw: bytes) -> tuple[Archive, ...]:
    modelfs = _config(manifest, raw).modelfs
    return tuple(
        Archive(blob, compression, diff_id)
        for blob, diff_id in with_diff_ids(manifest.layers, modelfs.diff_ids if modelfs else None)
        if (compression := _unpacked(blob.media_type)[1]) is not None
    )


def _read(manifest: Manifest, raw: bytes, listing: Listing) -> Model:
    config = _config(manifest, raw)
    check_raw_diff_ids(manifest.layers, config.modelfs.diff_ids if config.modelfs else None, _is_raw)
    archives = {archive.blob.digest: archive for archive in _archives(manifest, raw)}
    parts: tuple[Part, ...] = ()
    for blob in manifest.layers:
        archive = archives.get(blob.digest)
        parts += _packed_parts(archive, listing) if archive else (_part(blob),)
    check_files(parts, "the ModelPack artifact")
    check_names((part.name for part in parts), "the ModelPack artifact")
    weights = next(iter(body(parts)), None)
    if weights is None:
        msg = "the ModelPack artifact has no weights layer"
        raise FormatError(msg, hint="it is no model, or of a kind that is not known here")
    said, about = config.config or _ModelConfig(), config.descriptor or _Descriptor()
    suffix = PurePosixPath(weights.name).suffix.lower().removeprefix(".")
    facts = ModelFacts(
        format=said.format or (suffix if suffix in _KINDS else ""),
        architecture=said.architecture or None,
        name=about.name or None,
        parameters=annotated(manifest.annotations, PARAMETERS) or parse_count(said.param_size or ""),
        file_type=said.quantization or _TYPES.get(said.precision or "", said.precision) or None,
        context_length=annotated(manifest.annotations, CONTEXT),
        licence=about.licenses[0] if about.licenses else None,
        vendor=about.vendor or None,
        description=about.description or None,
        metadata=read_metadata(manifest, "ModelPack artifact"),
        created=about.created_at or None,
    )
    return Model(one_template(parts), with_said(described(facts), manifest, "ModelPack artifact"))


def _part(blob: Descriptor) -> Part:
    refuse_packed(blob)
    name = _path(blob)
    if name is None:
        what = "names no file" if _kind(blob.media_type) else f"has the unknown media type {blob.media_type[:80]}"
        msg = f"layer {blob.digest.short} {what}"
        raise FormatError(msg, hint=f"a ModelPack layer has the annotation {media.FILE_PATH}")
    for key in _FILE_METADATA_KEYS:
        if not _is_regular(blob.annotations.get(key, "{}")):
            msg = f"layer {blob.digest.short} stands for a folder, a link or a device"
            raise FormatError(msg, hint="only layers that are files are read")
    return Part(_role(blob, name), name, blob)


def _packed_parts(archive: Archive, listing: Listing) -> tuple[Part, ...]:
    """Return the parts in an archive. A single file is what its layer's type and path say, as in a raw layer."""
    files = files_of(archive, listing)
    if len(files) != 1:
        return tuple(part_of(archive, entry, role_of(entry.name), entry.name) for entry in files)
    path = _path(archive.blob) or files[0].name
    name = path if path.rpartition("/")[2] == files[0].name.rpartition("/")[2] else files[0].name
    return (part_of(archive, files[0], _role(archive.blob, name), name),)


def _path(blob: Descriptor) -> str | None:
    return next((blob.annotations[key] for key in _NAME_KEYS if blob.annotations.get(key)), None)


def _is_regular(text: str) -> bool:
    # Advice of whoever packed the file: only a clear word counts.
    try:
        return msgspec.json.decode(text, type=_FileMetadata).typeflag in _REGULAR
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True


def _role(blob: Descriptor, name: str) -> Role:
    if blob.annotations.get(ROLE) in set(Role):
        return Role(blob.annotations[ROLE])
    return _inferred(_unpacked(blob.media_type)[0], name)


def _inferred(kind: str, name: str) -> Role:
    guess = role_of(name)
    if kind == _WEIGHT or kind in _OLD_WEIGHTS:
        return guess if guess in _WEIGHT_ROLES else Role.WEIGHTS
    if kind == _WEIGHT_CONFIG:
        return guess if guess in (Role.TEMPLATE, Role.TOKENIZER, Role.CONFIG) else Role.CONFIG
    if kind == _DOC:
        return guess if guess in (Role.LICENCE, Role.DOC) else Role.DOC
    if kind in (_CODE, _DATASET):
        return Role.OTHER
    # Podman gives its own guess of a type, or none.
    return guess


def _write(model: Model, created: str | None) -> Written:
    facts = model.facts
    parts = sorted(model.parts, key=lambda part: (_ORDER.index(_kind_for(part)), part.name))
    layers = tuple(_layer(part) for part in parts)
    quantized = facts.format == "gguf"
    file_type = facts.file_type or ""
    size = human_count(facts.parameters) if facts.parameters else ""
    config = _Config(
        descriptor=_Descriptor(
            created_at=created,
            name=facts.name or None,
            vendor=facts.vendor or None,
            licenses=(facts.licence,) if facts.licence else None,
            description=facts.description or None,
        ),
        config=_ModelConfig(
            architecture=facts.architecture or None,
            format=facts.format or None,
            # The specification's form ends with a unit; fewer than a thousand have none.
            param_size=size if size and not size.isdecimal() else None,
            precision=None if quantized else _PRECISIONS.get(file_type, file_type) or None,
            quantization=(file_type or None) if quantized else None,
        ),
        modelfs=_ModelFs("layers", tuple(blob.digest for blob in layers)),
    )
    raw = msgspec.json.encode(config, enc_hook=str)
    annotations = said_annotations(facts) | metadata_annotation(facts)
    if facts.context_length:
        annotations[CONTEXT] = str(facts.context_length)
    if facts.parameters:
        annotations[PARAMETERS] = str(facts.parameters)
    manifest = Manifest.build(
        Descriptor.of(raw, CONFIG_TYPE), layers, artifact_type=MANIFEST_TYPE, annotations=annotations
    )
    return Written(manifest, raw)


def _kind_for(part: Part) -> str:
    if part.role in _WEIGHT_ROLES:
        return _WEIGHT
    if part.role is Role.OTHER and PurePosixPath(part.name).suffix.lower() in _CODE_SUFFIXES:
        return _CODE
    return _DOC if part.role in (Role.LICENCE, Role.DOC) else _WEIGHT_CONFIG


def _layer(part: Part) -> Descriptor:
    kind = _kind_for(part)
    return layer(part, _CNCF + kind, role=_inferred(kind, part.name) is not part.role)


ROW = Format("modelpack", _detect, _read, _write, _archives)
