"""An image's layers: tar archives, of which ours hold one file each and say in annotations which."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from lading import media
from lading.artifact.format import OURS, ROLE, decode_config, layer, with_diff_ids
from lading.artifact.layers import Archive
from lading.digest import Digest
from lading.errors import FormatError
from lading.formats.archive import Compression, wrap
from lading.model import Member, Part, Role, role_of

if TYPE_CHECKING:
    from lading.manifest import Descriptor, Manifest

FOLDER = "models/"
"""Where KServe, RamaLama and we look for a model's files in an image."""

FILE_DIGEST = "io.lading.file-digest"
"""Layer annotation: what the file in the layer hashes to by itself, so that the way back needs no reading."""

IMAGE_PATH = f"{OURS}image-path"
"""Layer annotation: where the file lies in the image, if not under `/models` by its name."""

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
_MAX_PATH = 1024
_CONFIG_TYPES = (media.OCI_CONFIG, DOCKER_CONFIG)
_LAYER = re.compile(
    r"application/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar)"
    r"(?:[.+](?P<packed>gzip|zstd))?",
    re.ASCII,
)
_COMPRESSIONS = {None: Compression.NONE, "gzip": Compression.GZIP, "zstd": Compression.ZSTD}


class RootFs(msgspec.Struct, frozen=True):
    """What an image's layers hash to uncompressed."""

    type: str = "layers"
    diff_ids: tuple[str, ...] | None = None


class _Config(msgspec.Struct, frozen=True):
    rootfs: RootFs = RootFs()


class _FileMetadata(msgspec.Struct, frozen=True):
    size: int


@dataclass(frozen=True, slots=True)
class SaidFile:
    """What one of our layers says of its file: path in the image, name in the model, size in bytes, digest and role."""

    path: str
    name: str
    size: int
    digest: Digest
    role: Role

    def part(self, blob: Descriptor) -> Part | None:
        """Return the file as a part of a model, if a layer of ours that held it would be as long as this one."""
        wrapping = wrap(self.path, self.size)
        if blob.size != wrapping.size:
            return None
        member = Member(self.path, len(wrapping.head), self.size, Compression.NONE.value, blob.digest, self.digest)
        return Part(self.role, self.name, blob, member)


def is_image(manifest: Manifest) -> bool:
    """Say whether a manifest is a container image's."""
    return (
        manifest.config.media_type in _CONFIG_TYPES
        and manifest.artifact_type is None
        and all(_LAYER.fullmatch(blob.media_type) for blob in manifest.layers)
    )


def archives_of(manifest: Manifest, raw: bytes) -> tuple[Archive, ...]:
    """Return an image's layers, lowest first; raises FormatError where the config speaks of others."""
    diff_ids = decode_config(raw, _Config, "image").rootfs.diff_ids or ()
    if len(diff_ids) != len(manifest.layers):
        msg = f"the image has {len(manifest.layers)} layers, and its config {len(diff_ids)} diff_ids"
        raise FormatError(msg, hint="its config and its manifest contradict each other")
    return tuple(
        Archive(blob, _COMPRESSIONS[match["packed"]], diff_id)
        for blob, diff_id in with_diff_ids(manifest.layers, diff_ids)
        if (match := _LAYER.fullmatch(blob.media_type))
    )


def name_of(path: str) -> str:
    """Return what a file of an image is called in a model; `path` is relative to the image's root."""
    return path.removeprefix(FOLDER)


def layer_of(part: Part) -> Descriptor:
    """Describe a wrapped part as a layer."""
    blob = layer(part, LAYER, role=role_of(part.name) is not part.role)
    said = {} if part.digest is None else {FILE_DIGEST: str(part.digest)}
    if part.member is not None and part.member.path != FOLDER + part.name:
        said[IMAGE_PATH] = part.member.path
    return msgspec.structs.replace(blob, annotations=dict(sorted((blob.annotations | said).items())))


def said_file(blob: Descriptor) -> SaidFile | None:
    """Return what a layer says of its one file; None for one that is not ours."""
    said = blob.annotations
    name = said.get(media.FILE_PATH, "")
    try:
        size = msgspec.json.decode(said.get(media.FILE_METADATA, ""), type=_FileMetadata).size
        digest = Digest(said.get(FILE_DIGEST, ""))
    except (msgspec.DecodeError, FormatError, RecursionError):
        return None
    path = said.get(IMAGE_PATH) or FOLDER + name
    if not name or size < 0 or len(path) > _MAX_PATH:
        return None
    role = Role(said[ROLE]) if said.get(ROLE) in set(Role) else role_of(name)
    return SaidFile(path, name, size, digest, role)


def with_role(blob: Descriptor, role: Role) -> Descriptor:
    """Return a layer of ours that says another role of its file."""
    said = {key: text for key, text in blob.annotations.items() if key != ROLE}
    if role_of(said.get(media.FILE_PATH, "")) is not role:
        said[ROLE] = role.value
    return msgspec.structs.replace(blob, annotations=dict(sorted(said.items())))
