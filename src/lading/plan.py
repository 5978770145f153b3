"""What a copy has to move: pure, from documents and what the target already holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import media
from lading.errors import FormatError, NotFoundError, UsageError
from lading.manifest import MANIFEST_KINDS, Index, Manifest, Platform
from lading.reference import form_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from lading.digest import Digest
    from lading.manifest import Descriptor, Document

    Fetch = Callable[[str], Document]

MAX_DEPTH = 4
"""How deep indexes may nest; real ones have one level."""

MAX_DOCUMENTS = 256
"""How many manifests and indexes one tree may have; images for every platform there is have some twenty."""

PREFERRED = Platform(architecture="amd64", os="linux")
"""Which image to read where nobody asks for a platform: model files are the same in all."""

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What moves: blobs, each once, split by whether the target has them, then documents. Sizes in bytes.

    `inner` are those that the root reaches, children before their parents.
    """

    root: Document
    missing: tuple[Descriptor, ...]
    present: tuple[Descriptor, ...]
    inner: tuple[Document, ...] = ()

    @property
    def missing_bytes(self) -> int:
        """Bytes to move."""
        return sum(blob.size for blob in self.missing)

    @property
    def total_bytes(self) -> int:
        """Bytes of all blobs, configs included."""
        return self.missing_bytes + sum(blob.size for blob in self.present)

    @property
    def document_bytes(self) -> int:
        """Bytes of the manifests and indexes themselves."""
        return sum(len(document.raw) for document in (*self.inner, self.root))

    @property
    def files(self) -> frozenset[Digest]:
        """The blobs that are layers, and so files or archives of them."""
        return frozenset(
            blob.digest
            for document in (*self.inner, self.root)
            if isinstance(document, Manifest)
            for blob in document.layers
        )


def make_plan(root: Document, has: Callable[[Descriptor], bool], inner: Sequence[Document] = ()) -> Plan:
    """Ask the target about every blob of a document and of those `inner` to it, each digest once.

    Raises FormatError when one digest is declared with two sizes.
    """
    first: dict[Digest, Descriptor] = {}
    for document in (*inner, root):
        for blob in (document.config, *document.layers) if isinstance(document, Manifest) else ():
            if first.setdefault(blob.digest, blob).size != blob.size:
                msg = f"manifest {document.digest.short} gives blob {blob.digest.short} two sizes"
                raise FormatError(msg, hint="the source's manifest is malformed")
    present: list[Descriptor] = []
    missing: list[Descriptor] = []
    for blob in first.values():
        (present if has(blob) else missing).append(blob)
    return Plan(root, tuple(missing), tuple(present), tuple(inner))


def inner_documents(root: Document, fetch: Fetch, name: str) -> tuple[Document, ...]:
    """Return what a document reaches of manifests and indexes, itself excepted, children before their parents.

    `fetch` reads a document by digest. Raises FormatError for a tree of more than `MAX_DEPTH` levels of indexes or
    `MAX_DOCUMENTS` documents, NotFoundError for an entry that is not there.
    """
    found: dict[Digest, Document] = {}
    asked: set[Digest] = {root.digest}

    def reach(document: Document, level: int) -> None:
        for entry in document.manifests if isinstance(document, Index) else ():
            if entry.digest in asked:
                continue
            asked.add(entry.digest)
            if level == MAX_DEPTH:
                raise _too_deep(name)
            if len(asked) > MAX_DOCUMENTS:
                msg = f"{name} is an index of more than {MAX_DOCUMENTS} manifests"
                raise FormatError(msg, hint="no honest artifact needs that; no blob was fetched")
            below = _entry(entry, fetch, name)
            reach(below, level + 1)
            found[below.digest] = below

    reach(root, 0)
    return tuple(found.values())


def of_formats(names: Collection[str], fetch: Fetch) -> str | None:
    """Return the one among tags that is an index of a model in several formats, if all others are its formats' own.

    `fetch` reads a document by tag.
    """
    main = min(names, key=len)
    root = fetch(main)
    entries = root.manifests if isinstance(root, Index) else ()
    own = {form_tag(main, entry.annotations.get(media.FORM, "")) for entry in entries}
    return main if own.issuperset({*names} - {main}) else None


def single_manifest(document: Document, fetch: Fetch, name: str, platform: Platform | None = None) -> Manifest:
    """Return the one model that a document stands for, following indexes.

    `fetch` reads a document by digest. Of an index of one model's formats it is the first whose layers are the files
    themselves; of images for several platforms the one for `platform`, else for linux/amd64; of any other the only
    entry. Raises FormatError for an index of several, naming them, or of none, and for indexes nested deeper than
    `MAX_DEPTH`; NotFoundError where `platform` is not there.
    """
    for _level in range(MAX_DEPTH):
        if isinstance(document, Manifest):
            return document
        document = fetch(str(_chosen(document, name, platform).digest))
    if isinstance(document, Manifest):
        return document
    raise _too_deep(name)


def parse_platform(text: str) -> Platform:
    """Read `os/architecture[/variant]`; raises UsageError."""
    words = text.split("/")
    if len(words) not in (2, 3) or not all(word.isascii() and word.replace("_", "").isalnum() for word in words):
        msg = f"{text!r} is no platform"
        raise UsageError(msg, hint="one is written like linux/amd64 or linux/arm64/v8")
    return Platform(words[1], words[0], *words[2:])


def _chosen(index: Index, name: str, platform: Platform | None) -> Descriptor:
    entries = [entry for entry in index.manifests if not is_note(entry)]
    if platform is not None and any(entry.platform for entry in entries):
        return _for_platform(entries, name, platform)
    if len(entries) == 1:
        return entries[0]
    if raw := next((entry for entry in entries if media.FORM in entry.annotations and not entry.platform), None):
        return raw
    # Images alone: what differs is not the model.
    if entries and all(entry.platform for entry in entries):
        ours = [entry for entry in entries if entry.platform and is_for(entry.platform, PREFERRED)]
        if ours:
            return ours[0]
    shown = ", ".join(f"{entry.digest.short} ({_words(entry)})" for entry in index.manifests[:_SHOWN])
    more = f" and {len(index.manifests) - _SHOWN} more" if len(index.manifests) > _SHOWN else ""
    msg = f"{name} is an index of {len(index.manifests)} manifests, not one model"
    raise FormatError(msg, hint=f"name one by its digest: {shown}{more}" if shown else "it is empty")


def _for_platform(entries: Sequence[Descriptor], name: str, platform: Platform) -> Descriptor:
    for entry in entries:
        if entry.platform and is_for(entry.platform, platform):
            return entry
    msg = f"{name} has nothing for {shown_platform(platform)}"
    there = dict.fromkeys(shown_platform(entry.platform) for entry in entries if entry.platform)
    raise NotFoundError(msg, hint=f"it has {', '.join([*there][:_SHOWN])}")


def is_for(found: Platform, wanted: Platform) -> bool:
    """Say whether what is for one platform is for another; without a variant any will do."""
    same = (found.os, found.architecture) == (wanted.os, wanted.architecture)
    return same and wanted.variant in (None, found.variant)


def is_note(entry: Descriptor) -> bool:
    """Say whether an entry of an index is no model or image, but a statement about one."""
    # BuildKit puts statements about an image beside it, for a platform that does not exist.
    return entry.platform is not None and (entry.platform.os, entry.platform.architecture) == ("unknown", "unknown")


def _entry(entry: Descriptor, fetch: Fetch, name: str) -> Document:
    if entry.media_type not in MANIFEST_KINDS:
        msg = f"{name} is an index with an entry of the unknown type {entry.media_type[:80]}"
        raise FormatError(msg, hint="entries that are manifests and indexes are copied; name one by its digest")
    return fetch(str(entry.digest))


def _too_deep(name: str) -> FormatError:
    msg = f"{name} is an index nested deeper than {MAX_DEPTH} levels"
    return FormatError(msg, hint="no honest artifact needs that; no blob was fetched")


def shown_platform(platform: Platform) -> str:
    """Write a platform as people do: linux/arm64/v8."""
    return "/".join(filter(None, (platform.os, platform.architecture, platform.variant)))


def _words(entry: Descriptor) -> str:
    if entry.platform:
        return shown_platform(entry.platform)
    return entry.annotations.get(media.TITLE) or entry.artifact_type or entry.media_type
