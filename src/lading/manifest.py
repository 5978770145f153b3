"""Manifests and indexes (OCI image-spec v1.1, and Docker schema 2), kept byte for byte.

A document is decoded once, strictly: at most 4 MiB, no duplicate key, and never both a
manifest and an index (CVE-2021-41190). Its digest is that of the bytes as they came.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import msgspec

from lading import media
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_DOCUMENT = 4 * 1024 * 1024
"""Bytes; what distribution-spec says every registry must accept, and the most that we read."""

_MAX_SIZE = 2**63 - 1
MANIFEST_KINDS = {
    media.OCI_MANIFEST: "manifest",
    media.DOCKER_MANIFEST: "manifest",
    media.OCI_INDEX: "index",
    media.DOCKER_MANIFEST_LIST: "index",
}
"""Which of the two documents a media type stands for."""

_MALFORMED = "it breaks the rules of OCI's image-spec; nothing it names was fetched"
_STRANGERS = {"manifest": ("manifests",), "index": ("layers", "config")}


class Platform(msgspec.Struct, frozen=True, rename={"os_version": "os.version"}, omit_defaults=True):
    """The platform of an index entry (image-index.md)."""

    architecture: str
    os: str
    variant: str | None = None
    os_version: str | None = None


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """What a blob is, how long it is and what its bytes hash to (descriptor.md). `size` in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: dict[str, str] = {}
    artifact_type: str | None = None
    platform: Platform | None = None

    def __post_init__(self) -> None:
        """Refuse a size that no file can have."""
        if not 0 <= self.size <= _MAX_SIZE:
            msg = f"descriptor of {self.digest} has the impossible size {self.size}"
            raise FormatError(msg)

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Self:
        """Describe `data`."""
        return cls(media_type=media_type, digest=Digest.of(data), size=len(data))


class _ManifestWire(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    schema_version: int
    media_type: str | None = None
    artifact_type: str | None = None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class _IndexWire(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    schema_version: int
    media_type: str | None = None
    artifact_type: str | None = None
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One artifact: a config and its layers. `raw` are the bytes as they came."""

    raw: bytes = field(repr=False)
    digest: Digest
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str | None = None
    subject: Descriptor | None = None

    @classmethod
    def build(
        cls,
        config: Descriptor,
        layers: tuple[Descriptor, ...],
        *,
        artifact_type: str | None = None,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | None = None,
        media_type: str = media.OCI_MANIFEST,
    ) -> Self:
        """Write a manifest, OCI's unless told otherwise; the same arguments give the same bytes anywhere."""
        wire = _ManifestWire(
            schema_version=2,
            media_type=media_type,
            artifact_type=artifact_type,
            config=config,
            layers=layers,
            subject=subject,
            annotations=dict(annotations or {}),
        )
        raw = encode(wire)
        return cls._of(raw, Digest.of(raw), media_type, wire)

    @classmethod
    def _of(cls, raw: bytes, digest: Digest, media_type: str, wire: _ManifestWire) -> Self:
        return cls(
            raw=raw,
            digest=digest,
            media_type=media_type,
            config=wire.config,
            layers=wire.layers,
            annotations=wire.annotations,
            artifact_type=wire.artifact_type,
            subject=wire.subject,
        )

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor that points at this manifest."""
        return Descriptor(
            media_type=self.media_type, digest=self.digest, size=len(self.raw), artifact_type=self.artifact_type
        )

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each digest once, in the manifest's order."""
        first: dict[Digest, Descriptor] = {}
        for blob in (self.config, *self.layers):
            first.setdefault(blob.digest, blob)
        return tuple(first.values())


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests or further indexes. `raw` are the bytes as they came."""

    raw: bytes = field(repr=False)
    digest: Digest
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str | None = None
    subject: Descriptor | None = None

    @classmethod
    def build(cls, manifests: tuple[Descriptor, ...]) -> Self:
        """Write an OCI index; the same entries give the same bytes anywhere."""
        raw = encode(_IndexWire(schema_version=2, media_type=media.OCI_INDEX, manifests=manifests))
        return cls(raw=raw, digest=Digest.of(raw), media_type=media.OCI_INDEX, manifests=manifests, annotations={})

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor that points at this index."""
        return Descriptor(
            media_type=self.media_type, digest=self.digest, size=len(self.raw), artifact_type=self.artifact_type
        )


Document = Manifest | Index


def encode(value: msgspec.Struct) -> bytes:
    """Write a wire value as JSON: fields in their declared order, annotations sorted, digests as strings."""
    return _ENCODER.encode(value)


def parse_document(raw: bytes, *, name: str, media_type: str | None = None, digest: Digest | None = None) -> Document:
    """Read a manifest or index.

    `name` is what messages call it. `media_type` is what the place it came from says it is
    (Content-Type, or the descriptor's), `digest` what its bytes must hash to.
    Raises IntegrityError for other bytes than promised, FormatError for anything that is not
    exactly one well-formed manifest or index.
    """
    if len(raw) > MAX_DOCUMENT:
        msg = f"the manifest of {name} is larger than 4 MiB"
        raise FormatError(msg, hint="registries are not bound to accept such a manifest; none is read here")
    actual = Digest.of(raw, digest.algorithm if digest else "sha256")
    if digest is not None and actual != digest:
        msg = f"the manifest of {name} has digest {actual}, not {digest}"
        raise IntegrityError(msg, hint="the source does not hold what it names")
    tree = _tree(raw, name)
    said = tree.get("mediaType")
    if said is not None and media_type in MANIFEST_KINDS and said != media_type:
        msg = f"the manifest of {name} was sent as {media_type} but says it is {str(said)[:80]!r}"
        raise FormatError(msg, hint="a document with two types is not trusted")
    kind_type = said if said is not None else media_type
    kind = (
        MANIFEST_KINDS.get(str(kind_type))
        if kind_type is not None
        else ("index" if "manifests" in tree else "manifest")
    )
    if kind is None and said is None and media_type not in MANIFEST_KINDS:
        # A server's own Content-Type (application/json, say) proves nothing: the shape decides.
        kind = "index" if "manifests" in tree else "manifest"
        kind_type = None
    if kind is None:
        msg = f"{name} has the unknown manifest type {str(kind_type)[:80]!r}"
        raise FormatError(msg, hint="OCI and Docker manifests and indexes are read")
    # Go's decoder takes keys in any case, and so would be shown what a stricter reader is not.
    keys = {key.lower() for key in tree}
    stranger = next((key for key in _STRANGERS[kind] if key in keys), None)
    if stranger is not None:
        msg = f"the {kind} of {name} also has `{stranger}`: it could be read as two things"
        raise FormatError(msg, hint="a document with two readings is not trusted (CVE-2021-41190)")
    decoder: msgspec.json.Decoder[Any] = _MANIFEST if kind == "manifest" else _INDEX
    with _wire_errors(f"the {kind} of {name}"):
        wire: _ManifestWire | _IndexWire = decoder.decode(raw)
    if wire.schema_version != 2:  # noqa: PLR2004 - the only version that the specification defines
        msg = f"the {kind} of {name} has schemaVersion {wire.schema_version}"
        raise FormatError(msg, hint="only version 2 exists in OCI and Docker's current format")
    if isinstance(wire, _IndexWire):
        return Index(
            raw=raw,
            digest=actual,
            media_type=str(kind_type or media.OCI_INDEX),
            manifests=wire.manifests,
            annotations=wire.annotations,
            artifact_type=wire.artifact_type,
            subject=wire.subject,
        )
    return Manifest._of(raw, actual, str(kind_type or media.OCI_MANIFEST), wire)  # noqa: SLF001 - same module


def decode_descriptor(tree: object, *, name: str) -> Descriptor:
    """Read one descriptor from decoded JSON found in `name`; raises FormatError."""
    with _wire_errors(f"a descriptor in {name}"):
        return msgspec.convert(tree, Descriptor, dec_hook=_decode_hook)


def expect_manifest(document: Document, name: str) -> Manifest:
    """Return the document if it is a manifest; an index is a FormatError that says so."""
    if isinstance(document, Index):
        msg = f"{name} is an index of {len(document.manifests)} manifests, not one model"
        raise FormatError(msg, hint="name one of its manifests by digest")
    return document


def _tree(raw: bytes, name: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            msg = f"the manifest of {name} has a key twice"
            raise FormatError(msg, hint="two readers could read two things")
        return members

    try:
        tree = json.loads(raw.decode("utf-8", "strict"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        msg = f"the manifest of {name} is not JSON"
        raise FormatError(msg, hint=_not_json_hint(raw)) from error
    if not isinstance(tree, dict):
        msg = f"the manifest of {name} is not a JSON object"
        raise FormatError(msg, hint=_MALFORMED)
    return tree


def _not_json_hint(raw: bytes) -> str:
    if raw.lstrip()[:1] == b"<":
        return "it is HTML: a login portal or a proxy may have answered instead of the registry"
    return "the source sent something else than a manifest"


@contextmanager
def _wire_errors(thing: str) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        msg = f"{thing}: {error.message}"
        raise FormatError(msg, hint=error.hint or _MALFORMED) from error
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        cause = error.__cause__
        if isinstance(cause, FormatError):
            msg = f"{thing}: {cause.message}"
            raise FormatError(msg, hint=cause.hint or _MALFORMED) from error
        msg = f"{thing} is malformed: {error}"
        raise FormatError(msg, hint=_MALFORMED) from error


def _decode_hook(kind: type, value: object) -> Any:
    if kind is Digest:
        if not isinstance(value, str):
            msg = "a digest must be a string"
            raise FormatError(msg)
        return Digest(value)
    msg = f"cannot read {kind}"
    raise NotImplementedError(msg)


def _encode_hook(value: object) -> str:
    if isinstance(value, Digest):
        return str(value)
    msg = f"cannot write {type(value)}"
    raise NotImplementedError(msg)


_ENCODER = msgspec.json.Encoder(enc_hook=_encode_hook, order="deterministic")
_MANIFEST = msgspec.json.Decoder(_ManifestWire, dec_hook=_decode_hook)
_INDEX = msgspec.json.Decoder(_IndexWire, dec_hook=_decode_hook)
