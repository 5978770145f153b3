"""Copy: from any source to any registry, layout or archive, in the same formats or others, past the disk."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lading import artifact
from lading import copy as mover
from lading import reference as refs
from lading.api._deliver import Origin, Wish, deliver, destination, of_store
from lading.api.lookup import parse, remote, stored_name, telling_guess
from lading.errors import UsageError
from lading.events import Advanced, Noted, Skipped, Started
from lading.facts import HeaderFile, read_facts
from lading.model import Model, Part
from lading.plan import inner_documents, make_plan
from lading.transport import open_source

if TYPE_CHECKING:
    from lading.api._pull import Way
    from lading.api.results import Delivered
    from lading.api.session import Session
    from lading.convert import Overlay
    from lading.fs import Origin as File
    from lading.manifest import Manifest
    from lading.model import Role
    from lading.reference import Reference
    from lading.transport.listing import ListedFile

_FORMAT = "modelpack"
_ROOM = 16 * 1024 * 1024
"""Bytes of a hub's small files that are held until they are sent; what is more is read twice."""


def copy(
    session: Session,
    source: str,
    place: str,
    wish: Wish | None = None,
    *,
    quant: str | None = None,
    keep: bool = False,
    way: Way | None = None,
) -> Delivered:
    """Write the model that `source` names to `place`: as it is, or as `wish` says.

    Files and hubs, which have no manifest, become a ModelPack if nothing else is wished. Every byte is verified on its
    way and none is written to disk here, unless `keep` names the model in the store first. `quant` is what to take of a
    hub's repository. Raises the errors of both ends; then `place` has no such model.
    """
    from lading.api._pull import ORDINARY  # noqa: PLC0415 - loaded with the sources

    way = way or ORDINARY
    target = destination(place)
    with ExitStack() as stack:
        origin = _origin(session, source, target, stack, quant=quant, keep=keep, way=way)
        if origin.source is session.store:
            stack.enter_context(session.store.use(blob.digest for blob in session.store.reach(origin.document)))
        return deliver(session, origin, target, wish or Wish(), parallel=way.parallel, pace=way.pace)


def _origin(
    session: Session, text: str, place: Reference, stack: ExitStack, *, quant: str | None, keep: bool, way: Way
) -> Origin:
    named = parse(text)
    if isinstance(named, refs.Name) and (tag := session.store.find(named.name)):
        if quant:
            raise _no_choice(tag.name)
        return of_store(session, tag.name, place)
    reference = remote(session, text) if isinstance(named, refs.Name) else named
    if quant:
        if not isinstance(reference, refs.Hub):
            raise _no_choice(str(reference))
        if reference.select not in (None, quant):
            msg = f"{reference} names `{reference.select}`, and --quant `{quant}`"
            raise UsageError(msg, hint="say it once")
        reference = replace(reference, select=quant)
    match reference:
        case refs.File(path):
            if keep:
                msg = f"{path} is a file, which --keep does not bring into the store"
                raise UsageError(msg, hint="`lading pack` does; then copy the model by its name")
            return _of_files(session, Path(path).expanduser(), stack)
        case refs.Hub():
            return _kept(session, reference, place, way) if keep else _of_hub(session, reference)
        case refs.Url():
            return _of_url(session, reference, place, way, keep=keep)
        case _:
            with telling_guess(text, reference):
                return _of_artifact(session, reference, place, stack, way, keep=keep)


def _repositories(reference: Reference) -> tuple[refs.Oci, ...]:
    """Return the repository whose blobs a registry can mount elsewhere, whichever dialect it was named in."""
    match reference:
        case refs.Oci():
            return (reference,)
        case refs.Ollama(name, tag, namespace, host):
            return (refs.Oci(host, f"{namespace}/{name}", tag),)
        case _:
            return ()


def _of_artifact(
    session: Session, reference: Reference, place: Reference, stack: ExitStack, way: Way, *, keep: bool
) -> Origin:
    source, wanted = open_source(
        reference, session.config, lambda: session.client, insecure=session.insecure, reporter=session.reporter
    )
    document = source.document(wanted)
    near = _repositories(reference)
    if not keep:
        return Origin(str(reference), source, document, near)
    from lading.api._pull import origin, telling_what_is_kept  # noqa: PLC0415 - as above

    inner = inner_documents(document, source.document, str(reference))
    store = session.store
    lease = stack.enter_context(store.lease([document.digest, *(one.digest for one in inner)]))
    plan = make_plan(document, store.has, inner)
    lease.add(blob.digest for blob in (*plan.missing, *plan.present))
    store.require_room(plan.missing)
    with telling_what_is_kept(store, plan.missing):
        mover.run(plan, source, store, None, session.reporter, parallel=way.parallel, pace=way.pace)
    name = stored_name(reference) or wanted
    store.tag(name, document, origin(reference, document))
    return replace(of_store(session, name, place), near=near)


def _kept(session: Session, reference: Reference, place: Reference, way: Way) -> Origin:
    from lading.api._pull import pull  # noqa: PLC0415 - as above
    from lading.api._selection import Selection  # noqa: PLC0415 - as above

    # What goes elsewhere must not depend on the machine that it passes through.
    pulled = pull(session, str(reference), way=way, selection=Selection(fit=False))
    return of_store(session, pulled.name, place)


def _of_hub(session: Session, reference: refs.Hub) -> Origin:
    from lading.api._pull_hub import chosen  # noqa: PLC0415 - needed for hubs only
    from lading.convert import Overlay  # noqa: PLC0415 - as above
    from lading.convert.witness import Witness  # noqa: PLC0415 - as above
    from lading.transport import open_hub  # noqa: PLC0415 - as above
    from lading.transport.listing import ListedSource, annotated, parts_of  # noqa: PLC0415 - as above

    hub = open_hub(reference, session.config, session.client, insecure=session.insecure)
    listing = hub.listing()
    choice = chosen(session, reference, listing)
    files = ListedSource(hub, session.client, listing, choice.names)
    # What headers said before their bytes were verified is held to them when they come.
    overlay = Overlay(Witness(files))

    def hold(_file: ListedFile, data: bytes) -> None:
        overlay.write(data)

    files.settle(hold, room=_ROOM)
    manifest = annotated(_written(overlay, parts_of(files, choice.role)), listing)
    return Origin(str(reference), overlay, manifest)


def _of_url(session: Session, reference: refs.Url, place: Reference, way: Way, *, keep: bool) -> Origin:
    from lading.convert import Overlay  # noqa: PLC0415 - as above
    from lading.convert.witness import Witness  # noqa: PLC0415 - as above
    from lading.manifest import Descriptor  # noqa: PLC0415 - as above
    from lading.model import Role, role_of  # noqa: PLC0415 - as above
    from lading.transport.web import WebSource, look  # noqa: PLC0415 - needed for URLs only

    file = look(reference.url, session.client, insecure=session.insecure)
    if keep or file.digest is None or role_of(file.name) is not Role.WEIGHTS:
        if not keep and file.digest is None:
            text = f"{file.name} comes by way of the store: its server does not tell its digest"
            session.reporter.emit(Noted(text))
        return _kept(session, reference, place, way)
    blob = Descriptor(media_type="application/octet-stream", digest=file.digest, size=file.size)
    overlay = Overlay(Witness(WebSource(file)))
    return Origin(str(reference), overlay, _written(overlay, (Part(Role.WEIGHTS, file.name, blob),)))


def _of_files(session: Session, path: Path, stack: ExitStack) -> Origin:
    from lading.convert import Overlay  # noqa: PLC0415 - as above
    from lading.package import open_draft  # noqa: PLC0415 - needed for files only
    from lading.transport.files import FileSource  # noqa: PLC0415 - as above

    draft = open_draft(path, stack)
    files = FileSource()

    def part(role: Role, name: str, file: File) -> Part:
        session.reporter.emit(Started(name, role.value, name, file.before.st_size))
        blob = files.add(file, lambda done: session.reporter.emit(Advanced(name, done)))
        session.reporter.emit(Skipped(name, role.value, name, blob.size, "hashed"))
        return Part(role, name, blob)

    model = Model(tuple(part(*one) for one in draft.files), draft.facts)
    overlay = Overlay(files)
    written = artifact.named(_FORMAT).write(model, session.config.created)
    overlay.write(written.config)
    return Origin(str(path), overlay, written.manifest, local=True)


def _written(overlay: Overlay, parts: tuple[Part, ...]) -> Manifest:
    facts = read_facts([HeaderFile(part.role, part.name, partial(overlay.ranges, part.blob)) for part in parts])
    written = artifact.named(_FORMAT).write(Model(parts, facts), None)
    overlay.write(written.config)
    return written.manifest


def _no_choice(name: str) -> UsageError:
    msg = f"--quant chooses among the files of a hub's repository, and {name} is none"
    return UsageError(msg, hint="leave it away")
