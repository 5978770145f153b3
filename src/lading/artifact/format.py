"""A wire format as one row: how to know it, read it and write it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, TypeVar

import msgspec

from lading import media
from lading.artifact.layers import EMPTY
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError
from lading.manifest import MAX_DOCUMENT, Platform
from lading.model import ModelFacts
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lading.artifact.layers import Archive, Listing
    from lading.formats.archive import Wrapping
    from lading.formats.gguf import GgufHeader
    from lading.manifest import Descriptor, Manifest
    from lading.model import Model, Part

OURS = "io.lading."
"""How the annotations begin that lading writes where nobody else has a key."""

ROLE = "io.lading.role"
"""Layer annotation, written only where the format's own types would be read as another role."""

PARAMETERS = "io.lading.parameters"
"""Manifest annotation: the exact number of weights, which both formats' configs round."""

CONTEXT = "io.lading.context-length"
"""Annotation or label, in formats whose config has no place for it: the context that a model was trained for, in tokens."""

METADATA = "io.lading.metadata"
"""Manifest annotation, likewise: the header's scalars as a JSON object of strings."""

SETTINGS = "io.lading.settings"
"""Manifest annotation: how the packager wants the model served, as a JSON object; `runtime.settings` has the names."""

COMMAND = "io.lading.command"
"""Manifest annotation: the packager's arguments for llama-server as a JSON list, files by their names in the model."""

OUTLINE = "io.lading.fit"
"""Manifest annotation: the model's outline (`lading.outline`), from which its memory is estimated without its header."""

MAX_OUTLINE = 16 * 1024
"""Characters of an outline that an artifact carries; models have one to three thousand."""

MAX_METADATA = 256 * 1024
"""Characters of header metadata that an artifact carries; models have some thousands, mostly chat template."""

PLATFORMS = (Platform(architecture="amd64", os="linux"), Platform(architecture="arm64", os="linux"))
"""For which platforms a model is written where a form names one: an engine takes only an image for its own."""

_TOLD = ("name", "licence", "vendor", "description")
_PACKED = re.compile(r"[-./+](?:tar|t?gz(?:ip)?|zstd?)(?=[.+;]|$)")
_NUMBER = re.compile(r"[0-9]{1,18}")
_SHOWN = 80
_Config = TypeVar("_Config", bound=msgspec.Struct)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Written:
    """A model in a format: the manifest, and the bytes of the config blob it names.

    `blobs` are small layers of the format's own making, to be put beside the config. `left_out` says, a sentence each,
    what of the model the format cannot hold at all.
    """

    manifest: Manifest
    config: bytes
    blobs: tuple[bytes, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Glance:
    """A model as its manifest and config alone tell it, and the header of its weights, of all shards together.

    `header` is None where only its outline is told.
    """

    model: Model
    header: GgufHeader | None


def no_archives(_manifest: Manifest, _config: bytes) -> tuple[Archive, ...]:
    """Return nothing: the format's layers are files themselves."""
    return ()


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table of formats.

    `parse` takes the manifest, its config's bytes and what is in those layers that `archives` names; `write` takes a
    model and the time to record (RFC 3339), if any, and gives the same bytes anywhere. Where a layer is not the file
    itself, `wrap` takes a file's name and size and says what makes it one; `write` then wants wrapped parts. Where a
    manifest is of one platform, `write_for` takes that too, and `write` writes for the first of `PLATFORMS`;
    `write_upon` takes the manifest and config of an image that the model is put upon. `glance` returns what an artifact
    tells without any of its layers, if it tells all.
    """

    name: str
    detect: Callable[[Manifest], bool]
    parse: Callable[[Manifest, bytes, Listing], Model]
    write: Callable[[Model, str | None], Written]
    archives: Callable[[Manifest, bytes], tuple[Archive, ...]] = no_archives
    wrap: Callable[[str, int], Wrapping] | None = None
    write_for: Callable[[Model, str | None, Platform], Written] | None = None
    write_upon: Callable[[Manifest, bytes, Model, str | None], Written] | None = None
    glance: Callable[[Manifest, bytes], Glance | None] | None = None

    def read(self, manifest: Manifest, config: bytes, listing: Listing = EMPTY) -> Model:
        """Return the model; raises FormatError for what breaks the format's rules, and for archives not in `listing`."""
        return self.parse(manifest, config, listing)


class _FileMetadata(msgspec.Struct, frozen=True, kw_only=True):
    # The fields and their order as ModelPack's FileMetadata has them; mtime is left out, not invented.
    name: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int
    typeflag: int = 0


def layer(part: Part, media_type: str, *, role: bool) -> Descriptor:
    """Describe a part as a raw layer with the annotations that Docker, ModelPack and Podman readers look for."""
    annotations = {
        media.FILE_METADATA: msgspec.json.encode(
            _FileMetadata(name=part.name.rpartition("/")[2], size=part.size)
        ).decode(),
        media.FILE_TYPE_UNTESTED: "false",
        media.FILE_PATH: part.name,
        media.TITLE: part.name,
    }
    if role:
        annotations[ROLE] = part.role.value
    return msgspec.structs.replace(
        part.blob,
        media_type=media_type,
        annotations=dict(sorted(annotations.items())),
        artifact_type=None,
        platform=None,
    )


def refuse_packed(blob: Descriptor) -> None:
    """Raise FormatError for a layer that is an archive or compressed, and so not a model's file itself."""
    if packed := _PACKED.search(blob.media_type):
        msg = f"layer {blob.digest.short} is packed: it has the type {blob.media_type[:80]}"
        raise FormatError(msg, hint=f"raw layers are read; one in {packed[0][1:]} is not")


def with_diff_ids(
    layers: tuple[Descriptor, ...], diff_ids: tuple[str, ...] | None
) -> Iterator[tuple[Descriptor, Digest | None]]:
    """Pair layers with what a config says that they hash to uncompressed, if it says it of all."""
    said = diff_ids if diff_ids and len(diff_ids) == len(layers) else (None,) * len(layers)
    for blob, text in zip(layers, said, strict=True):
        yield blob, diff_id(blob, text) if text else None


def diff_id(blob: Descriptor, text: str) -> Digest:
    """Return what a config says that a layer hashes to uncompressed; raises FormatError, naming the layer."""
    try:
        return Digest(text)
    except FormatError as error:
        msg = f"layer {blob.digest.short} has the malformed diff_id `{clean(text)[:_SHOWN]}`"
        raise FormatError(msg, hint=error.hint) from None


def check_raw_diff_ids(
    layers: tuple[Descriptor, ...],
    diff_ids: tuple[str, ...] | None,
    is_raw: Callable[[Descriptor], bool] = lambda _blob: True,
) -> None:
    """Raise IntegrityError for a layer that is a file itself, and of which the config says that it hashes to another digest."""
    for blob, diff_id in with_diff_ids(layers, diff_ids):
        if diff_id and is_raw(blob) and diff_id.algorithm == blob.digest.algorithm and diff_id != blob.digest:
            msg = f"layer {blob.digest.short} is a file as it is, and its diff_id is {diff_id.short}"
            raise IntegrityError(msg, hint="the config and the manifest of the artifact contradict each other")


def decode_config(raw: bytes, kind: type[_Config], name: str) -> _Config:
    """Read a config blob; raises FormatError, naming the format."""
    hint = "the artifact was written by something that does not keep to the format"
    if len(raw) > MAX_DOCUMENT:
        msg = f"the {name} config is larger than 4 MiB"
        raise FormatError(msg, hint=hint)
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"the {name} config is malformed: {error}"
        raise FormatError(msg, hint=hint) from error


def annotated(annotations: Mapping[str, str], key: str) -> int | None:
    """Return the number above 0 that an annotation holds; None for anything else."""
    text = annotations.get(key, "")
    return (int(text) or None) if _NUMBER.fullmatch(text) else None


def metadata_annotation(facts: ModelFacts) -> dict[str, str]:
    """Return the header metadata as a manifest's annotation."""
    metadata = held(facts.metadata)
    return {METADATA: msgspec.json.encode(metadata).decode()} if metadata else {}


def said_annotations(facts: ModelFacts) -> dict[str, str]:
    """Return the annotations that every format writes: those that the packager gave, the settings and the outline."""
    said = dict(facts.annotations)
    if facts.settings:
        said[SETTINGS] = msgspec.json.encode(dict(facts.settings), order="sorted").decode()
    if facts.command:
        said[COMMAND] = msgspec.json.encode(facts.command).decode()
    if 0 < len(facts.outline) <= MAX_OUTLINE:
        said[OUTLINE] = facts.outline
    return said


def told_annotations(facts: ModelFacts) -> dict[str, str]:
    """Return the words on a model for which some configs have no place, unless the header's scalars say them already."""
    implied = described(ModelFacts(metadata=held(facts.metadata)))
    words = {fact: getattr(facts, fact) for fact in _TOLD}
    return {f"{OURS}{fact}": text for fact, text in words.items() if text and text != getattr(implied, fact)}


def told(manifest: Manifest) -> _Told:
    """Return the words that `told_annotations` wrote."""
    name, licence, vendor, description = (manifest.annotations.get(f"{OURS}{fact}") or None for fact in _TOLD)
    return _Told(name=name, licence=licence, vendor=vendor, description=description)


class _Told(TypedDict):
    name: str | None
    licence: str | None
    vendor: str | None
    description: str | None


def with_said(facts: ModelFacts, manifest: Manifest, name: str) -> ModelFacts:
    """Fill in what stands in a manifest's annotations whatever the format; raises FormatError, naming that."""
    said = {key: text for key, text in manifest.annotations.items() if not key.startswith(OURS)}
    settings = _object(manifest, SETTINGS, name, dict[str, object])
    command = _decoded(manifest, COMMAND, name, tuple[str, ...])
    outline = manifest.annotations.get(OUTLINE, "")
    return replace(
        facts,
        settings={**facts.settings, **settings},
        annotations=said,
        outline=outline,
        command=facts.command if command is None else command,
    )


def read_metadata(manifest: Manifest, name: str) -> dict[str, str]:
    """Return the header metadata that a manifest's annotation holds; raises FormatError, naming the format."""
    return _object(manifest, METADATA, name, dict[str, str])


def _object(manifest: Manifest, key: str, name: str, kind: type[dict[str, _Value]]) -> dict[str, _Value]:
    return _decoded(manifest, key, name, kind) or {}


def _decoded(manifest: Manifest, key: str, name: str, kind: type[_Value]) -> _Value | None:
    text = manifest.annotations.get(key)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"the annotation {key} of the {name} is malformed: {error}"
        raise FormatError(msg, hint="it is JSON of another form where lading has written it") from error


def held(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the header metadata that an artifact carries: all of it, by key, unless it is out of all proportion."""
    left = MAX_METADATA
    kept = {}
    # The shortest first, so that one monster does not displace what readers look for.
    for key, value in sorted(metadata.items(), key=lambda item: (len(item[1]), item[0])):
        left -= len(key) + len(value)
        if left < 0:
            break
        kept[key] = value
    return dict(sorted(kept.items()))


def described(facts: ModelFacts) -> ModelFacts:
    """Fill in what a config left unsaid from the GGUF keys in its metadata."""
    said = facts.metadata
    architecture = facts.architecture or said.get("general.architecture") or None
    return replace(
        facts,
        architecture=architecture,
        name=facts.name or said.get("general.name") or None,
        vocabulary_size=facts.vocabulary_size or annotated(said, f"{architecture or ''}.vocab_size"),
        chat_template=facts.chat_template or said.get("tokenizer.chat_template") or None,
        licence=facts.licence or said.get("general.license") or None,
        vendor=facts.vendor or said.get("general.organization") or None,
        description=facts.description or said.get("general.description") or None,
    )
