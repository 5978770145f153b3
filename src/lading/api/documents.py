"""The JSON documents that users and scripts read: field names never change meaning within a major version.

Sizes in bytes, times RFC 3339 in UTC, digests `algorithm:hex`; null means not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lading.api.results import Built, Delivered, DeliveredForm, PackResult, Pulled, Pushed, Saved
    from lading.digest import Digest
    from lading.model import Model, ModelFacts, Part


class PartDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a model; a bare file has no digest and no media type.

    `layer` is the digest of the archive that the file is packed in, with others or alone, and `media_type` that
    archive's; the file's own digest is null there unless the artifact says it.
    """

    role: str
    name: str
    size: int
    digest: str | None = None
    media_type: str | None = None
    layer: str | None = None


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


class FormDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One format of a model that was written in those asked for: where it is by itself."""

    format: str
    reference: str
    digest: str


class PackDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `pack` prints; `digest` is null in a dry run, which hashes nothing.

    `forms` are the formats of several, each with a name of its own.
    """

    reference: str
    digest: str | None
    format: str
    size: int
    model: FactsDocument
    parts: tuple[PackedPartDocument, ...]
    settings: dict[str, Any]
    annotations: dict[str, str]
    forms: tuple[FormDocument, ...] = ()


class VariantDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What an index names: a manifest, with the platform it is for, if any, and the bytes of its blobs."""

    format: str
    platform: str | None
    digest: str
    size: int | None
    media_type: str
    artifact_type: str | None


class NeedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What a model needs on this machine: `fits` is whole, partly (on devices), no or unknown.

    `total_bytes` is for a context of `context` tokens, `weights_bytes` of it weights; `max_context` is the longest that
    would fit, null where none does. `free_bytes` is what the machine's memory has left.
    """

    fits: str
    context: int | None
    max_context: int | None
    total_bytes: int | None
    weights_bytes: int
    free_bytes: int | None


class ModelDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A model: `inspect` prints one, `list` an array. `digest` is the manifest's or index's, null for a bare file.

    `own_size` counts blobs that no other named model of the store has, `shared_size` the others, both null outside it;
    `settings` is how its packager wants it served, `command` the arguments for llama-server that say it. `variants` are what an index names; `tags` those of a repository
    that was named without one. `broken` says why the model cannot be read; `partly_read` are compressed layers
    outside the store that were looked at only in part. `fit` tells what it needs here, where `inspect` knows it.
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
    shared_size: int | None = None
    settings: dict[str, Any] = {}
    command: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    variants: tuple[VariantDocument, ...] = ()
    tags: tuple[str, ...] | None = None
    source: str | None = None
    pulled: str | None = None
    broken: str | None = None
    partly_read: tuple[str, ...] = ()
    fit: NeedDocument | None = None


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
    """A pushed model: where it is now, the bytes of all and of what was sent.

    `forms` are the formats asked for, none where it went as it is.
    """

    reference: str
    digest: str
    size: int
    new_bytes: int
    forms: tuple[FormDocument, ...] = ()


class CopyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A copied model: where it was, where it is now, the bytes of all and of what was sent.

    `forms` are the formats asked for, none where it went as it is.
    """

    source: str
    reference: str
    digest: str
    size: int
    new_bytes: int
    forms: tuple[FormDocument, ...] = ()


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


class FindingDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Something that `lint` found: `level` is error, warning or note, `rule` is `invalid` for an error.

    Lines and columns count from 1, columns in characters; the end is the first one after.
    """

    rule: str
    level: str
    message: str
    hint: str
    line: int
    column: int
    end_line: int
    end_column: int


class LintDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `lint` prints; `failed` says that the recipe cannot be built, or wants its warnings to be errors."""

    file: str
    findings: tuple[FindingDocument, ...]
    failed: bool


class BuildDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `build` prints; `digest` is null in a dry run. `steps` count what makes files, `seconds` the whole build.

    `forms` are its formats; of several each has a name of its own.
    """

    references: tuple[str, ...]
    digest: str | None
    format: str
    size: int
    steps: int
    cached: int
    seconds: float
    forms: tuple[FormDocument, ...]


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
        forms=_form_documents(result.forms),
    )


def copy_document(result: Delivered) -> CopyDocument:
    """Write what was copied."""
    return CopyDocument(
        source=result.source,
        reference=result.destination,
        digest=str(result.digest),
        size=result.total_bytes,
        new_bytes=result.new_bytes,
        forms=_form_documents(result.forms),
    )


def build_document(result: Built) -> BuildDocument:
    """Return a built model as a document."""
    return BuildDocument(
        references=result.names,
        digest=None if result.digest is None else str(result.digest),
        format=result.format,
        size=result.size,
        steps=result.steps,
        cached=result.cached,
        seconds=round(result.seconds, 3),
        forms=_form_documents(result.forms),
    )


def _form_documents(forms: Iterable[DeliveredForm]) -> tuple[FormDocument, ...]:
    return tuple(
        FormDocument(format=form.format, reference=form.destination, digest=str(form.digest)) for form in forms
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
        size=part.size,
        digest=None if part.digest is None else str(part.digest),
        media_type=part.blob.media_type,
        layer=str(part.blob.digest) if part.member else None,
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
        settings=dict(model.facts.settings),
        command=model.facts.command,
        annotations=dict(model.facts.annotations),
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
        settings=dict(result.facts.settings),
        annotations=dict(result.facts.annotations),
        forms=_form_documents(result.forms),
    )
