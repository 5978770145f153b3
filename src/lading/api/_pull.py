"""Pull: copy a model from where it is into the store, verified."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lading import artifact, copy, media
from lading import reference as refs
from lading.api._selection import ANY, from_document
from lading.api.clock import now
from lading.api.lookup import local, parse, remote, stored_name, telling_guess, with_quant
from lading.api.results import Pulled
from lading.artifact.layers import LOOK, Listing, list_archives
from lading.artifact.unpack import list_stored, read_stored
from lading.errors import FormatError, IntegrityError, NotFoundError, StoppedError
from lading.manifest import MAX_DOCUMENT, Index, Manifest
from lading.plan import make_plan
from lading.store.views import safe_parts
from lading.text import size
from lading.transport import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from lading.api._selection import Selection
    from lading.api.session import Session
    from lading.artifact.layers import Archive
    from lading.content import Source
    from lading.manifest import Descriptor, Document
    from lading.model import Model
    from lading.pace import Pace
    from lading.plan import Plan
    from lading.reference import Reference
    from lading.store import Store, Tag


@dataclass(frozen=True, slots=True)
class Way:
    """How to fetch: files at a time, a limit of speed that several pulls may share, whether to take up what was left."""

    parallel: int = copy.PARALLEL
    pace: Pace | None = None
    resume: bool = True


ORDINARY = Way()


def pull(
    session: Session, text: str, *, name: str | None = None, way: Way = ORDINARY, selection: Selection = ANY
) -> Pulled:
    """Fetch what a reference names, unless it is all here, and name it in the store.

    `name` is the name to give; None gives the one that follows from the reference. `way` says how to fetch,
    `selection` which of several variants; of those that it leaves open the best that fits this machine is taken, and said.
    What is to be fetched is read and understood before the first byte of weights is. Offline, a model of the store that is
    whole is up to date. Raises the errors of the source, UnfitError where no variant fits, IntegrityError for bytes that
    are not as promised, NoSpaceError before fetching what cannot fit, StoppedError, telling what is kept, after Ctrl-C.
    """
    text = with_quant(text, selection.quant)
    open_to_all = not (selection.platform or selection.quant)
    if (session.offline or session.config.offline) and open_to_all and (kept := _kept(session, text, name)):
        return kept
    reference = remote(session, text)
    local_name = name or stored_name(parse(text)) or stored_name(reference)
    match reference:
        case refs.Url():
            from lading.api._pull_file import pull_file  # noqa: PLC0415 - each kind of place loads its own needs

            return pull_file(session, reference, local_name or reference.stored, way=way, selection=selection)
        case refs.Hub():
            from lading.api._pull_hub import pull_hub  # noqa: PLC0415 - as above

            return pull_hub(session, reference, local_name or reference.stored, way=way, selection=selection)
        case _:
            with telling_guess(text, reference):
                return _pull_artifact(session, reference, local_name, way=way, selection=selection)


def _kept(session: Session, text: str, name: str | None) -> Pulled | None:
    """Return what the store holds whole of what came over the network; None leaves it to the place it came from."""
    tag = local(session, name or text)
    if tag is None or (name and tag.reference != str(remote(session, text))):
        return None
    # What came from this machine can be asked for offline too.
    if tag.reference and isinstance(refs.parse(tag.reference), refs.Layout | refs.Archive | refs.File):
        return None
    try:
        return _whole(session, tag)
    except (IntegrityError, NotFoundError):
        return None


def _whole(session: Session, tag: Tag) -> Pulled | None:
    """Return what a name of the store stands for, if that is one model and all of it is here."""
    manifest = session.store.document(tag.name)
    if not isinstance(manifest, Manifest):
        return None
    plan = make_plan(manifest, session.store.has)
    if plan.missing:
        return None
    row = artifact.detect(manifest, tag.name)
    return Pulled(tag.name, manifest.digest, row.name, plan.total_bytes + len(manifest.raw), 0, up_to_date=True)


def _chosen_before(session: Session, reference: Reference, name: str, index: Document) -> Pulled | None:
    """Return what was chosen from this very index the last time, where it is here: to choose again costs requests."""
    tag = session.store.find(name)
    if tag is None or tag.reference != str(reference) or tag.descriptor.annotations.get(media.INDEX) != index.digest:
        return None
    return _whole(session, tag)


def _pull_artifact(
    session: Session, reference: Reference, name: str | None, *, way: Way, selection: Selection
) -> Pulled:
    source, wanted = open_source(
        reference, session.config, lambda: session.client, insecure=session.insecure, reporter=session.reporter
    )
    document = source.document(wanted)
    choice = {media.INDEX: document.digest} if isinstance(document, Index) and selection == ANY else {}
    if choice and (present := _chosen_before(session, reference, name or wanted, document)):
        return present
    manifest = from_document(session, source, document, str(reference), selection)
    row = artifact.detect(manifest, str(reference))
    with session.store.lease([manifest.digest, *(blob.digest for blob in manifest.blobs)]):
        model = _understand(session, manifest, source, row)
        if model is not None:
            selection.refuse_unfit(session, str(reference), model.facts, model.parts)
        plan = make_plan(manifest, session.store.has)
        return fetch(
            session,
            plan,
            source,
            name=name or wanted,
            format_name=row.name,
            annotations={**origin(reference, manifest), **choice},
            way=way,
            check=lambda: _require_names(read_stored(row, manifest, session.store)),
        )


def fetch(
    session: Session,
    plan: Plan,
    source: Source,
    *,
    name: str,
    format_name: str,
    annotations: dict[str, str],
    way: Way,
    check: Callable[[], None] = lambda: None,
) -> Pulled:
    """Fetch what a plan lacks and give its manifest a name; the blobs are leased by the caller.

    `check` may raise, once all bytes are here and before the name is given.
    """
    manifest = plan.root
    if not way.resume:
        for blob in plan.missing:
            session.store.blobs.forget_part(blob.digest)
    session.store.require_room(plan.missing)
    before = session.store.find(name)
    with telling_what_is_kept(session.store, plan.missing):
        copied = copy.run(plan, source, session.store, None, session.reporter, parallel=way.parallel, pace=way.pace)
    if plan.missing:
        check()
    replaced = before.descriptor.digest if before and before.descriptor.digest != manifest.digest else None
    unchanged = before is not None and replaced is None and not copied.moved_bytes
    if not unchanged:
        session.store.tag(name, manifest, annotations)
    return Pulled(
        name=name,
        digest=manifest.digest,
        format=format_name,
        total_bytes=copied.total_bytes,
        new_bytes=copied.moved_bytes,
        up_to_date=unchanged,
        replaced=replaced,
    )


def origin(reference: Reference, document: Document) -> dict[str, str]:
    """Return the annotations of a name in the store: the reference it was pulled by, the exact source, the time."""
    match reference:
        case refs.Oci():
            exact = f"oci://{refs.with_digest(reference, document.digest)}"
        case refs.Layout() | refs.Archive():
            # `verify --repair` may be run from another folder.
            exact = str(replace(reference, path=str(Path(reference.path).expanduser().absolute())))
        case _:
            exact = str(reference)
    return {media.REFERENCE: str(reference), media.SOURCE: exact, media.PULLED: now()}


def _understand(session: Session, manifest: Manifest, source: Source, row: artifact.Format) -> Model | None:
    # A config that makes no sense, or a file name that leads elsewhere, is refused before gigabytes are fetched. Of
    # compressed layers that are not here the beginning is looked at.
    if manifest.config.size > MAX_DOCUMENT:
        msg = f"the config of {manifest.digest.short} has {manifest.config.size} bytes; 4 MiB are the most"
        raise IntegrityError(msg, hint="the artifact is malformed")
    if not session.store.has(manifest.config):
        session.store.put_blob(manifest.config, source, lambda _done: None)
    config = session.store.read(manifest.config)
    here: list[Archive] = []
    away: list[Archive] = []
    for archive in row.archives(manifest, config):
        (here if session.store.has(archive.blob) else away).append(archive)
    stored, seen = list_stored(here, session.store), list_archives(away, source, within=LOOK)
    try:
        model = row.read(manifest, config, Listing({**stored.entries, **seen.entries}))
    except FormatError:
        # What is wrong may be that the rest was not seen; before a name is given, all of it will be.
        if not seen.cut:
            raise
        return None
    _require_names(model)
    return model


def _require_names(model: Model) -> None:
    for part in model.parts:
        safe_parts(part.name)


@contextmanager
def telling_what_is_kept(store: Store, blobs: Collection[Descriptor]) -> Iterator[None]:
    """Say in the StoppedError that ends the block how much of these blobs the next run need not fetch."""
    try:
        yield
    except (KeyboardInterrupt, StoppedError) as stop:
        kept = sum(store.received(blob) for blob in blobs)
        how = "resumes" if kept else "begins anew"
        msg = f"interrupted: {size(kept)} of {size(sum(blob.size for blob in blobs))} kept; the same command {how}"
        number = stop.signal_number if isinstance(stop, StoppedError) else signal.SIGINT
        raise StoppedError(msg, signal_number=number) from None
