"""Deliver: write a model that lies somewhere to a place, as it is or in other formats. Copy and push are deliveries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lading import artifact, copy, media
from lading import reference as refs
from lading.api.clock import now
from lading.api.lookup import check_forms, parse, remote, tag_name
from lading.api.results import Delivered, DeliveredForm
from lading.artifact.format import PLATFORMS
from lading.content import Receiving, Roomy
from lading.errors import IntegrityError, UsageError
from lading.events import Noted
from lading.manifest import Index, Manifest
from lading.plan import inner_documents, is_for, make_plan, parse_platform, single_manifest
from lading.transport import open_source, open_target, release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lading.api.session import Session
    from lading.content import Source, Target
    from lading.convert import Made, Press
    from lading.convert.bases import Base
    from lading.digest import Digest
    from lading.events import Event, Reporter
    from lading.manifest import Descriptor, Document, Platform
    from lading.pace import Pace
    from lading.reference import Reference
    from lading.store import Lease

_LONGEST_TAG = 128
_NAMES = frozenset(row.name for row in artifact.EVERY)
_MAX_MOUNTS = 4
_DESTINATION = "a registry is named host/repository:tag, a layout oci-layout:DIR:tag, an archive oci-archive:FILE:tag"


@dataclass(frozen=True, slots=True)
class NamedForm:
    """One format of several that a model is written in: its name, and the document that stands for it by itself."""

    name: str
    root: Document


@dataclass(frozen=True, slots=True)
class Origin:
    """A model to deliver: the document that stands for it at a source, and what messages call it.

    `near` are repositories that are known to have its blobs. `local` says that reading it twice costs little.
    """

    name: str
    source: Source
    document: Document
    near: tuple[refs.Oci, ...] = ()
    local: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """How a model is to be written: in which formats, none for as it is; for which platform; upon which base image."""

    formats: tuple[artifact.Format, ...] = ()
    platform: Platform | None = None
    base: str | None = None

    @classmethod
    def of(cls, formats: str | None, platform: str | None = None, base: str | None = None) -> Wish:
        """Read what a user typed; raises UsageError."""
        rows = artifact.several(formats) if formats else ()
        if base and not any(row.write_for for row in rows):
            msg = "--base is for a container image, and none is to be written"
            raise UsageError(msg, hint="add image to --format")
        return cls(rows, parse_platform(platform) if platform else None, base)


@dataclass(frozen=True, slots=True)
class Untold:
    """A reporter that says nothing of some blobs, of which was told already."""

    inner: Reporter
    told: frozenset[Digest]

    def emit(self, event: Event) -> None:
        if isinstance(event, Noted) or event.key not in self.told:
            self.inner.emit(event)


@dataclass(frozen=True, slots=True)
class _Load:
    root: Document
    inner: tuple[Document, ...]
    source: Source
    forms: tuple[NamedForm, ...] = ()


def destination(text: str) -> Reference:
    """Read where a model is to go, a bare name is one in the store; raises UsageError for a name with folders."""
    place = parse(text)
    # What looks like a repository without its registry was hardly meant for the store.
    if isinstance(place, refs.Name) and "/" in place.name:
        msg = f"`{place.name}` names no place to write to"
        raise UsageError(msg, hint=_DESTINATION)
    return place


def deliver(
    session: Session,
    origin: Origin,
    place: Reference,
    wish: Wish,
    *,
    parallel: int = copy.PARALLEL,
    pace: Pace | None = None,
) -> Delivered:
    """Write a model to a place, blobs first, then documents, its name last; what is there already is not sent again.

    Raises FormatError for a model that a format cannot hold, and the errors of both ends; then the name is not given.
    """
    if isinstance(place, refs.Name):
        return _deliver_here(session, origin, tag_name(place.name), wish, parallel=parallel, pace=pace)
    near = tuple(one.repository for one in origin.near if isinstance(place, refs.Oci) and one.host == place.host)
    target, tag = open_target(place, session.config, lambda: session.client, insecure=session.insecure, mount_from=near)
    try:
        _check_names(place, tag, _formats(origin, wish))
        # The order in an archive is part of its bytes.
        lanes = 1 if isinstance(place, refs.Archive) else parallel
        load, copied = _send(session, origin, target, tag, wish, lanes=lanes, pace=pace)
    finally:
        release(target)
    assert isinstance(place, refs.Oci | refs.Layout | refs.Archive)  # noqa: S101 - nothing else was opened
    return _told(origin, str(place), load, copied, lambda form: str(replace(place, tag=refs.form_tag(tag, form))))


def _told(origin: Origin, place: str, load: _Load, copied: copy.Copied, place_of: Callable[[str], str]) -> Delivered:
    several = len(load.forms) > 1
    return Delivered(
        source=origin.name,
        destination=place,
        digest=load.root.digest,
        total_bytes=copied.total_bytes,
        new_bytes=copied.moved_bytes,
        forms=tuple(
            DeliveredForm(form.name, place_of(form.name) if several else place, form.root.digest) for form in load.forms
        ),
    )


def _deliver_here(
    session: Session, origin: Origin, name: str, wish: Wish, *, parallel: int, pace: Pace | None
) -> Delivered:
    """Write a model into the store, under names of its own."""
    store = session.store
    check_forms(name, _formats(origin, wish))
    with store.lease() as lease:
        load, copied = _send(session, origin, store, None, wish, lanes=parallel, pace=pace, lease=lease)
        names = {
            name: load.root,
            **{refs.form_tag(name, form.name): form.root for form in load.forms if len(load.forms) > 1},
        }
        said = {media.SOURCE: origin.name, media.PULLED: now()}
        store.tag_all({one: (document, said) for one, document in names.items()})
    return _told(origin, name, load, copied, lambda form: refs.form_tag(name, form))


def _send(
    session: Session,
    origin: Origin,
    target: Target,
    tag: str | None,
    wish: Wish,
    *,
    lanes: int,
    pace: Pace | None,
    lease: Lease | None = None,
) -> tuple[_Load, copy.Copied]:
    from lading.convert import Press  # noqa: PLC0415 - a copy as it is converts nothing

    base = _open_base(session, wish.base) if wish.base else None
    # A layer that is made of a remote file is sent while its digest is found out, and one for the store written.
    here = target is session.store
    taking = target if isinstance(target, Receiving) and (here or not origin.local) else None
    press = Press(session.store, session.reporter, taking)
    while True:
        load = _converted(session, origin, target, wish, press, base) if wish.formats else _as_it_is(origin, wish)
        several = load.forms if tag and len(load.forms) > 1 else ()
        names = {form.root.digest: refs.form_tag(tag or "", form.name) for form in several}
        if lease is not None:
            keep(lease, load.root, load.inner)
        plan = make_plan(load.root, target.has, load.inner)
        if isinstance(target, Roomy):
            target.require_room(plan.missing)
        # What went to the target while its digest was found out is there, and was told of.
        reporter = Untold(session.reporter, frozenset(press.sent))
        try:
            copied = copy.run(plan, load.source, target, tag, reporter, names=names, parallel=lanes, pace=pace)
            return load, replace(copied, moved_bytes=copied.moved_bytes + sum(press.sent.values()))
        except IntegrityError:
            if not press.hinted:
                raise
            press.forget()


def _as_it_is(origin: Origin, wish: Wish) -> _Load:
    document, source, name = origin.document, origin.source, origin.name
    if wish.platform:
        return _Load(single_manifest(document, source.document, name, wish.platform), (), source)
    inner = inner_documents(document, source.document, name)
    known = {one.digest: one for one in inner}
    forms = tuple(_form(form, entries, known) for form, entries in _entries_of_forms(document).items())
    beside = tuple(form.root for form in forms if form.root.digest not in known)
    return _Load(document, (*inner, *beside), source, forms)


def _form(name: str, entries: Sequence[Descriptor], known: Mapping[Digest, Document]) -> NamedForm:
    return NamedForm(name, known[entries[0].digest] if len(entries) == 1 else Index.build(tuple(entries)))


def _entries_of_forms(document: Document) -> dict[str, list[Descriptor]]:
    """Return what an index of one model in several formats has for each of them; of anything else nothing."""
    found: dict[str, list[Descriptor]] = {}
    for entry in document.manifests if isinstance(document, Index) else ():
        if entry.annotations.get(media.FORM) in _NAMES:
            found.setdefault(entry.annotations[media.FORM], []).append(entry)
    return found if len(found) > 1 else {}


def _converted(  # noqa: PLR0917 - what a conversion is made of, each once
    session: Session, origin: Origin, target: Target, wish: Wish, press: Press, base: Base | None
) -> _Load:
    from lading.convert import find, make  # noqa: PLC0415 - as above

    manifest = single_manifest(origin.document, origin.source.document, origin.name, _there(origin.document, wish))
    found = find(manifest, origin.source, origin.name)
    platforms = (wish.platform,) if wish.platform else PLATFORMS
    made = make(
        found,
        wish.formats,
        press,
        session.reporter,
        has=_has(session, origin, target),
        platforms=base.platforms(platforms) if base else platforms,
        base=base,
    )
    forms = tuple(NamedForm(form.name, form.root) for form in made.forms)
    return _Load(made.root, documents_of(made), made.source, forms)


def _there(document: Document, wish: Wish) -> Platform | None:
    """Return the platform that was asked for, if a document has nothing but images and one for it."""
    wanted = wish.platform
    platforms = [entry.platform for entry in document.manifests] if isinstance(document, Index) else []
    fits = wanted and None not in platforms and any(one and is_for(one, wanted) for one in platforms)
    return wanted if fits else None


def keep(lease: Lease, root: Document, inner: Iterable[Document]) -> None:
    """Keep documents of the store, there or to come, and all that they name."""
    for document in (*inner, root):
        lease.add([document.digest])
        lease.add(blob.digest for blob in (document.blobs if isinstance(document, Manifest) else ()))


def documents_of(made: Made) -> tuple[Document, ...]:
    """Return all documents of a model in several forms but the root, children first."""
    indexes = {form.root.digest: form.root for form in made.forms if form.root.digest != made.root.digest}
    inner = {document.digest: document for document in made.inner}
    return tuple({**inner, **indexes}.values())


def _has(session: Session, origin: Origin, target: Target) -> Callable[[Descriptor], bool]:
    def has(blob: Descriptor) -> bool:
        return target.has(blob) or (origin.source is session.store and session.store.has(blob))

    return has


def _formats(origin: Origin, wish: Wish) -> list[str]:
    return [row.name for row in wish.formats] or ([] if wish.platform else [*_entries_of_forms(origin.document)])


def _check_names(place: Reference, tag: str, formats: Sequence[str]) -> None:
    longest = max((refs.form_tag(tag, name) for name in formats), key=len, default="")
    if isinstance(place, refs.Oci) and len(formats) > 1 and not refs.is_registry_tag(longest):
        msg = f"the tag `{longest}` would be longer than the {_LONGEST_TAG} characters that a registry takes"
        raise UsageError(msg, hint=f"give `{tag}` a shorter name")


def _open_base(session: Session, text: str) -> Base:
    from lading.convert.bases import Base  # noqa: PLC0415 - only classic images need one

    if tag := session.store.find(text):
        return Base(text, session.store, session.store.document(tag.name))
    reference = remote(session, text)
    source, wanted = open_source(
        reference, session.config, lambda: session.client, insecure=session.insecure, reporter=session.reporter
    )
    return Base(str(reference), source, source.document(wanted))


def of_store(session: Session, name: str, place: Reference) -> Origin:
    """Return a model of the store under its tag, to be written to `place`."""
    document = session.store.document(name)
    return Origin(name, session.store, document, _siblings(session, place, document.digest), local=True)


def _siblings(session: Session, place: Reference, digest: Digest) -> tuple[refs.Oci, ...]:
    """Return other repositories of the registry that this model, by its names in the store, is known to be in."""
    if not isinstance(place, refs.Oci):
        return ()
    found = []
    for tag in session.store.tags():
        if tag.descriptor.digest == digest:
            named = (_named(tag.name), _named(tag.reference))
            near = (one for one in named if isinstance(one, refs.Oci) and one.host == place.host)
            found += [refs.Oci(one.host, one.repository) for one in near]
    return tuple(dict.fromkeys(one for one in found if one.repository != place.repository))[:_MAX_MOUNTS]


def _named(text: str | None) -> Reference | None:
    # The store is a layout, in which other tools name things as they like.
    try:
        return parse(text) if text else None
    except UsageError:
        return None
