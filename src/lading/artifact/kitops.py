"""KitOps ModelKits: archives of a project's files, described by a Kitfile that is the config. Read, not written.

Follows kit's own structures (kitops, pkg/artifact/kitfile.go). A ModelKit without a model of its own, which names
another one instead, is refused by that name.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NoReturn

import msgspec

from lading.artifact.format import Format, decode_config, described, diff_id
from lading.artifact.layers import Archive, check_files, files_of, one_template, part_of
from lading.errors import FormatError, UsageError
from lading.formats.archive import Compression
from lading.model import OPAQUE, Model, ModelFacts, Part, Role, body, check_names, role_of
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.artifact.layers import Listing
    from lading.manifest import Manifest

_KIT = "application/vnd.kitops.modelkit."
CONFIG_TYPE = _KIT + "config.v1+json"
_LAYER = re.compile(re.escape(_KIT) + r"(?P<kind>[a-z]{1,20})\.v1\.tar(?:\+(?P<packed>gzip|zstd))?", re.ASCII)
_COMPRESSIONS = {None: Compression.NONE, "gzip": Compression.GZIP, "zstd": Compression.ZSTD}
_MODEL, _PART, _DOCS = "model", "modelpart", "docs"
_WEIGHT_ROLES = (Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFTER, Role.BIN)
_ADAPTER_TYPES = {"lora", "adapter", "qlora"}
_KINDS = ("gguf", "safetensors", OPAQUE)
_THING = "the ModelKit"


class _Layer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    path: str = ""
    type: str = ""
    digest: str = ""
    diff_id: str = ""


class _KitModel(_Layer, frozen=True, rename="camel", kw_only=True):
    name: str = ""
    license: str = ""
    format: str = ""
    description: str = ""
    parts: tuple[_Layer, ...] | None = None


class _Package(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    license: str = ""
    description: str = ""


class _Kitfile(msgspec.Struct, frozen=True, kw_only=True):
    # What is used and no more: newer kits add sections.
    package: _Package | None = None
    model: _KitModel | None = None
    code: tuple[_Layer, ...] | None = None
    datasets: tuple[_Layer, ...] | None = None
    docs: tuple[_Layer, ...] | None = None

    @property
    def layers(self) -> Iterator[_Layer]:
        """Yield what stands for a layer each."""
        if self.model:
            yield self.model
            yield from self.model.parts or ()
        for section in (self.code, self.datasets, self.docs):
            yield from section or ()


def _detect(manifest: Manifest) -> bool:
    return manifest.config.media_type == CONFIG_TYPE


def _archives(manifest: Manifest, raw: bytes) -> tuple[Archive, ...]:
    kit = decode_config(raw, _Kitfile, "ModelKit")
    diff_ids = {one.digest: one.diff_id for one in kit.layers if one.digest and one.diff_id}
    found = []
    for blob in manifest.layers:
        match = _LAYER.fullmatch(blob.media_type)
        if match is None:
            msg = f"layer {blob.digest.short} has the unknown media type {blob.media_type[:80]}"
            raise FormatError(msg, hint="it is none of KitOps' layer types")
        said = diff_ids.get(blob.digest)
        found.append(Archive(blob, _COMPRESSIONS[match["packed"]], diff_id(blob, said) if said else None))
    return tuple(found)


def _read(manifest: Manifest, raw: bytes, listing: Listing) -> Model:
    kit = decode_config(raw, _Kitfile, "ModelKit")
    said = kit.model or _KitModel()
    adapters = {_plain(one.path) for one in said.parts or () if one.type.lower() in _ADAPTER_TYPES}
    parts: list[Part] = []
    for archive in _archives(manifest, raw):
        kind = archive.blob.media_type.removeprefix(_KIT).partition(".")[0]
        for entry in files_of(archive, listing):
            role = Role.ADAPTER if entry.name in adapters else _role(kind, entry.name, _plain(said.path))
            parts.append(part_of(archive, entry, role, entry.name))
    check_names((part.name for part in parts), _THING)
    check_files(parts, _THING)
    weights = next(iter(body(parts)), None)
    if weights is None:
        other = f": it stands for the one of {clean(said.path)[:80]}" if said.path else ""
        msg = f"{_THING} has no model of its own{other}"
        raise FormatError(msg, hint="name the ModelKit that holds the weights")
    suffix = PurePosixPath(weights.name).suffix.lower().removeprefix(".")
    package = kit.package or _Package()
    return Model(
        one_template(parts),
        described(
            ModelFacts(
                format=suffix if suffix in _KINDS else said.format.lower(),
                name=said.name or package.name or None,
                licence=said.license or package.license or None,
                description=said.description or package.description or None,
            )
        ),
    )


def _plain(path: str) -> str:
    return str(PurePosixPath(path)) if path else ""


def _role(kind: str, name: str, model_path: str) -> Role:
    guess = role_of(name)
    if kind in (_MODEL, _PART):
        return Role.WEIGHTS if name == model_path and guess not in _WEIGHT_ROLES else guess
    if kind == _DOCS:
        return guess if guess in (Role.LICENCE, Role.DOC) else Role.DOC
    # Code, data sets, prompts.
    return Role.LICENCE if guess is Role.LICENCE else Role.OTHER


def _write(_model: Model, _created: str | None) -> NoReturn:
    msg = "models are not written as ModelKits"
    raise UsageError(msg, hint="kit reads `modelpack`")


ROW: Format = Format("kitops", _detect, _read, _write, _archives)
