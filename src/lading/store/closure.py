"""What a root of the store reaches: the manifests, configs and layers that must be there for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lading.digest import Digest
from lading.errors import FormatError
from lading.manifest import MANIFEST_KINDS, MAX_DOCUMENT, Descriptor, Index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.store import Store

_MENTION = re.compile(rb"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})")


def closure(store: Store, root: Descriptor) -> Iterator[Descriptor]:
    """Yield everything a root reaches, itself first, each digest once.

    Of an index, only the entries that the store holds are followed. A document of a type that lading does
    not know keeps every blob that its bytes mention. Raises the document's own error if one is missing or damaged.
    """
    told: set[Digest] = set()
    opened: set[Digest] = set()
    waiting = [root]
    while waiting:
        blob = waiting.pop()
        if blob.digest not in opened:
            opened.add(blob.digest)
            leaves, documents = _named_by(store, blob)
            waiting += documents
            for one in (blob, *leaves):
                if one.digest not in told:
                    told.add(one.digest)
                    yield one


def _named_by(store: Store, blob: Descriptor) -> tuple[tuple[Descriptor, ...], list[Descriptor]]:
    if blob.media_type not in MANIFEST_KINDS:
        return (), list(_mentioned(store, blob))
    document = store.document(str(blob.digest))
    if isinstance(document, Index):
        present = [entry for entry in document.manifests if store.blobs.size(entry.digest) is not None]
        return (), present[::-1]
    return document.blobs, []


def _mentioned(store: Store, blob: Descriptor) -> Iterator[Descriptor]:
    size = store.blobs.size(blob.digest)
    if size is None or size > MAX_DOCUMENT:
        return
    raw = store.read(Descriptor(media_type=blob.media_type, digest=blob.digest, size=size))
    for mention in _MENTION.findall(raw):
        digest = _digest(mention)
        if digest and (length := store.blobs.size(digest)) is not None:
            yield Descriptor(media_type="", digest=digest, size=length)


def _digest(mention: bytes) -> Digest | None:
    try:
        return Digest(mention.decode("ascii"))
    except FormatError:
        return None
