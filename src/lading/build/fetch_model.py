"""Models and images of registries for a step: fetched whole, and looked into by the paths that their files have."""

from __future__ import annotations

from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

from lading import artifact, copy
from lading.artifact.changesets import files_in_image
from lading.artifact.contents import open_part
from lading.artifact.layers import part_of
from lading.artifact.unpack import list_stored, read_stored
from lading.build.bench import Stopping, described
from lading.build.outcome import Held
from lading.build.tree import Tree
from lading.convert.bases import Base
from lading.errors import IntegrityError, NotFoundError
from lading.manifest import Index, Manifest
from lading.model import Role
from lading.plan import make_plan, single_manifest
from lading.reference import Oci
from lading.text import clean
from lading.transport import open_source
from lading.transport.local import only_tag, open_layout

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from lading.artifact.layers import Archive, Listing
    from lading.build.bench import Bench
    from lading.content import Source
    from lading.formats.archive import Entry
    from lading.manifest import Document, Platform
    from lading.model import Part
    from lading.recipe.sources import LayoutModel
    from lading.reference import Ollama

_IMAGE = "image"


class Fetched:
    """What a reference stands for, in the store: of an image for several platforms, those that were asked for."""

    def __init__(self, name: str, document: Document, manifest: Manifest, bench: Bench, *, present: bool) -> None:
        self.name = name
        self.document = document
        self.manifest = manifest
        self.present = present
        self._bench = bench

    @cached_property
    def row(self) -> artifact.Format:
        """The format it is in."""
        return artifact.detect(self.manifest, self.name)

    @property
    def base(self) -> Base | None:
        """The image for a model to be put upon; None for what is no image."""
        return Base(self.name, self._bench.store, self.document) if self.row.name == _IMAGE else None

    @cached_property
    def tree(self) -> Tree:
        """Its files: of an image by their paths in it, of anything else by their names, from the root."""
        if self.row.name == _IMAGE:
            return Tree(below=_ImageFiles(self.manifest, self.row, self._bench))
        return Tree({f"/{name}": held for name, held in self.files.items()})

    @cached_property
    def files(self) -> dict[str, Held]:
        """The files of the model that it is, by their names; raises FormatError for what is no model."""
        model = read_stored(self.row, self.manifest, self._bench.store)
        return {part.name: _held(part, self._bench) for part in model.parts}


def fetch_model(reference: Oci | Ollama, platforms: Sequence[Platform], bench: Bench) -> Fetched:
    """Bring what a reference names into the store; one that is named by its digest, and here, is not asked for.

    Raises NotFoundError where there is nothing for any of the platforms, and the registry's errors.
    """
    name = str(reference)
    known = reference.digest if isinstance(reference, Oci) else None
    if known is not None and (fetched := _stored(name, known, platforms, bench)):
        return fetched
    opened: list[tuple[Source, Document]] = []

    def ask() -> str:
        source, wanted = open_source(
            reference, bench.config, bench.client, insecure=bench.insecure, reporter=bench.reporter
        )
        document = source.document(wanted)
        opened.append((source, document))
        return document.digest

    if known is None:
        digest = bench.resolved(name, ask)
        if fetched := _stored(name, digest, platforms, bench):
            return fetched
    if not opened:
        ask()
    source, document = opened[0]
    return _brought(name, document, source, platforms, bench)


def fetch_layout(origin: LayoutModel, platforms: Sequence[Platform], bench: Bench) -> Fetched:
    """Bring a model of an OCI layout on disk into the store; its name is that in the layout, which no folder is part of.

    Raises NotFoundError and FormatError where the layout has it not, or several to choose from.
    """
    layout = open_layout(origin.reference)
    wanted = str(origin.digest or only_tag(layout, origin.reference))
    name = origin.reference.tag or wanted
    document = layout.document(wanted)
    return _stored(name, document.digest, platforms, bench) or _brought(name, document, layout, platforms, bench)


def stored_model(name: str, platforms: Sequence[Platform], bench: Bench) -> Fetched | None:
    """Return what a name of the store stands for; None where it has no such name. Raises IntegrityError if it is not whole."""
    tag = bench.store.find(name)
    if tag is None:
        return None
    fetched = _stored(tag.name, tag.descriptor.digest, platforms, bench)
    if fetched is None:
        msg = f"{clean(tag.name)} is in the store, and not whole"
        raise IntegrityError(
            msg, hint="`lading verify --repair` fetches what is missing; or build, pull or pack it again"
        )
    return fetched


def _brought(name: str, document: Document, source: Source, platforms: Sequence[Platform], bench: Bench) -> Fetched:
    manifests = _manifests(name, document, source, platforms)
    blobs = {blob.digest: blob for manifest in manifests for blob in manifest.blobs}
    bench.lease.add([document.digest, *(manifest.digest for manifest in manifests), *blobs])
    target = Stopping(bench)
    for manifest in manifests:
        plan = make_plan(manifest, bench.store.has)
        bench.store.require_room(plan.missing)
        copy.move(plan.missing, source, target, bench.reporter, plan.files)
        bench.store.put_document(manifest, None)
    bench.store.put_document(document, None)
    return Fetched(name, document, manifests[0], bench, present=False)


def _stored(name: str, digest: str, platforms: Sequence[Platform], bench: Bench) -> Fetched | None:
    """Return what is here whole of a document."""
    store = bench.store
    try:
        document = store.document(digest)
        manifests = _manifests(name, document, store, platforms)
    except NotFoundError:
        return None
    blobs = {blob.digest: blob for manifest in manifests for blob in manifest.blobs}
    bench.lease.add([document.digest, *(manifest.digest for manifest in manifests), *blobs])
    if not all(store.has(blob) for blob in blobs.values()) or store.blobs.size(document.digest) is None:
        return None
    return Fetched(name, document, manifests[0], bench, present=True)


def _manifests(name: str, document: Document, source: Source, platforms: Sequence[Platform]) -> tuple[Manifest, ...]:
    """Return the manifests for the platforms that are there, at least one."""
    if not isinstance(document, Index) or not any(entry.platform for entry in document.manifests):
        return (single_manifest(document, source.document, name),)
    found: dict[str, Manifest] = {}
    missing: NotFoundError | None = None
    for platform in platforms:
        try:
            manifest = single_manifest(document, source.document, name, platform)
        except NotFoundError as error:
            missing = missing or error
            continue
        found[manifest.digest] = manifest
    if missing is not None and not found:
        raise missing
    return tuple(found.values())


class _ImageFiles:
    """An image's files as a shelf: its layers are looked into when somebody asks."""

    def __init__(self, manifest: Manifest, row: artifact.Format, bench: Bench) -> None:
        self._manifest = manifest
        self._row = row
        self._bench = bench

    def names(self, root: str, /) -> Collection[str]:
        """Return the files at or below a path, as a container would find them; links are left out."""
        return [f"/{path}" for path in self._found(root)]

    def take(self, names: Collection[str], /) -> Mapping[str, Held]:
        """Bring files out of their layers."""
        taken = {}
        for name in names:
            archive, entry = self._found(name)[name[1:]]
            taken[name] = _held(part_of(archive, entry, Role.OTHER, name[1:]), self._bench)
        return taken

    def _found(self, root: str) -> dict[str, tuple[Archive, Entry]]:
        archives, listing = self._listed
        wanted = root.strip("/")
        roots = (wanted,) if wanted else tuple(self._tops)
        return files_in_image(archives, listing, roots)

    @cached_property
    def _listed(self) -> tuple[tuple[Archive, ...], Listing]:
        store = self._bench.store
        archives = self._row.archives(self._manifest, store.read(self._manifest.config))
        return archives, list_stored(archives, store)

    @cached_property
    def _tops(self) -> set[str]:
        archives, listing = self._listed
        return {entry.name.partition("/")[0] for archive in archives for entry in listing.of(archive)} - {""}


def _held(part: Part, bench: Bench) -> Held:
    """Return a part's file as a blob of its own."""
    if part.member is None:
        bench.lease.add([part.blob.digest])
        return Held(part.blob.digest, part.blob.size)
    of = described("member", part.blob.digest, part.member.path, part.member.offset, part.member.size)
    found = bench.recall(of)
    if found is None:
        with closing(open_part(part, bench.store)) as reader:
            found = {part.name: bench.receive(part.name, part.size, reader)}
        bench.keep(of, found)
    return next(iter(found.values()))
