"""Save: write models of the store to one archive, an OCI image layout in a tar."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lading import copy
from lading.api.lookup import local
from lading.api.results import Saved, SavedModel
from lading.errors import NotFoundError
from lading.manifest import MANIFEST_KINDS, Manifest
from lading.transport.archive_writer import FileSink, LayoutTar, StreamSink, require_room

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lading.api.session import Session
    from lading.digest import Digest
    from lading.manifest import Descriptor
    from lading.store import Store


def save(session: Session, names: Sequence[str], place: Path | BinaryIO) -> Saved:
    """Write models of the store with all they reach to a file, which has its name once it is whole, or to a stream.

    What models share is written once; the same models make the same bytes. Every blob is held to its digest on the way.
    Raises NotFoundError for a name or blob that is not in the store, IntegrityError for a blob that was changed there,
    before anything is written if its size or times tell; NoSpaceError for a file that cannot fit.
    """
    store = session.store
    documents = {name: store.document(name) for name in _known(session, names)}
    blobs: dict[Digest, Descriptor] = {}
    for document in documents.values():
        for blob in store.reach(document):
            blobs.setdefault(blob.digest, blob)
    with store.use(blobs):
        every = tuple(blobs.values())
        for blob in every:
            store.ranges(blob).close()  # raises for one that is missing or changed
        inner = [blob for blob in every if blob.media_type in MANIFEST_KINDS]
        files = _files(store, inner)
        with closing(LayoutTar(_sink(place, every))) as archive:
            # One after the other: their order is part of the bytes.
            others = tuple(blob for blob in every if blob.media_type not in MANIFEST_KINDS)
            copy.move(others, store, archive, session.reporter, files, parallel=1)
            for blob in inner:
                archive.put_document(store.document(str(blob.digest)), None)
            for name, document in documents.items():
                archive.put_document(document, name)
            archive.finish()
            models = tuple(SavedModel(name, document.digest) for name, document in documents.items())
            return Saved(models, archive.size)


def _known(session: Session, names: Sequence[str]) -> list[str]:
    found = set()
    for name in names:
        tag = local(session, name)
        if tag is None:
            msg = f"no model is named `{name}` in the store"
            raise NotFoundError(msg, hint="`lading list` shows what is there")
        found.add(tag.name)
    return sorted(found)


def _sink(place: Path | BinaryIO, blobs: Iterable[Descriptor]) -> FileSink | StreamSink:
    if not isinstance(place, Path):
        return StreamSink(place)
    require_room(place.parent, blobs)
    return FileSink(place)


def _files(store: Store, documents: Iterable[Descriptor]) -> frozenset[Digest]:
    """Return which blobs are files of the models, and neither manifest nor config."""
    found: set[Digest] = set()
    for blob in documents:
        document = store.document(blob.digest)
        if isinstance(document, Manifest):
            found.update(layer.digest for layer in document.layers)
    return frozenset(found)
