"""Where a model of the store came from, to fetch parts of it again: its registry, hub, URL, or the file it was packed from."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lading import artifact, copy
from lading import reference as refs
from lading.api._packing import Packing
from lading.api._pull import ORDINARY
from lading.api._repack import Repacked
from lading.digest import Digest
from lading.errors import IntegrityError, NotFoundError, UsageError
from lading.facts import HeaderFile, read_facts
from lading.manifest import Descriptor
from lading.model import Model, Part, Role
from lading.plan import Plan
from lading.text import told
from lading.transport import open_hub, open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.api.session import Session
    from lading.artifact import Written
    from lading.content import Source
    from lading.manifest import Document, Manifest
    from lading.reference import Reference
    from lading.store import Lease, Tag
    from lading.transport.choice import Choice
    from lading.transport.listing import ListedFile

_BLOB = "application/octet-stream"
_CHANGED = "pull or pack the model again, which gives its name to what is there now"

Blobs = tuple[Descriptor, ...]


class Origin(Protocol):
    """Where a model came from. What it brings is held to its digest; it raises what the place raises."""

    def document(self, digest: Digest, /) -> Document:
        """Return the model's manifest, or the index over it, of that digest; IntegrityError if it is another now."""

    def fetch(self, manifest: Manifest, blobs: Blobs, /) -> None:
        """Bring some blobs of a manifest, which the caller leases, into the store."""


def origin_of(session: Session, tag: Tag, lease: Lease) -> Origin:
    """Return the origin that a name's annotations record; what is received on the way is kept by `lease`.

    Raises NotFoundError for a name without any, UsageError for words of others that lead nowhere.
    """
    if tag.source is None:
        msg = f"where `{tag.name}` came from is not recorded"
        raise NotFoundError(msg, hint="pull or pack it again")
    reference = refs.parse(tag.source)
    match reference:
        case refs.Oci():
            source, _name = open_source(
                reference, session.config, lambda: session.client, insecure=session.insecure, reporter=session.reporter
            )
            return _Artifact(session, source)
        case refs.Ollama():
            source, name = open_source(
                reference, session.config, lambda: session.client, insecure=session.insecure, reporter=session.reporter
            )
            return _Artifact(session, source, name)
        case refs.Layout() | refs.Archive():
            return _Artifact(session, _on_disk(reference))
        case refs.Hub():
            return _hub(session, reference, refs.parse(tag.reference or tag.source))
        case refs.Url():
            return _web(session, reference, lease)
        case refs.File(path):
            return Repacked(session, Path(path), Packing.read(tag.packed))
        case _:
            msg = f"`{tag.name}` is recorded to come from {tag.source!r}, which is no place"
            raise UsageError(msg, hint="pull or pack it again")


def _on_disk(reference: refs.Layout | refs.Archive) -> Source:
    if isinstance(reference, refs.Archive):
        from lading.transport.archive import open_archive  # noqa: PLC0415 - each kind of place loads its own needs

        return open_archive(Path(reference.path), reference.path)
    from lading.transport.local import open_layout  # noqa: PLC0415 - as above

    layout = open_layout(reference)
    if not layout.index.exists():
        msg = f"{reference.path} is no OCI image layout any more"
        raise NotFoundError(msg, hint="put it back where it was, or pull the model from elsewhere")
    return layout


@dataclass(frozen=True, slots=True)
class _Artifact:
    """A registry or layout, asked by digest; `name` is the tag to try where manifests are known by tags alone."""

    session: Session
    source: Source
    name: str | None = None

    def document(self, digest: Digest, /) -> Document:
        try:
            return self.source.document(str(digest))
        except NotFoundError:
            if self.name is None:
                raise
        found = self.source.document(self.name)
        if found.digest != digest:
            msg = f"`{self.name}` is {found.digest.short} there now, not {digest.short}"
            raise IntegrityError(msg, hint=_CHANGED)
        return found

    def fetch(self, manifest: Manifest, blobs: Blobs, /) -> None:
        _copy(self.session, manifest, blobs, self.source)


@dataclass(frozen=True, slots=True)
class _Files:
    """Files that lading itself wrote a manifest and a config for, the same each time.

    `write` writes them once more, in every form that they may have had; it gets the manifest if that is known.
    `bring` fetches layers.
    """

    session: Session
    name: str
    write: Callable[[Manifest | None], tuple[Written, ...]]
    bring: Callable[[Manifest, Blobs], None]

    def document(self, digest: Digest, /) -> Document:
        return self._written(digest, None).manifest

    def fetch(self, manifest: Manifest, blobs: Blobs, /) -> None:
        layers = tuple(blob for blob in blobs if blob.digest != manifest.config.digest)
        if layers:
            self.bring(manifest, layers)
        if len(layers) < len(blobs):
            self.session.store.put_bytes(self._written(manifest.digest, manifest).config)

    def _written(self, digest: Digest, known: Manifest | None) -> Written:
        made = self.write(known)
        for written in made:
            if written.manifest.digest == digest:
                return written
        others = " or ".join(written.manifest.digest.short for written in made)
        msg = f"{self.name} makes {others} now, not {digest.short}"
        raise IntegrityError(msg, hint=_CHANGED)


def _hub(session: Session, pinned: refs.Hub, asked: Reference) -> Origin:
    from lading.transport.choice import choose, every  # noqa: PLC0415 - each kind of place loads its own needs
    from lading.transport.listing import ListedSource, annotated, parts_of  # noqa: PLC0415 - as above

    hub = open_hub(pinned, session.config, session.client, insecure=session.insecure)
    listing = hub.listing()
    select = asked.select if isinstance(asked, refs.Hub) else pinned.select

    def write(known: Manifest | None) -> tuple[Written, ...]:
        # Without a name for it, the quantization was chosen for the machine as it was then.
        base = listing.source.partition("@")[0]
        choices = (choose(listing.names, select, base),) if select else every(listing.names, base)
        if known is not None:
            names = {copy.name(layer) for layer in known.layers}
            choices = tuple(choice for choice in choices if names.issuperset(choice.weights)) or choices
        return tuple(map(made_of, choices))

    def made_of(choice: Choice) -> Written:
        source = ListedSource(hub, session.client, listing, choice.names)
        source.settle(lambda _file, _data: None)
        parts = parts_of(source, choice.role)
        facts = read_facts([HeaderFile(part.role, part.name, partial(source.ranges, part.blob)) for part in parts])
        made = artifact.named("modelpack").write(Model(parts, facts), None)
        return artifact.Written(annotated(made.manifest, listing), made.config)

    def bring(manifest: Manifest, layers: Blobs) -> None:
        wanted = {layer.digest for layer in layers}
        names = {copy.name(layer) for layer in layers}
        files = [file.path for file in listing.files if file.path in names or file.digest in wanted]
        source = ListedSource(hub, session.client, listing, files)

        def keep(_file: ListedFile, data: bytes) -> None:
            if Digest.of(data) in wanted:
                session.store.put_bytes(data)

        source.settle(keep)
        _copy(session, manifest, tuple(layer for layer in layers if not session.store.has(layer)), source)

    return _Files(session, listing.source, write, bring)


def _web(session: Session, reference: refs.Url, lease: Lease) -> Origin:
    from lading.api._pull_file import received  # noqa: PLC0415 - as above
    from lading.transport.web import WebSource, look  # noqa: PLC0415 - as above

    file = look(reference.url, session.client, insecure=session.insecure)
    name = told(reference.url)

    def write(known: Manifest | None) -> tuple[Written, ...]:
        # Only a lost manifest knew the digest: then the file has to come, unless this version of it is here.
        blob = known.layers[0] if known and known.layers else received(session, file, lease, ORDINARY)
        with closing(file.ranges()) as ranges:
            facts = read_facts([HeaderFile(Role.WEIGHTS, file.name, lambda: ranges)])
        weights = Descriptor(media_type=_BLOB, digest=blob.digest, size=blob.size)
        return (artifact.named("modelpack").write(Model((Part(Role.WEIGHTS, file.name, weights),), facts), None),)

    def bring(manifest: Manifest, layers: Blobs) -> None:
        for layer in layers:
            if file.size != layer.size or file.digest not in (None, layer.digest):
                msg = f"{name} is another file now, of {file.size} bytes"
                raise IntegrityError(msg, hint=_CHANGED)
        try:
            _copy(session, manifest, layers, WebSource(file))
        except IntegrityError as error:
            raise IntegrityError(error.message, hint=_CHANGED) from error

    return _Files(session, name, write, bring)


def _copy(session: Session, manifest: Manifest, blobs: Blobs, source: Source) -> None:
    if blobs:
        session.store.require_space(sum(blob.size for blob in blobs))
        copy.run(Plan(manifest, blobs, ()), source, session.store, None, session.reporter)
