"""Inspect: what a model is, from the store, a file or a remote place, without fetching its weights."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from lading import artifact
from lading import reference as refs
from lading.api.documents import ModelDocument, PartDocument, facts_document, model_document
from lading.api.lookup import local, parse, remote
from lading.api.results import Inspection
from lading.errors import FormatError, NotFoundError
from lading.facts import HeaderFile, read_facts
from lading.manifest import MAX_DOCUMENT
from lading.model import Model, ModelFacts, Role
from lading.package import open_draft
from lading.plan import single_manifest
from lading.transport import open_source

if TYPE_CHECKING:
    from lading.api.session import Session
    from lading.content import Source
    from lading.manifest import Descriptor
    from lading.transport.mirrors import Tagged

_TEMPLATE_LIMIT = 1024 * 1024


def inspect(session: Session, text: str) -> Inspection:
    """Describe a local tag, a file or folder, or a remote model, whose headers are read by ranges.

    Raises NotFoundError, NetworkError and so on of the place, FormatError for what is no model.
    """
    reference = parse(text)
    if isinstance(reference, refs.File):
        return _inspect_file(Path(reference.path).expanduser())
    if tag := local(session, text):
        found = _inspect_artifact(session.store, tag.name, tag.name, stored=True)
        return replace(found, document=msgspec.structs.replace(found.document, source=tag.source, pulled=tag.pulled))
    place = remote(session, text)
    if isinstance(place, refs.Url):
        found = _inspect_url(session, place)
    elif isinstance(place, refs.Hub):
        found = _inspect_hub(session, place)
    else:
        source, wanted = open_source(
            place, session.config, lambda: session.client, insecure=session.insecure, reporter=session.reporter
        )
        try:
            found = _inspect_artifact(source, wanted, str(place), stored=False)
        except NotFoundError:
            if isinstance(place, refs.Oci) and place.tag is place.digest is None:
                raise _without_latest(cast("Tagged", source), place) from None
            raise
    if isinstance(place, refs.Layout | refs.Archive):
        return found
    return replace(found, requests=session.client.requests, bytes_read=session.client.bytes_read)


def _inspect_artifact(source: Source, wanted: str, shown: str, *, stored: bool) -> Inspection:
    manifest = single_manifest(source.document(wanted), source.document, shown)
    row = artifact.detect(manifest, shown)
    said = row.read(manifest, read_small(source, manifest.config, MAX_DOCUMENT))
    facts = read_facts([HeaderFile(part.role, part.name, partial(source.ranges, part.blob)) for part in said.parts])
    template = next(iter(said.of(Role.TEMPLATE)), None)
    own = None
    if template is not None and template.blob.size <= _TEMPLATE_LIMIT:
        own = read_small(source, template.blob, _TEMPLATE_LIMIT).decode("utf-8", "replace")
    model = Model(said.parts, merged(facts, said.facts))
    document = model_document(shown, manifest.digest, row.name, manifest.media_type, model, stored=stored)
    return Inspection(document, model.facts, own)


def merged(headers: ModelFacts, config: ModelFacts) -> ModelFacts:
    """Return what the weights' headers say, and where they say nothing, what the artifact's config says."""
    return replace(
        headers,
        name=headers.name or config.name,
        architecture=headers.architecture or config.architecture,
        context_length=headers.context_length or config.context_length,
        licence=headers.licence or config.licence,
        vendor=headers.vendor or config.vendor,
        description=headers.description or config.description,
    )


def read_small(source: Source, blob: Descriptor, limit: int) -> bytes:
    """Return a small blob whole and verified; raises FormatError above `limit` bytes."""
    if blob.size > limit:
        msg = f"blob {blob.digest.short} has {blob.size} bytes where at most {limit} are expected"
        raise FormatError(msg, hint="it is not what its media type says")
    with closing(source.open(blob)) as reader:
        return b"".join(iter(lambda: reader.read(limit) or b"", b""))


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
    return _bare(str(reference), facts, (PartDocument(role=Role.WEIGHTS.value, name=file.name, size=file.size),))


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
    from lading.api._pull_hub import chosen  # noqa: PLC0415 - needed for hubs only
    from lading.transport import open_hub  # noqa: PLC0415 - as above
    from lading.transport.listing import ListedSource  # noqa: PLC0415 - as above

    hub = open_hub(reference, session.config, session.client, insecure=session.insecure)
    listing = hub.listing()
    choice = chosen(session, reference, listing)
    source = ListedSource(hub, session.client, listing, choice.names)
    facts = read_facts(
        [HeaderFile(choice.role(file.path), file.path, partial(source.look, file)) for file in source.files]
    )
    parts = tuple(
        PartDocument(role=choice.role(file.path).value, name=file.path, size=file.size, digest=file.digest)
        for file in source.files
    )
    return _bare(listing.source, facts, parts)


def _without_latest(registry: Tagged, place: refs.Oci) -> NotFoundError:
    tags = registry.tags()
    name = f"{place.host}/{place.repository}"
    if not tags:
        return NotFoundError(f"{name} has no tags", hint="a manifest can be named by its digest")
    return NotFoundError(f"{name} has no tag `latest`; it has {', '.join(tags)}", hint=f"name one: {name}:{tags[0]}")
