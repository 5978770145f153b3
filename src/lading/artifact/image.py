"""Container images with a model in them ("cars"): files under `/models`, and GGUF Packer's, which lie anywhere.

Read are Docker's and OCI's images, as a container would show them; see `changesets`. Written is one uncompressed layer per
file, alone or upon a base; see `image_config`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from lading import media
from lading.artifact import image_config
from lading.artifact.changesets import files_in_image
from lading.artifact.command import files_of, in_root, renamed
from lading.artifact.format import (
    CONTEXT,
    OUTLINE,
    PARAMETERS,
    PLATFORMS,
    Format,
    Glance,
    Written,
    annotated,
    decode_config,
    described,
    read_metadata,
    with_said,
)
from lading.artifact.image_layers import FOLDER, RootFs, archives_of, is_image, name_of, said_file
from lading.artifact.layers import Archive, check_files, one_template, part_of
from lading.artifact.packer import PackedFile, Packing, header_of
from lading.errors import FormatError
from lading.formats.archive import wrap
from lading.formats.shards import shard_of
from lading.model import OPAQUE, Model, ModelFacts, Part, Role, body, check_names, parse_count, role_of
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lading.artifact.image_layers import SaidFile
    from lading.artifact.layers import Listing
    from lading.formats.archive import Entry, Wrapping
    from lading.manifest import Manifest

_KINDS = ("gguf", "safetensors", OPAQUE)
_MAX_SHARDS = 1000
_MAX_COUNT = 2**63 - 1
_THING = "the model in the image"


class Run(Packing, frozen=True, rename="pascal", kw_only=True):
    """What an image's config says of a model and of how it is started; all else in it is not looked at."""

    cmd: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments for llama-server; what a base image is started with is none."""
        words = self.cmd or ()
        is_ours = self.model is not None or image_config.FORMAT in (self.labels or {})
        return words if is_ours and words and words[0].startswith("-") else ()

    @property
    def packed(self) -> Iterator[tuple[Role, str]]:
        """Yield role and path of the files that the config names, all shards of a split one.

        Where an engine built upon an image, of GGUF Packer's keys only the command is left.
        """
        if self.model is None:
            named = files_of(self.arguments).items()
            yield from ((role, name) for path, role in named for name in shard_names(path))
            return
        one_each = ((Role.WEIGHTS, self.model), (Role.DRAFTER, self.drafter), (Role.PROJECTOR, self.projector))
        for role, file in (*one_each, *((Role.ADAPTER, file) for file in self.adapters or ())):
            for name in shard_names(file.path if file else ""):
                yield role, name


class _ReadConfig(msgspec.Struct, frozen=True, kw_only=True):
    # What is used and no more: engines add keys of their own.
    created: str | None = None
    config: Run | None = None
    rootfs: RootFs = RootFs()


def read_run(config: bytes) -> Run:
    """Return what an image's config says of a model; raises FormatError."""
    return decode_config(config, _ReadConfig, "image").config or Run()


def _read(manifest: Manifest, raw: bytes, listing: Listing) -> Model:
    config = decode_config(raw, _ReadConfig, "image")
    run = config.config or Run()
    told = {path: role for role, path in run.packed}
    archives = archives_of(manifest, raw)
    ours = {file.path: file for archive in archives if (file := said_file(archive.blob))}
    roots = (*told, *ours) if run.model else (FOLDER.rstrip("/"), *told, *ours)
    found = files_in_image(archives, listing, roots)
    parts = tuple(_part(path, archive, entry, told) for path, (archive, entry) in found.items())
    if missing := next((path for path in told if path not in found), None):
        msg = f"the image has no {clean(missing)[:80]}, which its config names"
        raise FormatError(msg, hint="it was not written whole")
    if len(parts) == 1 and parts[0].role in (Role.OTHER, Role.DOC, Role.BIN):
        parts = (replace(parts[0], role=Role.WEIGHTS),)  # one file without a telling name: its header tells
    return _checked(Model(parts, _facts(manifest, config, run, parts)))


def _checked(model: Model) -> Model:
    check_names((part.name for part in model.parts), _THING)
    check_files(model.parts, _THING)
    return replace(model, parts=one_template(model.parts))


def _glance(manifest: Manifest, raw: bytes) -> Glance | None:
    """Return what the manifest and the config tell by themselves of an image whose model is wholly ours."""
    config = decode_config(raw, _ReadConfig, "image")
    run = config.config or Run()
    header = header_of(run.model) if run.model else None
    if header is None and OUTLINE not in manifest.annotations:
        return None
    told = {path: role for role, path in run.packed}
    files: dict[str, Part] = {}
    archives = archives_of(manifest, raw)
    for archive in archives:
        said = said_file(archive.blob)
        if said and (part := _said_role(said, told).part(archive.blob)):
            files[said.path] = part
    # What the config does not name may lie in any layer that does not say what it holds.
    if not set(told) <= set(files) or (not told and len(files) < len(archives)):
        return None
    parts = tuple(part for _path, part in sorted(files.items()))
    return Glance(_checked(Model(parts, _facts(manifest, config, run, parts))), header)


def _said_role(said: SaidFile, told: Mapping[str, Role]) -> SaidFile:
    return replace(said, role=told[said.path]) if said.path in told else said


def shard_names(path: str) -> Iterator[str]:
    """Yield the paths of all shards of which one is named, or the path itself; none for an empty one."""
    shard = shard_of(path)
    count = shard.count if shard else 1
    if shard is None or count > _MAX_SHARDS:
        yield from (path,) if path else ()
        return
    yield from (replace(shard, number=number).name for number in range(1, count + 1))


def _part(path: str, archive: Archive, entry: Entry, told: Mapping[str, Role]) -> Part:
    # What stands on a layer is said of its one file, and only where we wrote it.
    said = said_file(archive.blob)
    ours = said if said and said.path == path else None
    guess = role_of(name_of(path))
    role = told.get(path) or (ours.role if ours else guess)
    if ours and ours.role is not guess:
        role = ours.role
    if role is Role.TEMPLATE and path not in told and Role.TEMPLATE in told.values():
        role = Role.CONFIG  # the config says which one is meant
    return part_of(archive, entry, role, ours.name if ours else name_of(path), ours.digest if ours else None)


def _facts(manifest: Manifest, config: _ReadConfig, run: Run, parts: tuple[Part, ...]) -> ModelFacts:
    said = run.labels or {}
    if not body(parts):
        msg = "the image holds no model: there are no weights under /models"
        raise FormatError(msg, hint="images made as KServe, RamaLama or GGUF Packer make them are read")
    # OCI's own labels may come from a base image; only beside ours do they speak of the model.
    ours = said if image_config.FORMAT in said else {}
    packed = run.model or PackedFile()
    weights = body(parts)[0].name
    suffix = PurePosixPath(weights).suffix.lower().removeprefix(".")
    count = annotated(said, PARAMETERS) or packed.parameters or parse_count(said.get("gguf.model.parameters", ""))
    architecture = said.get(image_config.ARCHITECTURE) or packed.architecture or said.get("gguf.model.architecture")
    facts = described(
        ModelFacts(
            format=ours.get(image_config.FORMAT) or (suffix if suffix in _KINDS else ""),
            architecture=architecture or None,
            name=ours.get(media.TITLE) or said.get("gguf.model.name") or None,
            parameters=count if count and 0 < count <= _MAX_COUNT else None,
            file_type=said.get(image_config.FILE_TYPE) or None,
            context_length=annotated(said, CONTEXT),
            licence=ours.get(image_config.LICENCE) or said.get("gguf.model.licenses") or None,
            vendor=ours.get(image_config.VENDOR),
            description=ours.get(image_config.DESCRIPTION) or said.get("gguf.model.description") or None,
            metadata=read_metadata(manifest, "image"),
            created=config.created or None,
            command=_command(run, parts),
        )
    )
    return with_said(facts, manifest, "image")


def _command(run: Run, parts: tuple[Part, ...]) -> tuple[str, ...]:
    """Return the arguments for llama-server with the names that the files have in the model."""
    names = {part.member.path: part.name for part in parts if part.member}
    return renamed(run.arguments, lambda path: names.get(in_root(path), path))


def _wrap(name: str, size: int) -> Wrapping:
    return wrap(FOLDER + name, size)


def _write(model: Model, created: str | None) -> Written:
    return image_config.write(model, created, PLATFORMS[0])


ROW = Format(
    "image",
    is_image,
    _read,
    _write,
    archives_of,
    _wrap,
    image_config.write,
    image_config.write_upon,
    _glance,
)
