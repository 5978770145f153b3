"""The JSON documents that users and scripts read: field names never change meaning within a major version.

Sizes in bytes, times RFC 3339 in UTC, digests `algorithm:hex`; null means not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from lading.api.results import PackResult, Pulled, Pushed, Saved
    from lading.digest import Digest
    from lading.model import Model, ModelFacts, Part


class PartDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a model; a bare file has no digest and no media type."""

    role: str
    name: str
    size: int
    digest: str | None = None
    media_type: str | None = None


class FactsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model."""

    architecture: str | None = None
    name: str | None = None
    parameters: int | None = None
    bits_per_weight: float | None = None
    file_type: str | None = None
    context_length: int | None = None
    vocabulary_size: int | None = None
    chat_template: bool = False
    licence: str | None = None
    vendor: str | None = None


class PackedPartDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a packed model; `how` is cloned, linked, copied or present, "" in a dry run."""

    role: str
    name: str
    size: int
    how: str


class PackDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `pack` prints; `digest` is null in a dry run, which hashes nothing."""

    reference: str
    digest: str | None
    format: str
    size: int
    model: FactsDocument
    parts: tuple[PackedPartDocument, ...]


class ModelDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A model: `inspect` prints one, `list` an array. `digest` is the manifest's, null for a bare file.

    `own_size` counts blobs that no other named model of the store has, null outside it; `broken` says why the model
    cannot be read.
    """

    reference: str
    digest: str | None
    format: str
    media_type: str | None
    size: int
    model: FactsDocument
    parts: tuple[PartDocument, ...]
    stored: bool
    own_size: int | None = None
    source: str | None = None
    pulled: str | None = None
    broken: str | None = None


class PullDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A pulled model: its name in the store, the bytes of all and of what was fetched.

    `up_to_date` when nothing changed; `replaced` is the digest the name had before, if another.
    """

    reference: str
    digest: str
    format: str
    size: int
    new_bytes: int
    up_to_date: bool
    replaced: str | None


class PushDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A pushed model: where it is now, the bytes of all and of what was sent."""

    reference: str
    digest: str
    size: int
    new_bytes: int


class SavedModelDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A model in an archive: its name there and the digest of its manifest."""

    reference: str
    digest: str


class SaveDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An archive that was written, and what is in it; `size` is the archive's."""

    archive: str
    size: int
    models: tuple[SavedModelDocument, ...]


class PruneDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What was freed, or with `dry_run` would be; `partial_bytes` is what interrupted downloads left."""

    dry_run: bool
    blobs: int
    bytes: int
    partial_bytes: int


class FaultDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that is missing or damaged; `models` are the names that need it."""

    digest: str
    why: str
    models: tuple[str, ...]


class RepairedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that `--repair` fetched anew, and the source it came from."""

    digest: str
    size: int
    source: str


class UnrepairedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that `--repair` left missing or damaged, and why; `models` are the names that need it."""

    digest: str
    why: str
    models: tuple[str, ...]


class VerifyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What was read, and what was wrong before anything was repaired.

    `repaired` may name more than `faults`: what a damaged manifest needs is known once that is whole again.
    """

    blobs: int
    bytes: int
    seconds: float
    faults: tuple[FaultDocument, ...]
    repaired: tuple[RepairedDocument, ...] = ()
    unrepaired: tuple[UnrepairedDocument, ...] = ()


class VersionDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of lading and of the Python it runs on."""

    version: str
    python: str


def pull_document(result: Pulled) -> PullDocument:
    """Write what was pulled."""
    return PullDocument(
        reference=result.name,
        digest=str(result.digest),
        format=result.format,
        size=result.total_bytes,
        new_bytes=result.new_bytes,
        up_to_date=result.up_to_date,
        replaced=None if result.replaced is None else str(result.replaced),
    )


def push_document(result: Pushed) -> PushDocument:
    """Write what was pushed."""
    return PushDocument(
        reference=result.destination,
        digest=str(result.digest),
        size=result.total_bytes,
        new_bytes=result.new_bytes,
    )


def save_document(archive: str, result: Saved) -> SaveDocument:
    """Write what was saved."""
    models = tuple(SavedModelDocument(reference=model.name, digest=str(model.digest)) for model in result.models)
    return SaveDocument(archive=archive, size=result.size, models=models)


def facts_document(facts: ModelFacts) -> FactsDocument:
    """Write a model's facts."""
    bits = facts.bits_per_weight
    return FactsDocument(
        architecture=facts.architecture,
        name=facts.name,
        parameters=facts.parameters,
        bits_per_weight=None if bits is None else round(bits, 3),
        file_type=facts.file_type,
        context_length=facts.context_length,
        vocabulary_size=facts.vocabulary_size,
        chat_template=facts.chat_template is not None,
        licence=facts.licence,
        vendor=facts.vendor,
    )


def part_document(part: Part) -> PartDocument:
    """Write one part."""
    return PartDocument(
        role=part.role.value,
        name=part.name,
        size=part.blob.size,
        digest=str(part.blob.digest),
        media_type=part.blob.media_type,
    )


def model_document(
    reference: str, digest: Digest | None, format_name: str, media_type: str, model: Model, *, stored: bool
) -> ModelDocument:
    """Write a model."""
    return ModelDocument(
        reference=reference,
        digest=None if digest is None else str(digest),
        format=format_name,
        media_type=media_type,
        size=model.size,
        model=facts_document(model.facts),
        parts=tuple(part_document(part) for part in model.parts),
        stored=stored,
    )


def pack_document(result: PackResult) -> PackDocument:
    """Write what was packed."""
    return PackDocument(
        reference=result.name,
        digest=None if result.digest is None else str(result.digest),
        format=result.format,
        size=sum(file.size for file in result.files),
        model=facts_document(result.facts),
        parts=tuple(
            PackedPartDocument(role=file.role.value, name=file.name, size=file.size, how=file.how)
            for file in result.files
        ),
    )
