"""Pull from a hub: a repository's files, chosen and checked, become a ModelPack that any machine writes alike."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lading import artifact, media
from lading.api._pull import fetch
from lading.api._selection import ANY, from_hub, others_of_hub
from lading.api.clock import now
from lading.api.results import Pulled
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError, NotFoundError
from lading.events import Noted
from lading.facts import HeaderFile, read_facts
from lading.manifest import Manifest
from lading.model import Model
from lading.plan import make_plan
from lading.transport import open_hub
from lading.transport.choice import choose, label
from lading.transport.listing import ListedSource, annotated, parts_of

if TYPE_CHECKING:
    from lading.api._pull import Way
    from lading.api._selection import Selection
    from lading.api.session import Session
    from lading.content import RangeReader
    from lading.manifest import Descriptor
    from lading.model import ModelFacts, Part
    from lading.reference import Hub
    from lading.store import Tag
    from lading.transport.choice import Choice
    from lading.transport.listing import ListedFile, Listing

_FORMAT = "modelpack"


def pull_hub(session: Session, reference: Hub, name: str, *, way: Way, selection: Selection = ANY) -> Pulled:
    """Fetch the files of a hub's repository that make the model asked for, and name it in the store.

    What is up to date costs the questions for the commit and its list of files. Small files, whose sha256 the hub does
    not tell, are read first; objects that are here already, from wherever they came, are not fetched.
    """
    store = session.store
    hub = open_hub(reference, session.config, session.client, insecure=session.insecure)
    listing = hub.listing()
    present = _present(session, reference, name, listing)
    if present is not None:
        return present
    choice = from_hub(session, reference, listing, selection, _taken_before(session, reference, name))
    source = ListedSource(hub, session.client, listing, choice.names)
    row = artifact.named(_FORMAT)
    with store.lease(source.digests.values()) as lease:

        def keep(_file: ListedFile, data: bytes) -> None:
            lease.add([Digest.of(data)])
            store.put_bytes(data)

        source.settle(keep)
        parts = parts_of(source, choice.role)

        def ranges(blob: Descriptor) -> RangeReader:
            return store.ranges(blob) if store.has(blob) else source.ranges(blob)

        def facts() -> ModelFacts:
            return read_facts([HeaderFile(part.role, part.name, partial(ranges, part.blob)) for part in parts])

        said = facts()
        selection.refuse_unfit(session, name, said, parts, lambda: others_of_hub(session, reference, listing))
        manifest = _written(session, row, parts, said, listing)
        lease.add([manifest.config.digest, manifest.digest])
        annotations = {media.REFERENCE: str(reference), media.SOURCE: listing.source, media.PULLED: now()}

        def check() -> None:
            # The manifest was written from what the hub said before its bytes were verified.
            if facts() != said:
                msg = f"{listing.source} showed another header before its weights were fetched than they have"
                raise IntegrityError(msg, hint="the hub or a proxy in between is not to be trusted; nothing was named")

        plan = make_plan(manifest, store.has)
        return fetch(
            session,
            plan,
            source,
            name=name,
            format_name=row.name,
            annotations=annotations,
            way=way,
            check=check,
        )


def chosen(session: Session, reference: Hub, listing: Listing) -> Choice:
    """Choose the files of a model and tell the user of what was not asked for in so many words."""
    choice = choose(listing.names, reference.select, listing.source.partition("@")[0])
    for text in choice.told:
        session.reporter.emit(Noted(text))
    return choice


def _taken_before(session: Session, reference: Hub, name: str) -> str:
    """Return the quantization that was chosen when this reference was pulled the last time, "" if it was not."""
    tag = session.store.find(name)
    if tag is None or tag.reference != str(reference):
        return ""
    manifest = _manifest(session, tag)
    layers = manifest.layers if manifest else ()
    paths = (layer.annotations.get(media.FILE_PATH, "") for layer in layers)
    return next((label(path) for path in paths if path.lower().endswith(".gguf") and label(path)), "")


def _manifest(session: Session, tag: Tag) -> Manifest | None:
    """Return the manifest of a name; None where it was lost or damaged, and is to be written anew."""
    try:
        document = session.store.document(tag.name)
    except (IntegrityError, NotFoundError, FormatError):
        return None
    return document if isinstance(document, Manifest) else None


def _present(session: Session, reference: Hub, name: str, listing: Listing) -> Pulled | None:
    tag = session.store.find(name)
    if tag is None or tag.source != listing.source or tag.reference != str(reference):
        return None
    manifest = _manifest(session, tag)
    if manifest is None:
        return None
    plan = make_plan(manifest, session.store.has)
    if plan.missing:
        return None
    total = plan.total_bytes + len(manifest.raw)
    return Pulled(tag.name, manifest.digest, _FORMAT, total, 0, up_to_date=True)


def _written(
    session: Session, row: artifact.Format, parts: tuple[Part, ...], facts: ModelFacts, listing: Listing
) -> Manifest:
    written = row.write(Model(parts, facts), None)
    session.store.put_bytes(written.config)
    return annotated(written.manifest, listing)
