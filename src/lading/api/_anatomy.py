"""What an artifact is made of: manifest and config byte for byte, an index's variants, and the tree down to its blobs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lading import artifact, media
from lading import reference as refs
from lading.api.catalog import users_of_blobs
from lading.api.documents import VariantDocument
from lading.api.lookup import local, parse, remote
from lading.artifact.layers import LOOK, list_archives
from lading.artifact.unpack import list_stored
from lading.convert.found import read_small
from lading.errors import FormatError, IntegrityError, NotFoundError, UsageError
from lading.manifest import MANIFEST_KINDS, Index, Manifest
from lading.plan import MAX_DEPTH, MAX_DOCUMENTS, shown_platform
from lading.transport import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lading.api.session import Session
    from lading.artifact.layers import Archive, Listing
    from lading.content import Source
    from lading.digest import Digest
    from lading.manifest import Descriptor, Document
    from lading.model import Part

    Look = Callable[[Iterable[Archive]], Listing]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an artifact is: the name to ask `source` for, what messages call it, and how its archives are looked into.

    `stored` is the name in the store, None elsewhere.
    """

    source: Source
    wanted: str
    shown: str
    look: Look
    stored: str | None = None

    @property
    def document(self) -> Document:
        """The manifest or index."""
        return self.source.document(self.wanted)


@dataclass(frozen=True, slots=True)
class Node:
    """One object of an artifact: `kind` is index, manifest, config or a file's role, `name` a format or a file.

    `size` is in bytes, None where the object is not there. `shared` says that something else needs it, too: another
    name of the store, or another part of this tree.
    """

    kind: str
    name: str
    digest: Digest
    size: int | None
    shared: bool = False
    below: tuple[Node, ...] = ()


def stored_place(session: Session, name: str) -> Place:
    """Return where a model of the store is."""
    return Place(session.store, name, name, partial(list_stored, store=session.store), name)


def remote_place(session: Session, reference: refs.Reference) -> Place:
    """Return where an artifact of a registry, layout or archive is."""
    source, wanted = open_source(
        reference, session.config, lambda: session.client, insecure=session.insecure, reporter=session.reporter
    )
    return Place(source, wanted, str(reference), partial(list_archives, source=source, within=LOOK))


def manifest_bytes(session: Session, text: str) -> bytes:
    """Return the manifest or index that a reference names, byte for byte; raises UsageError for what has none."""
    return _place(session, text).document.raw


def config_bytes(session: Session, text: str) -> bytes:
    """Return the config of the one manifest that a reference names, byte for byte; raises FormatError for an index."""
    place = _place(session, text)
    document = place.document
    if isinstance(document, Index):
        shown = ", ".join(f"{entry.digest.short} ({_form(entry)})" for entry in document.manifests)
        msg = f"{place.shown} is an index, which has no config of its own"
        raise FormatError(msg, hint=f"name one of its manifests by its digest: {shown}" if shown else "it is empty")
    return read_small(document.config, place.source)


def tree(session: Session, text: str) -> Node:
    """Return what a reference names, with all that it is made of. Config and archives are read, weights are not."""
    place = _place(session, text)
    users = users_of_blobs(session) if place.stored else {}
    root = _node(place, place.document, 0)
    counts = Counter(node.digest for node in _all(root))
    return _shared(root, counts, users)


def variants(source: Source, index: Index) -> tuple[VariantDocument, ...]:
    """Return what an index names, in its order; `size` is that of all blobs, null for what is not there."""
    found = []
    for entry in index.manifests[:MAX_DOCUMENTS]:
        below = _below(source, entry)
        size = sum(blob.size for blob in below.blobs) if isinstance(below, Manifest) else None
        found.append(
            VariantDocument(
                format=_form(entry, below),
                platform=shown_platform(entry.platform) if entry.platform else None,
                digest=str(entry.digest),
                size=size,
                media_type=entry.media_type,
                artifact_type=entry.artifact_type,
            )
        )
    return tuple(found)


def _place(session: Session, text: str) -> Place:
    reference = parse(text)
    if not isinstance(reference, refs.File):
        if tag := local(session, text):
            return stored_place(session, tag.name)
        reference = remote(session, text)
    if isinstance(reference, refs.File | refs.Url | refs.Hub):
        msg = f"{text} is no artifact yet, and has no manifest"
        raise UsageError(msg, hint="`lading pack` makes one of a file, `lading pull` of a hub's model")
    return remote_place(session, reference)


def _below(source: Source, entry: Descriptor) -> Document | None:
    if entry.media_type not in MANIFEST_KINDS:
        return None
    try:
        return source.document(str(entry.digest))
    except NotFoundError:
        return None


def _form(entry: Descriptor, document: Document | None = None) -> str:
    if form := entry.annotations.get(media.FORM):
        return form
    if isinstance(document, Index):
        return "index"
    if isinstance(document, Manifest):
        try:
            return artifact.detect(document, "it").name
        except FormatError:
            return document.artifact_type or document.config.media_type
    return shown_platform(entry.platform) if entry.platform else entry.artifact_type or entry.media_type


def _node(place: Place, document: Document, depth: int) -> Node:
    if isinstance(document, Manifest):
        return _manifest_node(place, document)
    below = []
    for entry in document.manifests[:MAX_DOCUMENTS]:
        inner = _below(place.source, entry) if depth < MAX_DEPTH else None
        below.append(_node(place, inner, depth + 1) if inner else Node("manifest", _form(entry), entry.digest, None))
    return Node("index", "", document.digest, len(document.raw), below=tuple(below))


def _manifest_node(place: Place, manifest: Manifest) -> Node:
    parts: tuple[Part, ...] = ()
    name = manifest.artifact_type or manifest.config.media_type
    try:
        row = artifact.detect(manifest, place.shown)
        name = row.name
        config = read_small(manifest.config, place.source)
        parts = row.read(manifest, config, place.look(row.archives(manifest, config))).parts
    except (IntegrityError, NotFoundError):
        # A tree shows what there is; what is wrong with a model is told by those who read it.
        parts = ()
    below = (
        Node("config", "", manifest.config.digest, manifest.config.size),
        *(_layer_node(layer, parts) for layer in manifest.layers),
    )
    return Node("manifest", name, manifest.digest, len(manifest.raw), below=below)


def _layer_node(layer: Descriptor, parts: Iterable[Part]) -> Node:
    inside = [part for part in parts if part.blob.digest == layer.digest]
    path = layer.annotations.get(media.FILE_PATH) or layer.annotations.get(media.TITLE)
    named = next((part for part in inside if part.name == path), None)
    one = named or (inside[0] if len(inside) == 1 else None)
    if one:
        return Node(one.role.value, one.name, layer.digest, layer.size)
    roles = dict.fromkeys(part.role.value for part in inside)
    return Node("+".join(roles) or "layer", path or layer.media_type, layer.digest, layer.size)


def _all(node: Node) -> Iterator[Node]:
    yield node
    for one in node.below:
        yield from _all(one)


def _shared(node: Node, counts: Mapping[Digest, int], users: Mapping[str, int]) -> Node:
    below = tuple(_shared(one, counts, users) for one in node.below)
    shared = counts[node.digest] > 1 or users.get(node.digest, 0) > 1
    return Node(node.kind, node.name, node.digest, node.size, shared, below)
