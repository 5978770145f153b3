"""Inspect: what a model is, from the store, a file or a remote place, without fetching its weights."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from lading import artifact
from lading import reference as refs
from lading.api._anatomy import remote_place, stored_place, variants
from lading.api._fitting import candidate_of
from lading.api._machine import machine_here
from lading.api.catalog import bytes_of, index_format
from lading.api.documents import ModelDocument, NeedDocument, PartDocument, facts_document, model_document
from lading.api.lookup import local, parse, remote, telling_guess
from lading.api.results import Inspection
from lading.artifact.contents import part_ranges, read_part
from lading.artifact.layers import LOOK
from lading.convert.found import read_small
from lading.errors import FormatError, NotFoundError
from lading.facts import HeaderFile, gguf_facts, read_facts
from lading.fit import weigh
from lading.manifest import Index
from lading.model import Model, ModelFacts, Role
from lading.package import open_draft
from lading.plan import parse_platform, single_manifest
from lading.ranges import BytesRanges
from lading.text import size, told
from lading.transport.tags import in_order

if TYPE_CHECKING:
    from lading.api._anatomy import Place
    from lading.api.session import Session
    from lading.artifact.layers import Listing
    from lading.manifest import Manifest, Platform
    from lading.transport.mirrors import Tagged

_TEMPLATE_LIMIT = 1024 * 1024


def inspect(session: Session, text: str, *, platform: str | None = None) -> Inspection:
    """Describe a local tag, a file or folder, or a remote model, whose headers are read by ranges.

    `platform` says which of several images. Raises NotFoundError, NetworkError and so on of the place, FormatError for
    what is no model.
    """
    found = _looked_at(session, text, parse_platform(platform) if platform else None)
    fit = _fit(session, found)
    return replace(found, document=msgspec.structs.replace(found.document, fit=fit)) if fit else found


def _fit(session: Session, found: Inspection) -> NeedDocument | None:
    """Hold a model of llama.cpp's against this machine; None where nothing is known of its memory."""
    projectors = [part.size for part in found.document.parts if part.role == Role.PROJECTOR.value]
    candidate = candidate_of(found.document.reference, found.facts, next(iter(projectors), None))
    if candidate is None or found.facts.format != "gguf":
        return None
    machine = machine_here(session)
    try:
        row = weigh(candidate, machine)
    except FormatError:
        return None  # a header that contradicts itself is shown as far as it can be read
    known = row.found.known
    return NeedDocument(
        fits=row.fits.value,
        context=row.found.context if known else None,
        max_context=row.max_context,
        total_bytes=row.total if known else None,
        weights_bytes=row.weights,
        free_bytes=machine.memory if machine.available is None else machine.available,
    )


def _looked_at(session: Session, text: str, platform: Platform | None) -> Inspection:
    reference = parse(text)
    if isinstance(reference, refs.File):
        return _inspect_file(Path(reference.path).expanduser())
    if tag := local(session, text):
        found = _inspect_artifact(stored_place(session, tag.name), platform)
        own, shared = bytes_of(session, tag)
        source = tag.source and told(tag.source)
        document = msgspec.structs.replace(
            found.document, stored=True, own_size=own, shared_size=shared, source=source, pulled=tag.pulled
        )
        return replace(found, document=document)
    place = remote(session, text)
    if isinstance(place, refs.Url):
        found = _inspect_url(session, place)
    elif isinstance(place, refs.Hub):
        found = _inspect_hub(session, place)
    else:
        with telling_guess(text, place):
            asked = remote_place(session, place)
            bare = isinstance(place, refs.Oci) and place.tag is place.digest is None
            found = _inspect_repository(asked, platform) if bare else _inspect_artifact(asked, platform)
    if isinstance(place, refs.Layout | refs.Archive):
        return found
    return replace(found, requests=session.client.requests, bytes_read=session.client.bytes_read)


def _inspect_repository(place: Place, platform: Platform | None) -> Inspection:
    """Describe a repository: its tags, and its `latest` if it has one."""
    registry = cast("Tagged", place.source)
    try:
        found = _inspect_artifact(place, platform)
    except NotFoundError:
        tags = registry.tags()
        if not tags:
            msg = f"{place.shown} has no tags"
            raise NotFoundError(msg, hint="a manifest can be named by its digest") from None
        found = _bare(place.shown, ModelFacts(format="repository"), ())
    else:
        tags = registry.tags()
    return replace(found, document=msgspec.structs.replace(found.document, tags=tuple(in_order(tags))))


def _inspect_artifact(place: Place, platform: Platform | None) -> Inspection:
    document = place.document
    if not isinstance(document, Index):
        return _inspect_manifest(place, document)
    # Without one that stands for all, an index is what it names.
    listed = variants(place.source, document)
    try:
        one = single_manifest(document, place.source.document, place.shown, platform)
        found = _inspect_manifest(place, one)
    except FormatError:
        found = _bare(place.shown, ModelFacts(), ())
    told = msgspec.structs.replace(
        found.document,
        digest=str(document.digest),
        format=index_format(document),
        media_type=document.media_type,
        variants=listed,
    )
    return replace(found, document=told)


def _inspect_manifest(place: Place, manifest: Manifest) -> Inspection:
    source = place.source
    row = artifact.detect(manifest, place.shown)
    config = read_small(manifest.config, source)
    # What lies here is looked at itself; elsewhere an image's own word spares all its layers.
    seen = row.glance(manifest, config) if row.glance and place.stored is None else None
    if seen is not None and seen.header is not None:
        facts = merged(gguf_facts([seen.header], BytesRanges(b"", place.shown)), seen.model.facts)
        model = Model(seen.model.parts, facts)
        document = model_document(place.shown, manifest.digest, row.name, manifest.media_type, model, stored=False)
        return Inspection(document, facts)
    listing = place.look(row.archives(manifest, config))
    said = _read(row, manifest, config, listing)
    facts = read_facts([HeaderFile(part.role, part.name, partial(part_ranges, part, source)) for part in said.parts])
    template = next(iter(said.of(Role.TEMPLATE)), None)
    own = None
    if template is not None and template.size <= _TEMPLATE_LIMIT:
        own = read_part(template, source, _TEMPLATE_LIMIT).decode("utf-8", "replace")
    model = Model(said.parts, merged(facts, said.facts))
    document = model_document(place.shown, manifest.digest, row.name, manifest.media_type, model, stored=False)
    cut = tuple(str(archive.blob.digest) for archive in listing.cut)
    return Inspection(msgspec.structs.replace(document, partly_read=cut), model.facts, own)


def _read(row: artifact.Format, manifest: Manifest, config: bytes, listing: Listing) -> Model:
    try:
        return row.read(manifest, config, listing)
    except FormatError as error:
        if not listing.cut:
            raise
        msg = f"{error.message}, as far as the first {size(LOOK)} of its compressed layers show"
        raise FormatError(msg, hint="`lading pull` looks at all of it") from error


def merged(headers: ModelFacts, config: ModelFacts) -> ModelFacts:
    """Return what the weights' headers say of their make, and else what the artifact says, whose packager knew both."""
    return replace(
        headers,
        name=config.name or headers.name,
        architecture=headers.architecture or config.architecture,
        context_length=headers.context_length or config.context_length,
        licence=config.licence or headers.licence,
        vendor=config.vendor or headers.vendor,
        description=config.description or headers.description,
        settings=config.settings,
        command=config.command,
        annotations=config.annotations,
    )


def _inspect_file(path: Path) -> Inspection:
    with ExitStack() as stack:
        draft = open_draft(path, stack)
        parts = tuple(
            PartDocument(role=role.value, name=name, size=origin.before.st_size) for role, name, origin in draft.files
        )
        return _bare(str(path), draft.facts, parts)


def _inspect_url(session: Session, reference: refs.Url) -> Inspection:
    from lading.transport.web import look  # noqa: PLC0415 - HTTP is loaded only by those who speak it

    file = look(reference.url, session.client, insecure=session.insecure)
    facts = read_facts([HeaderFile(Role.WEIGHTS, file.name, file.ranges)])
    part = PartDocument(role=Role.WEIGHTS.value, name=file.name, size=file.size)
    return _bare(told(reference.url), facts, (part,))


def _bare(reference: str, facts: ModelFacts, parts: tuple[PartDocument, ...]) -> Inspection:
    document = ModelDocument(
        reference=reference,
        digest=None,
        format=facts.format,
        media_type=None,
        size=sum(part.size for part in parts),
        model=facts_document(facts),
        parts=parts,
        stored=False,
    )
    return Inspection(document, facts)


def _inspect_hub(session: Session, reference: refs.Hub) -> Inspection:
    from lading.api._selection import shown_of_hub  # noqa: PLC0415 - needed for hubs only
    from lading.transport import open_hub  # noqa: PLC0415 - as above
    from lading.transport.listing import ListedSource  # noqa: PLC0415 - as above

    hub = open_hub(reference, session.config, session.client, insecure=session.insecure)
    listing = hub.listing()
    choice = shown_of_hub(session, reference, listing)
    source = ListedSource(hub, session.client, listing, choice.names)
    facts = read_facts(
        [HeaderFile(choice.role(file.path), file.path, partial(source.look, file)) for file in source.files]
    )
    parts = tuple(
        PartDocument(role=choice.role(file.path).value, name=file.path, size=file.size, digest=file.digest)
        for file in source.files
    )
    return _bare(listing.source, facts, parts)
