"""Container images with a model in them ("cars"): files under `/models`, and GGUF Packer's, which lie anywhere.

Read are Docker's and OCI's images, as a container would show them; see `changesets`. Written is one uncompressed layer per
file, alone or upon a base.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from lading import media
from lading.artifact.changesets import files_in_image
from lading.artifact.format import (
    CONTEXT,
    PARAMETERS,
    PLATFORMS,
    ROLE,
    Format,
    Written,
    annotated,
    decode_config,
    described,
    layer,
    metadata_annotation,
    read_metadata,
    said_annotations,
    with_diff_ids,
    with_said,
)
from lading.artifact.layers import Archive, check_files, part_of
from lading.digest import Digest
from lading.errors import FormatError
from lading.formats.archive import Compression, wrap
from lading.formats.shards import shard_of
from lading.manifest import Descriptor, Manifest
from lading.model import OPAQUE, Model, ModelFacts, Part, Role, body, check_names, parse_count, role_of
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lading.artifact.layers import Listing
    from lading.formats.archive import Entry, Wrapping
    from lading.manifest import Platform

FOLDER = "models/"
"""Where KServe, RamaLama and we look for a model's files in an image."""

FILE_DIGEST = "io.lading.file-digest"
"""Layer annotation: what the file in the layer hashes to by itself, so that the way back needs no reading."""

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG_TYPES = (media.OCI_CONFIG, DOCKER_CONFIG)
_LAYER = re.compile(
    r"application/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar)"
    r"(?:[.+](?P<packed>gzip|zstd))?",
    re.ASCII,
)
_COMPRESSIONS = {None: Compression.NONE, "gzip": Compression.GZIP, "zstd": Compression.ZSTD}
_FORMAT = "io.lading.format"
_ARCHITECTURE = "io.lading.architecture"
_FILE_TYPE = "io.lading.file-type"
_LICENCE = "org.opencontainers.image.licenses"
_VENDOR = "org.opencontainers.image.vendor"
_DESCRIPTION = "org.opencontainers.image.description"
_KINDS = ("gguf", "safetensors", OPAQUE)
_SUFFIXES = {Compression.NONE: "", Compression.GZIP: "+gzip", Compression.ZSTD: "+zstd"}
_MAX_SHARDS = 1000
_MAX_COUNT = 2**63 - 1
_THING = "the model in the image"


class _Packed(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """One of GGUF Packer's files: the path that its command line gives, and what its header says."""

    cmd_parameter_value: str = ""
    architecture: str | None = None
    parameters: int | None = None


class _Run(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    labels: dict[str, str] | None = None
    model: _Packed | None = None
    drafter: _Packed | None = None
    projector: _Packed | None = None
    adapters: tuple[_Packed, ...] | None = None

    @property
    def packed(self) -> Iterator[tuple[Role, str]]:
        """Yield role and path of GGUF Packer's files."""
        one_each = ((Role.WEIGHTS, self.model), (Role.DRAFTER, self.drafter), (Role.PROJECTOR, self.projector))
        for role, file in (*one_each, *((Role.ADAPTER, file) for file in self.adapters or ())):
            path = file.cmd_parameter_value.removeprefix("/").removeprefix("./") if file else ""
            for name in _shard_names(path):
                yield role, name


class _RootFs(msgspec.Struct, frozen=True):
    type: str = "layers"
    diff_ids: tuple[str, ...] | None = None


class _ReadConfig(msgspec.Struct, frozen=True, kw_only=True):
    # What is used and no more: engines add keys of their own.
    created: str | None = None
    config: _Run | None = None
    rootfs: _RootFs = _RootFs()


class _BaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    config: dict[str, Any] | None = None
    rootfs: _RootFs
    history: tuple[dict[str, Any], ...] | None = None


class _Labels(msgspec.Struct, frozen=True, rename="pascal"):
    labels: dict[str, str]


class _Step(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    created: str | None = None
    created_by: str


class _Config(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    created: str | None = None
    architecture: str
    variant: str | None = None
    os: str
    config: _Labels
    rootfs: _RootFs
    history: tuple[_Step, ...]


def _detect(manifest: Manifest) -> bool:
    return (
        manifest.config.media_type in _CONFIG_TYPES
        and manifest.artifact_type is None
        and all(_LAYER.fullmatch(blob.media_type) for blob in manifest.layers)
    )


def _archives(manifest: Manifest, raw: bytes) -> tuple[Archive, ...]:
    diff_ids = decode_config(raw, _ReadConfig, "image").rootfs.diff_ids or ()
    if len(diff_ids) != len(manifest.layers):
        msg = f"the image has {len(manifest.layers)} layers, and its config {len(diff_ids)} diff_ids"
        raise FormatError(msg, hint="its config and its manifest contradict each other")
    return tuple(
        Archive(blob, _COMPRESSIONS[match["packed"]], diff_id)
        for blob, diff_id in with_diff_ids(manifest.layers, diff_ids)
        if (match := _LAYER.fullmatch(blob.media_type))
    )


def _read(manifest: Manifest, raw: bytes, listing: Listing) -> Model:
    config = decode_config(raw, _ReadConfig, "image")
    run = config.config or _Run()
    told = {path: role for role, path in run.packed}
    archives = _archives(manifest, raw)
    found = files_in_image(archives, listing, tuple(told) or (FOLDER.rstrip("/"),))
    parts = tuple(_part(path, archive, entry, told) for path, (archive, entry) in found.items())
    if missing := next((path for path in told if path not in {part.name for part in parts}), None):
        msg = f"the image has no {clean(missing)[:80]}, which its config names"
        raise FormatError(msg, hint="it was not written whole")
    if len(parts) == 1 and parts[0].role in (Role.OTHER, Role.DOC, Role.BIN):
        parts = (replace(parts[0], role=Role.WEIGHTS),)  # one file without a telling name: its header tells
    check_names((part.name for part in parts), _THING)
    check_files(parts, _THING)
    if not body(parts):
        msg = "the image holds no model: there are no weights under /models"
        raise FormatError(msg, hint="images made as KServe, RamaLama or GGUF Packer make them are read")
    return Model(parts, _facts(manifest, config, run, parts))


def _shard_names(path: str) -> Iterator[str]:
    shard = shard_of(path)
    count = shard.count if shard else 1
    if shard is None or count > _MAX_SHARDS:
        yield from (path,) if path else ()
        return
    yield from (replace(shard, number=number).name for number in range(1, count + 1))


def _part(path: str, archive: Archive, entry: Entry, told: Mapping[str, Role]) -> Part:
    name = path.removeprefix(FOLDER)
    said = archive.blob.annotations
    # What stands on a layer is said of its one file, and only where we wrote it.
    ours = said.get(media.FILE_PATH) == name and FILE_DIGEST in said
    role = Role(said[ROLE]) if ours and said.get(ROLE) in set(Role) else told.get(path) or role_of(name)
    return part_of(archive, entry, role, name, Digest(said[FILE_DIGEST]) if ours else None)


def _facts(manifest: Manifest, config: _ReadConfig, run: _Run, parts: tuple[Part, ...]) -> ModelFacts:
    said = run.labels or {}
    # OCI's own labels may come from a base image; only beside ours do they speak of the model.
    ours = said if _FORMAT in said else {}
    packed = run.model or _Packed()
    weights = body(parts)[0].name
    suffix = PurePosixPath(weights).suffix.lower().removeprefix(".")
    count = annotated(said, PARAMETERS) or packed.parameters or parse_count(said.get("gguf.model.parameters", ""))
    facts = described(
        ModelFacts(
            format=ours.get(_FORMAT) or (suffix if suffix in _KINDS else ""),
            architecture=said.get(_ARCHITECTURE) or packed.architecture or said.get("gguf.model.architecture") or None,
            name=ours.get(media.TITLE) or said.get("gguf.model.name") or None,
            parameters=count if count and 0 < count <= _MAX_COUNT else None,
            file_type=said.get(_FILE_TYPE) or None,
            context_length=annotated(said, CONTEXT),
            licence=ours.get(_LICENCE) or said.get("gguf.model.licenses") or None,
            vendor=ours.get(_VENDOR),
            description=ours.get(_DESCRIPTION) or said.get("gguf.model.description") or None,
            metadata=read_metadata(manifest, "image"),
            created=config.created or None,
        )
    )
    return with_said(facts, manifest, "image")


def _wrap(name: str, size: int) -> Wrapping:
    return wrap(FOLDER + name, size)


def _write(model: Model, created: str | None) -> Written:
    return write(model, created, PLATFORMS[0])


def write(model: Model, created: str | None, platform: Platform) -> Written:
    """Return an image of wrapped parts for a platform; images for several share their layers."""
    parts = _in_order(model)
    layers = tuple(map(_layer, parts))
    config = _Config(
        created=created,
        architecture=platform.architecture,
        variant=platform.variant,
        os=platform.os,
        config=_Labels(_labels(model.facts)),
        rootfs=_RootFs(diff_ids=tuple(blob.digest for blob in layers)),
        history=tuple(_Step(created=created, created_by=_step(part)) for part in parts),
    )
    return _written(msgspec.json.encode(config, enc_hook=str, order="deterministic"), layers, model.facts)


def write_upon(base: Manifest, base_config: bytes, model: Model, created: str | None) -> Written:
    """Return an image of another image and wrapped parts, as `FROM` and `COPY` make it.

    Platform, command, user and all else that the base's config says stay. Raises FormatError for a base that is no
    image, or whose config is not one's.
    """
    if not _detect(base):
        msg = f"the base {base.digest.short} is no container image"
        raise FormatError(msg, hint="name an image that has the programs you need")
    below = tuple(
        msgspec.structs.replace(archive.blob, media_type=LAYER + _SUFFIXES[archive.compression])
        for archive in _archives(base, base_config)
    )
    tree = decode_config(base_config, _BaseConfig, "base image")
    parts = _in_order(model)
    layers = tuple(map(_layer, parts))
    steps = [msgspec.to_builtins(_Step(created=created, created_by=_step(part))) for part in parts]
    said: dict[str, Any] = msgspec.json.decode(base_config)
    said["rootfs"] = {"type": "layers", "diff_ids": [*(tree.rootfs.diff_ids or ()), *(blob.digest for blob in layers)]}
    said["config"] = {
        **(tree.config or {}),
        "Labels": {**((tree.config or {}).get("Labels") or {}), **_labels(model.facts)},
    }
    # A base without a history has none to go on with: it must tell of every layer.
    said["history"] = [*(tree.history or ()), *steps] if tree.history or not below else None
    if created:
        said["created"] = created
    kept = {key: value for key, value in said.items() if value is not None}
    return _written(msgspec.json.encode(kept, enc_hook=str, order="deterministic"), (*below, *layers), model.facts)


def _written(config: bytes, layers: tuple[Descriptor, ...], facts: ModelFacts) -> Written:
    described_by = Descriptor.of(config, media.OCI_CONFIG)
    return Written(
        Manifest.build(described_by, layers, annotations=said_annotations(facts) | metadata_annotation(facts)), config
    )


def _in_order(model: Model) -> list[Part]:
    # What changes least stands lowest, as in any image.
    below = body(model.parts)
    return sorted(model.parts, key=lambda part: (part not in below, part.name))


def _step(part: Part) -> str:
    return f"lading: /{FOLDER}{part.name}"


def _labels(facts: ModelFacts) -> dict[str, str]:
    said = {
        _ARCHITECTURE: facts.architecture,
        _FILE_TYPE: facts.file_type,
        _LICENCE: facts.licence,
        _VENDOR: facts.vendor,
        _DESCRIPTION: facts.description,
        media.TITLE: facts.name,
        CONTEXT: str(facts.context_length or ""),
        PARAMETERS: str(facts.parameters or ""),
    }
    # The format, even if it is none, says that the others are ours.
    return {_FORMAT: facts.format, **{key: text for key, text in said.items() if text}}


def _layer(part: Part) -> Descriptor:
    blob = layer(part, LAYER, role=role_of(part.name) is not part.role)
    digest = {} if part.digest is None else {FILE_DIGEST: part.digest}
    return msgspec.structs.replace(blob, annotations={**blob.annotations, **digest})


ROW = Format("image", _detect, _read, _write, _archives, _wrap, write, write_upon)
