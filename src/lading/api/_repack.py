"""A model of the store that was packed from files here: the same files, packed again, give its blobs anew."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lading import artifact, copy, fs
from lading.api._packing import formed, is_plain
from lading.errors import IntegrityError
from lading.events import Advanced, Finished, Started
from lading.manifest import Descriptor, Manifest
from lading.model import Model, Part
from lading.package import NOTHING, find_files, open_draft
from lading.plan import Plan
from lading.transport.files import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lading.api._packing import Packing
    from lading.api.session import Session
    from lading.content import Source
    from lading.digest import Digest
    from lading.fs import Origin as File
    from lading.manifest import Document
    from lading.model import Role

_CHANGED = "put the file back as it was when it was packed, or pack the model again"

Blobs = tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class _Remade:
    """What files make now: every document, and all that these name, as long as the files are open."""

    documents: Mapping[Digest, Document]
    source: Source

    def blobs(self) -> set[Digest]:
        """Return all that the manifests name."""
        manifests = [document for document in self.documents.values() if isinstance(document, Manifest)]
        return {blob.digest for manifest in manifests for blob in manifest.blobs}


class Repacked:
    """The file or folder that a model was packed from; without a note of how, it was as files alone tell, in either form."""

    def __init__(self, session: Session, path: Path, packing: Packing | None) -> None:
        self._session = session
        self._path = path
        self._packing = packing
        self._given = packing.given if packing else NOTHING

    def document(self, digest: Digest, /) -> Document:
        """Return the manifest or index that the files make; raises IntegrityError if it is another now."""
        with self._remade() as made:
            if digest in made.documents:
                return made.documents[digest]
            others = " or ".join(one.short for one in made.documents)
        msg = f"{self._path} makes {others} now, not {digest.short}"
        raise IntegrityError(msg, hint=_CHANGED)

    def fetch(self, manifest: Manifest, blobs: Blobs, /) -> None:
        """Bring blobs into the store: a file that was linked is linked again, the rest is written anew."""
        layers = {blob.digest for blob in manifest.layers}
        left = tuple(blob for blob in blobs if blob.digest not in layers or not self._adopted(blob))
        if not left:
            return
        with self._remade() as made:
            gone = next((blob for blob in left if blob.digest not in made.blobs()), None)
            if gone is not None:
                msg = f"no file there has the bytes of {gone.digest.short} any more"
                raise IntegrityError(msg, hint=_CHANGED)
            store = self._session.store
            store.require_space(sum(blob.size for blob in left))
            copy.run(Plan(manifest, left, ()), made.source, store, None, self._session.reporter)

    def _adopted(self, layer: Descriptor) -> bool:
        """Make the first file that has a layer's bytes its blob, linked if it was linked, else copied; say whether one has."""
        blobs, reporter = self._session.store.blobs, self._session.reporter

        def only_this(digest: Digest) -> None:
            if digest != layer.digest:
                msg = f"another file than {layer.digest.short}"
                raise IntegrityError(msg)

        def progress(done: int) -> None:
            reporter.emit(Advanced(layer.digest, done))

        own = not blobs.linked.origin(layer.digest)
        for place in self._places(copy.name(layer)):
            with closing(fs.Origin.open(place)) as origin:
                if origin.before.st_size == layer.size:
                    if own:
                        self._session.store.require_space(layer.size)
                    reporter.emit(Started(layer.digest, copy.label(layer), copy.name(layer), layer.size))
                    with suppress(IntegrityError):
                        blobs.adopt(origin, progress, copy=own, keep=only_this)
                        reporter.emit(Finished(layer.digest))
                        return True
        return False

    def _places(self, name: str) -> list[Path]:
        """Return all files that were packed, first those of that name."""
        files = [*find_files(self._path), *((path.name, path) for _role, path in self._given.files)]
        return [place for _name, place in sorted(files, key=lambda one: one[0] != name)]

    @contextmanager
    def _remade(self) -> Iterator[_Remade]:
        with ExitStack() as stack:
            draft = open_draft(self._path, stack, self._given)
            files = FileSource()
            parts = tuple(self._hashed(files, role, name, origin) for role, name, origin in draft.files)
            yield self._written(files, Model(parts, draft.facts))

    def _hashed(self, files: FileSource, role: Role, name: str, origin: File) -> Part:
        with fs.os_errors(origin.path):
            return Part(role, name, files.add(origin, lambda _done: None))

    def _written(self, files: FileSource, model: Model) -> _Remade:
        from lading.convert import Overlay, Press  # noqa: PLC0415 - needed for what was packed only

        created = self._packing.created if self._packing else self._session.config.created
        rows = artifact.several(self._packing.formats) if self._packing else artifact.RAW
        if self._packing and not is_plain(rows):
            store = self._session.store
            model = replace(model, facts=replace(model.facts, created=created))
            press = Press(store, self._session.reporter)
            made, _left_out = formed(self._session, files, model, rows, press, store.has)
            documents = (made.root, *made.inner, *(form.root for form in made.forms))
            return _Remade({one.digest: one for one in documents}, made.source)
        source = Overlay(files)
        found: dict[Digest, Document] = {}
        for row in rows:
            written = row.write(model, created)
            found[written.manifest.digest] = written.manifest
            for data in (written.config, *written.blobs):
                source.write(data)
        return _Remade(found, source)
