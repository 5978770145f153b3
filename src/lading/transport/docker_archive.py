"""What `docker save` and `podman save` write as `docker-archive`, and what Docker Model Runner exports.

`manifest.json` names the images: a config, names, and layers by path. The config says what each layer hashes to, so the
OCI manifest that such an image stands for follows without reading a layer. Model Runner writes an OCI manifest there.
Beside a layout that lading writes stands such a list of its images, by which a docker of before layouts loads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from lading import media
from lading import reference as refs
from lading.digest import Digest
from lading.errors import FormatError, UsageError
from lading.formats.archive import Compression, Entry, Kind
from lading.manifest import MAX_DOCUMENT, Descriptor, Index, Manifest, parse_document
from lading.text import clean
from lading.transport.archive_contents import (
    HEAD,
    Contents,
    Root,
    blobs_by_digest,
    compression_of,
    read_entry,
    refuse_twice,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.content import RangeReader
    from lading.manifest import Document

LIST = "manifest.json"
"""The name of the list of images."""

_CONFIGS = (media.OCI_CONFIG, "application/vnd.docker.container.image.v1+json")
_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_MALFORMED = "the archive is damaged or malformed"
_MAX_IMAGES = 1000
_Shape = TypeVar("_Shape")


class _Image(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


class _Rootfs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] = ()


class _Config(msgspec.Struct, frozen=True):
    rootfs: _Rootfs


def docker_contents(file: RangeReader, entries: Mapping[str, Entry], name: str) -> Contents:
    """Return what is in an archive with a `manifest.json`; raises FormatError, naming what is wrong with it.

    Older versions of docker write a layer that two images share once, and links to it. None is followed: a layer is
    known by what it hashes to.
    """
    raw = read_entry(file, _found(entries, LIST, name), MAX_DOCUMENT)
    if raw.lstrip()[:1] == b"{":
        document = parse_document(raw, name=f"{name}, {LIST}")
        return Contents(
            "docker", (Root(None, document.descriptor),), blobs_by_digest(entries), {document.digest: document}
        )
    images = _decode(raw, tuple[_Image, ...], f"{name}, {LIST}")
    if len(images) > _MAX_IMAGES:
        msg = f"{name} has {len(images):,} images"
        raise FormatError(msg, hint=f"{_MAX_IMAGES:,} are the most that are read")
    blobs: dict[Digest, Entry] = {}
    configs = []
    for image in images:
        entry = _found(entries, image.config, name)
        config = read_entry(file, entry, MAX_DOCUMENT)
        blobs[Digest.of(config)] = entry
        diff_ids = _diff_ids(config, image, name)
        configs.append((Descriptor.of(config, media.OCI_CONFIG), diff_ids))
        for path, diff_id in zip(image.layers, diff_ids, strict=True):
            layer = entries.get(path.removeprefix("./"))
            if layer and layer.kind is Kind.FILE and diff_id not in blobs:
                _refuse_compressed(file, layer, name)
                blobs[diff_id] = layer
    implied = {}
    roots = []
    for image, (config_blob, diff_ids) in zip(images, configs, strict=True):
        layers = tuple(_layer(blobs, path, diff_id, name) for path, diff_id in zip(image.layers, diff_ids, strict=True))
        manifest = Manifest.build(config_blob, layers)
        implied[manifest.digest] = manifest
        roots += [Root(tag, manifest.descriptor) for tag in image.repo_tags or (None,)]
    refuse_twice(tuple(roots), name)
    return Contents("docker", tuple(roots), blobs, dict(implied))


def is_image(document: Document) -> bool:
    """Say whether a document is the manifest of a container image."""
    return (
        isinstance(document, Manifest)
        and document.config.media_type in _CONFIGS
        and document.artifact_type is None
        and all(blob.media_type.startswith(_LAYERS) for blob in document.layers)
    )


def docker_list(named: Mapping[str, Document], images: Mapping[Digest, Manifest]) -> bytes | None:
    """Return the list of the images among documents with names; None where there is none.

    `images` are those that an index may name. The list knows no platforms: an index is its first image, since the files
    of a model are the same in all. A name that docker cannot have is left out, and its image in the list without it.
    """
    listed: dict[Digest, tuple[Manifest, list[str]]] = {}
    given: set[str] = set()
    for name, document in named.items():
        inner = document.manifests if isinstance(document, Index) else (document.descriptor,)
        image = next((images[entry.digest] for entry in inner if entry.digest in images), None)
        if image is not None:
            _image, tags = listed.setdefault(image.digest, (image, []))
            tag = _docker_name(name)
            if tag and tag not in given:
                given.add(tag)
                tags.append(tag)
    made = [
        _Image(image.config.digest.path, tuple(blob.digest.path for blob in image.layers), tuple(tags) or None)
        for image, tags in listed.values()
    ]
    return msgspec.json.encode(made) if made else None


def _docker_name(name: str) -> str | None:
    """Return a name as docker writes it, with a tag; None for one that is none to docker."""
    try:
        reference = refs.parse(name)
        bare = not isinstance(reference, refs.Oci)
        reference = refs.parse(f"oci://localhost/{name}") if bare else reference
    except UsageError:
        return None
    if not isinstance(reference, refs.Oci) or reference.digest:
        return None
    return str(reference).removeprefix("localhost/") if bare else str(reference)


def _found(entries: Mapping[str, Entry], path: str, name: str) -> Entry:
    entry = entries.get(path.removeprefix("./"))
    if entry is None or entry.kind is not Kind.FILE:
        what = "is not in it" if entry is None else f"is a {entry.kind}"
        msg = f"{name} needs {clean(path)}, which {what}"
        raise FormatError(msg, hint="links are not followed" if entry else _MALFORMED)
    return entry


def _layer(blobs: Mapping[Digest, Entry], path: str, diff_id: Digest, name: str) -> Descriptor:
    entry = blobs.get(diff_id)
    if entry is None:
        msg = f"{name} has no layer {clean(path)} ({diff_id.short}) as a file"
        raise FormatError(msg, hint="links are not followed; save the image again")
    return Descriptor(media_type=_LAYER, digest=diff_id, size=entry.size)


def _diff_ids(config: bytes, image: _Image, name: str) -> tuple[Digest, ...]:
    thing = f"{name}, {clean(image.config)}"
    said = tuple(Digest(text) for text in _decode(config, _Config, thing).rootfs.diff_ids)
    if len(said) != len(image.layers):
        msg = f"{thing} tells of {len(said)} layers, and {LIST} of {len(image.layers)}"
        raise FormatError(msg, hint=_MALFORMED)
    return said


def _refuse_compressed(file: RangeReader, layer: Entry, name: str) -> None:
    if layer.size >= HEAD and compression_of(file.read_at(layer.offset, HEAD)) is not Compression.NONE:
        msg = f"{name} has the compressed layer {clean(layer.name)}, whose digest nobody tells"
        raise FormatError(
            msg, hint="save it as an OCI archive instead: `podman save --format oci-archive`, `skopeo copy`"
        )


def _decode(raw: bytes, kind: type[_Shape], thing: str) -> _Shape:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{thing} is malformed: {error}"
        raise FormatError(msg, hint=_MALFORMED) from error
