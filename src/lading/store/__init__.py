"""The store: an OCI image layout on disk (image-layout.md) that skopeo, umoci and oras can read.

    oci-layout  index.json  blobs/<alg>/<hex>          the layout
    ingest/     parts being received                    links/   stamps of files packed by link
    leases/     what running commands need              locks/   files to lock
    models/     named files for runtimes                cache/   what can be made again
    reserve     space to be given up on a full disk

It is a `Source` and a `Target`, so pull and push are copies from and to it. A layout that belongs
to somebody else is opened with a `work` folder of its own, which takes all but the first line and the reserve.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from lading import fs, media
from lading.digest import Digest
from lading.errors import NoSpaceError, NotFoundError, UsageError
from lading.manifest import MAX_DOCUMENT, Descriptor, Document, parse_document
from lading.reference import is_tag_name
from lading.store.adoption import Adopted
from lading.store.blobs import Blobs
from lading.store.build_cache import BuildCache
from lading.store.closure import closure
from lading.store.index import Tag, TagIndex
from lading.store.lease import Lease
from lading.store.reserve import Reserve
from lading.store.versions import Version, find_version
from lading.store.views import make_view
from lading.store.watch import Watch
from lading.text import clean
from lading.text import size as human_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from lading.content import ByteReader, Progress, RangeReader, Source, Unnamed

_RESERVE = 16 * 1024 * 1024
_FOLDERS = ("locks", "leases", "ingest")
# What is in a folder that a store was begun in, and in the root of a file system.
_OWN = frozenset({*_FOLDERS, "blobs", "index.json", "links", "models", "cache", "reserve", "lost+found"})
_SHOWN = 80
_DIGEST = re.compile(r"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})")

__all__ = ["Adopted", "Blobs", "BuildCache", "Lease", "Store", "Tag", "Version", "Watch"]


class Store:
    """One store. Opening it touches nothing; the first write makes the layout."""

    __slots__ = ("blobs", "build_cache", "index", "reserve", "root", "work")

    def __init__(self, root: Path, *, work: Path | None = None) -> None:
        self.root = root
        self.work = work or root
        self.blobs = Blobs(root, self.work)
        self.build_cache = BuildCache(self.work / "cache" / "build")
        self.reserve = Reserve(self.work)
        self.index = TagIndex(root, self.work, self.blobs)

    # -- names ---------------------------------------------------------------

    def tags(self) -> tuple[Tag, ...]:
        """Return all names, oldest first."""
        return self.index.tags()

    def find(self, name: str) -> Tag | None:
        """Return what a name points at, or None. `host/repo` means `host/repo:latest` when that is there."""
        return self.index.find(name) or self.index.find(f"{name}:latest")

    def tag(self, name: str, document: Document, annotations: Mapping[str, str] | None = None) -> None:
        """Name a document that is in the store; raises UsageError for a name that cannot be one."""
        self.tag_all({name: (document, annotations or {})})

    def tag_all(self, named: Mapping[str, tuple[Document, Mapping[str, str]]]) -> None:
        """Name documents that are in the store, with annotations: all of them or, after a failure, none."""
        for name in named:
            if not is_tag_name(name) or _DIGEST.fullmatch(name):
                msg = f"`{name}` cannot be the name of a model"
                raise UsageError(msg, hint="letters and digits, joined by single `-`, `.`, `_`, `:`, `@` or `/`")
        self.prepare()
        # No collection runs meanwhile: what is there now is still there when the name keeps it.
        with fs.Lock(self.gate, "the store", shared=True):
            for name, (document, _annotations) in named.items():
                if self.blobs.size(document.digest) is None:
                    msg = f"the store has no manifest {document.digest} to be named `{name}`"
                    raise NotFoundError(msg, hint="pull or pack the model again")
            self.index.set_all({name: (document.descriptor, more) for name, (document, more) in named.items()})

    def untag(self, name: str) -> None:
        """Drop a name; what it pointed at stays until `prune`."""
        tag = self.find(name)
        if tag is None:
            raise _unknown(name)
        self.prepare()

        def drop() -> None:
            # Repeated after a failure that came once the name was gone, this has nothing left to do.
            if self.index.find(tag.name) is not None:
                self.index.remove(tag.name)

        self.reserve.lend(drop)

    # -- Source --------------------------------------------------------------

    def document(self, name: str, /) -> Document:
        """Return the manifest or index under a tag or digest; raises NotFoundError."""
        if _DIGEST.fullmatch(name):
            return self._document(Digest(name), None, name)
        tag = self.find(name)
        if tag is None:
            raise _unknown(name)
        return self._document(tag.descriptor.digest, tag.descriptor.media_type, name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a blob; read from 0, its end raises unless size and digest are right."""
        return self.blobs.open(blob, offset)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a blob."""
        return self.blobs.ranges(blob, blob.annotations.get(media.FILE_PATH, blob.digest.short))

    def read(self, blob: Descriptor, *, limit: int = MAX_DOCUMENT) -> bytes:
        """Return a small blob whole and verified."""
        return self.blobs.read(blob, limit)

    def _document(self, digest: Digest, media_type: str | None, name: str) -> Document:
        descriptor = self.blobs.open_file(digest)
        with fs.os_errors(self.blobs.path(digest)), open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            raw = file.read(MAX_DOCUMENT + 1)
        return parse_document(raw, name=name, media_type=media_type, digest=digest)

    # -- Target --------------------------------------------------------------

    def has(self, blob: Descriptor, /) -> bool:
        """Say whether the blob is there, whole and unchanged."""
        return self.blobs.has(blob)

    def put_blob(self, blob: Descriptor, source: Source, progress: Progress, /) -> str:
        """Receive a blob, verified; return "present" if another process was quicker."""
        self.prepare()
        return self.blobs.receive(blob, source, progress)

    def put_unknown(
        self, name: str, size: int | None, reader: ByteReader, progress: Progress, *, lease: Lease | None = None
    ) -> Adopted:
        """Receive a stream whose digest nobody told; `name` is what messages call it, `lease` keeps the blob."""
        self.prepare()
        keep = None if lease is None else lambda digest: lease.add([digest])
        return self.blobs.receive_unknown(name, size, reader, progress, keep)

    def put_unnamed(self, stream: Unnamed, progress: Progress, /) -> Digest:
        """Write bytes whose digest follows from them."""
        self.prepare()
        with closing(stream.open(0)) as reader:
            # Asked before the blob gets its name: its owner may find the bytes wrong.
            adopted = self.blobs.receive_unknown(
                stream.name, stream.size, reader, progress, lambda _digest: stream.finish()
            )
        return adopted.digest

    def put_version(self, version: Version, source: Source, progress: Progress, *, lease: Lease) -> Adopted:
        """Receive one version of a file whose digest nobody told; what is left of it is taken up, `lease` keeps it."""
        self.prepare()
        return self.blobs.receive_version(version, source, progress, lambda digest: lease.add([digest]))

    def find_version(self, version: Version, lease: Lease) -> Adopted | None:
        """Return the blob that a version of a file turned out to be, if it is here, kept by `lease`."""
        return find_version(self.blobs, version, lambda digest: lease.add([digest]))

    def adopt(self, origin: fs.Origin, progress: Progress, *, copy: bool, lease: Lease) -> Adopted:
        """Hash a user's file and make it a blob, kept by `lease`: by clone, watched hard link or copy."""
        return self.blobs.adopt(origin, progress, copy=copy, keep=lambda digest: lease.add([digest]))

    def take_over(self, made: Path, lease: Lease) -> Adopted:
        """Make a file that lies in the store's own folders a blob, kept by `lease`; the file is gone then."""
        self.prepare()
        return self.blobs.take_over(made, lambda digest: lease.add([digest]))

    def require_space(self, needed: int) -> None:
        """Raise NoSpaceError if `needed` bytes would not fit where the store is."""
        left = fs.free_bytes(self.root)
        if needed + _RESERVE > left:
            free = f"{human_size(left)} are free in {self.root}, of which {human_size(_RESERVE)} are to stay free"
            if self.work != self.root:
                msg = f"{human_size(needed)} are to be written; {free}"
                raise NoSpaceError(msg, hint="free some space, or name a layout in another place")
            msg = f"{human_size(needed)} are to be fetched; {free}"
            raise NoSpaceError(msg, hint="free some space (`lading prune` helps), or name another place with --store")

    def require_room(self, blobs: Iterable[Descriptor]) -> None:
        """Raise NoSpaceError if what is not here yet of these blobs would not fit; what was left of them is taken up."""
        self.require_space(sum(blob.size - self.received(blob) for blob in blobs))

    def received(self, blob: Descriptor) -> int:
        """Return how many bytes of a blob are here: all, or what an interrupted receiver left."""
        return blob.size if self.has(blob) else min(self.blobs.left(blob.digest), blob.size)

    def put_document(self, document: Document, tag: str | None, /) -> None:
        """Write a manifest or index whose blobs are all there, and name it."""
        self.prepare()
        self.blobs.add(document.raw, document.digest.algorithm)
        if tag is not None:
            self.tag(tag, document)

    def put_bytes(self, data: bytes) -> Digest:
        """Write a small blob of our own making."""
        self.prepare()
        return self.blobs.add(data)

    # -- upkeep --------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folders of a store and its layout files, unless they are there."""
        whole = self.index.exists() and (self.root / "oci-layout").exists()
        if whole and all((self.work / name).is_dir() for name in _FOLDERS):
            self._fill_reserve()
            return
        if not whole:
            self._refuse_foreign()
        fs.make_folder(self.root / "blobs" / "sha256")
        for name in _FOLDERS:
            fs.make_folder(self.work / name)
        self.index.create()
        self._fill_reserve()

    def _refuse_foreign(self) -> None:
        """Raise UsageError for a folder that is somebody's, and no layout: a store is not to be strewn over it."""
        if self.work != self.root or (self.root / "oci-layout").exists() or not self.root.is_dir():
            return
        with fs.os_errors(str(self.root)):
            foreign = sorted({path.name for path in self.root.iterdir()} - _OWN)
        if foreign:
            msg = f"the store {self.root} would be a folder that holds other things: {clean(foreign[0])[:_SHOWN]}"
            raise UsageError(msg, hint="--store or LADING_STORE names an empty folder, or one that is not there yet")

    def _fill_reserve(self) -> None:
        # A layout that is somebody else's holds nothing that is ours to keep there.
        if self.work == self.root:
            self.reserve.fill()

    @property
    def writable(self) -> bool:
        """Say whether there is a store that may be written to; one on a read-only disk, or of another user, may not."""
        return os.access(self.root, os.W_OK)

    @property
    def leases(self) -> Path:
        """The folder of the leases."""
        return self.work / "leases"

    @property
    def gate(self) -> Path:
        """The file that a collection locks exclusively, and everybody who takes a lease shares."""
        return self.work / "locks" / "gate"

    @contextmanager
    def lease(self, digests: Iterable[Digest] = ()) -> Iterator[Lease]:
        """Keep digests from collection during the block; raises AccessDeniedError in a store that is read-only."""
        self.prepare()
        with Lease(self.leases, self.gate) as lease:
            lease.add(digests)
            yield lease

    @contextmanager
    def use(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Keep digests from collection while they are read; in a read-only store nothing needs to be done."""
        if self.writable:
            kept = tuple(digests)
            with ExitStack() as stack:
                self.reserve.lend(lambda: stack.enter_context(self.lease(kept)))
                yield
        else:
            yield

    def watch(self, digests: Iterable[Digest]) -> Watch:
        """Watch the linked files among blobs that are in use; a context manager whose `check` raises IntegrityError."""
        return Watch(self.blobs, digests)

    def reach(self, document: Document) -> Iterator[Descriptor]:
        """Yield everything a document reaches and the store holds of it, itself first, each digest once."""
        return closure(self, document.descriptor)

    def view(self, digest: Digest, files: Iterable[tuple[str, Descriptor]]) -> Path:
        """Return the folder that holds a model's files under their own names, for a runtime."""
        wanted = tuple(files)
        return self.reserve.lend(lambda: make_view(self.work, self.blobs, digest, wanted))


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"no model is named `{name}` in the store", hint="`lading list` shows what is there")
