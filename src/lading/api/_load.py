"""Load: take in the models of an archive or image layout, from a file, a folder or a pipe.

All is received and held to its digests, and understood, before the first name is given; then all names are given at once.
"""

from __future__ import annotations

import io
import stat
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lading import artifact, copy, fs, media
from lading import reference as refs
from lading.api._pull import telling_what_is_kept
from lading.api.clock import now
from lading.api.lookup import stored_name
from lading.api.results import Pulled
from lading.artifact.unpack import read_stored
from lading.digest import Digest
from lading.errors import FormatError, NotFoundError, UsageError
from lading.events import Advanced, Started
from lading.formats.archive import Compression, decompressed
from lading.manifest import Index, Manifest
from lading.plan import MAX_DEPTH
from lading.reference import is_tag_name
from lading.store.spool import spooled
from lading.store.views import safe_parts
from lading.text import clean
from lading.transport.archive import Archive, open_archive
from lading.transport.archive_contents import HEAD, Root, compression_of
from lading.transport.local import open_layout

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from _typeshed import WriteableBuffer

    from lading.api.session import Session
    from lading.content import ByteReader
    from lading.manifest import Descriptor, Document
    from lading.store import Store

_STREAM = "the archive"
_INDEX = "index"
_SHOWN = 80


def load(session: Session, place: Path | ByteReader, *, name: str | None = None) -> tuple[Pulled, ...]:
    """Take in all models of an archive, a layout's folder, or a stream of an archive, and name them in the store.

    `name` is the name to give where there is one model; None keeps the names it has in the archive. Archives may be
    compressed as a whole with gzip or zstd. Raises FormatError and IntegrityError, naming the part, for what is not as
    it should be, UsageError for a model without a name, NoSpaceError, and StoppedError; no name is given then.
    """
    with _opened(session, place) as loading:
        named = _named(loading, name)
        documents, blobs = _survey(loading, named.values())
        with session.store.lease([*documents, *blobs]):
            return _take_in(session, loading, named, documents, blobs)


@dataclass(frozen=True, slots=True)
class _Loading:
    """What is loaded, as messages call it: its models, and the place to find them again, None for a stream."""

    source: Archive | Store
    roots: Sequence[Root]
    name: str
    place: refs.Layout | refs.Archive | None

    def origin(self, root: Root) -> dict[str, str]:
        """Return the annotations of a name in the store that say where it came from."""
        annotations = {media.PULLED: now()}
        tag = root.name if root.name and is_tag_name(root.name) else str(root.descriptor.digest)
        # Behind a colon in a path a tag would be read.
        if self.place and ":" not in self.place.path:
            reference = str(replace(self.place, tag=tag))
            annotations |= {media.REFERENCE: reference, media.SOURCE: reference}
        return annotations


def _take_in(
    session: Session,
    loading: _Loading,
    named: Mapping[str, Root],
    documents: Mapping[Digest, Document],
    blobs: Mapping[Digest, Descriptor],
) -> tuple[Pulled, ...]:
    store = session.store
    missing = tuple(blob for blob in blobs.values() if not store.has(blob))
    store.require_space(sum(blob.size for blob in missing))
    wanted = {name: documents[root.descriptor.digest] for name, root in named.items()}
    formats = {name: _format(document, name) for name, document in wanted.items()}
    manifests = [document for document in documents.values() if isinstance(document, Manifest)]
    files = frozenset(layer.digest for manifest in manifests for layer in manifest.layers)
    with telling_what_is_kept(store, missing):
        copy.move(missing, loading.source, store, session.reporter, files)
    for name, document in wanted.items():
        _understand(store, document, name)
    # What an index names comes before it.
    for document in reversed(list(documents.values())):
        store.put_document(document, None)
    results = []
    new = {blob.digest for blob in missing}
    for name, document in wanted.items():
        reached = _reached(document, documents)
        old = store.index.find(name)
        same = old is not None and old.descriptor.digest == document.digest
        results.append(
            Pulled(
                name=name,
                digest=document.digest,
                format=formats[name],
                total_bytes=sum(reached.values()),
                new_bytes=sum(size for digest, size in reached.items() if digest in new),
                up_to_date=same and not new & reached.keys(),
                replaced=old.descriptor.digest if old and not same else None,
            )
        )
        new -= reached.keys()  # what several models share came with the first
    changed = [result.name for result in results if not result.up_to_date]
    if changed:
        store.tag_all({name: (wanted[name], loading.origin(named[name])) for name in changed})
    return tuple(results)


def _reached(document: Document, documents: Mapping[Digest, Document]) -> dict[Digest, int]:
    """Return all that a document reaches, itself too, with the sizes in bytes."""
    found = {document.digest: len(document.raw)}
    inner = [document]
    while inner:
        one = inner.pop()
        if isinstance(one, Manifest):
            found.update((blob.digest, blob.size) for blob in one.blobs)
            continue
        # Of an index, some may be absent.
        held = {entry.digest for entry in one.manifests if entry.digest in documents}
        new = [documents[digest] for digest in held - found.keys()]
        found.update((document.digest, len(document.raw)) for document in new)
        inner += new
    return found


def _survey(loading: _Loading, roots: Collection[Root]) -> tuple[dict[Digest, Document], dict[Digest, Descriptor]]:
    """Return all manifests and indexes that models reach, the outer before the inner, and all their blobs.

    Raises FormatError for what is not there, or not with its size. Of an index some manifests may be missing, as in one
    that was saved for one platform, but not all.
    """
    source = loading.source
    documents: dict[Digest, Document] = {}
    blobs: dict[Digest, Descriptor] = {}
    waiting = [root.descriptor for root in roots]
    for _level in range(MAX_DEPTH + 1):
        inner: list[Descriptor] = []
        for descriptor in waiting:
            if descriptor.digest in documents:
                continue
            _require(loading, descriptor)
            document = documents[descriptor.digest] = source.document(descriptor.digest)
            if isinstance(document, Index):
                held = [entry for entry in document.manifests if source.has(entry)]
                if not held:
                    _require(loading, *document.manifests)
                inner += held
            else:
                _require(loading, *document.blobs)
                blobs.update((blob.digest, blob) for blob in document.blobs)
        if not inner:
            return documents, blobs
        waiting = inner
    msg = f"{loading.name} has an index nested deeper than {MAX_DEPTH} levels"
    raise FormatError(msg, hint="no honest artifact needs that; nothing was loaded")


def _require(loading: _Loading, *blobs: Descriptor) -> None:
    for blob in blobs:
        if not loading.source.has(blob):
            msg = f"{loading.name} names {blob.digest.short} of {blob.size:,} bytes, which is not in it"
            raise FormatError(msg, hint="it is damaged, or was saved in part only; nothing was loaded")


def _understand(store: Store, document: Document, name: str) -> None:
    """Raise FormatError unless a manifest's blobs, which are here, make a model whose files can have their names."""
    if isinstance(document, Manifest):
        for part in read_stored(artifact.detect(document, name), document, store).parts:
            safe_parts(part.name)


def _format(document: Document, name: str) -> str:
    return artifact.detect(document, name).name if isinstance(document, Manifest) else _INDEX


def _named(loading: _Loading, name: str | None) -> dict[str, Root]:
    """Return the models with the names they will have in the store."""
    digests = {root.descriptor.digest for root in loading.roots}
    if not digests:
        msg = f"{loading.name} holds no model"
        raise FormatError(msg, hint="its index is empty")
    if name is not None:
        if len(digests) > 1:
            msg = f"{loading.name} holds {len(digests)} models: one name does not fit them"
            raise UsageError(msg, hint="leave -t away, and rename them with `lading tag`")
        return {name: loading.roots[0]}
    return {_local_name(loading, root): root for root in loading.roots}


def _local_name(loading: _Loading, root: Root) -> str:
    if root.name is None:
        msg = f"{loading.name} gives no name to {root.descriptor.digest.short}"
        raise UsageError(msg, hint="name it with -t NAME")
    stored = None if _is_digest(root.name) else _stored(root.name)
    if stored is None:
        msg = f"{loading.name} has a model named `{clean(root.name)[:_SHOWN]}`, which cannot be a name here"
        raise FormatError(msg, hint="name it with -t NAME")
    return stored


def _stored(name: str) -> str | None:
    if is_tag_name(name):
        return name
    try:
        return stored_name(refs.parse(name))
    except UsageError:
        return None


def _is_digest(text: str) -> bool:
    try:
        Digest(text)
    except FormatError:
        return False
    return True


@contextmanager
def _opened(session: Session, place: Path | ByteReader) -> Iterator[_Loading]:
    if not isinstance(place, Path):
        with _from_stream(session, place, _STREAM) as loading:
            yield loading
        return
    shown = str(place)
    with fs.os_errors(shown):
        status = place.stat()
    if stat.S_ISDIR(status.st_mode):
        yield _layout(place)
    elif stat.S_ISFIFO(status.st_mode):
        with place.open("rb", buffering=0) as stream, _from_stream(session, stream, shown) as loading:
            yield loading
    else:
        with open(fs.open_regular(place), "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
            if compression_of(file.read(HEAD)) is not Compression.NONE:
                session.store.require_space(status.st_size)
                file.seek(0)
                with _from_stream(session, file, shown) as loading:
                    yield loading
                return
        archive = open_archive(place, shown)
        yield _Loading(archive, archive.roots, shown, refs.Archive(archive.kind, str(place.absolute())))


def _layout(place: Path) -> _Loading:
    reference = refs.Layout(str(place.absolute()))
    layout = open_layout(reference)
    if not layout.index.exists():
        msg = f"{place} is no OCI image layout: it has no index.json"
        raise NotFoundError(msg, hint="a layout is a folder with oci-layout, index.json and blobs")
    roots = tuple(Root(root.annotations.get(media.REF_NAME), root) for root in layout.index.roots())
    return _Loading(layout, roots, str(place), reference)


@contextmanager
def _from_stream(session: Session, stream: ByteReader, name: str) -> Iterator[_Loading]:
    """Lay a stream down in the store's work folder, decompressed, for as long as the block lasts.

    The reporter hears how much of it came, and nothing at the end: the models in it say more.
    """
    whole = _Whole(stream, name)
    reader = decompressed(whole, compression_of(whole.head), name)
    session.reporter.emit(Started(name, "archive", name, None))

    def progress(done: int) -> None:
        session.reporter.emit(Advanced(name, done))

    with spooled(session.store, reader, progress) as path:
        archive = open_archive(path, name)
        yield _Loading(archive, archive.roots, name, None)


class _Whole(io.RawIOBase):
    """A stream from its start on, of which the first bytes were looked at; the stream stays its owner's."""

    def __init__(self, inner: ByteReader, name: str) -> None:
        self._inner = inner
        self._name = name
        self.head = b""
        while len(self.head) < HEAD and (more := self._inner.read(HEAD - len(self.head))):
            self.head += more
        self._left = self.head

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if self._left:
            count = min(len(view), len(self._left))
            view[:count], self._left = self._left[:count], self._left[count:]
            return count
        with fs.os_errors(self._name):
            return self._inner.readinto(view)
