"""Repair: what is missing or damaged in the store is fetched anew from where a model that needs it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading.api._origins import origin_of
from lading.api.results import Mended, Repaired, Unmended
from lading.errors import IntegrityError, LadingError, NetworkError, NotFoundError, StoppedError
from lading.manifest import MANIFEST_KINDS, Index, Manifest
from lading.store import sweep
from lading.text import told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lading.api._origins import Origin
    from lading.api.session import Session
    from lading.digest import Digest
    from lading.manifest import Descriptor, Document
    from lading.store import Lease, Tag
    from lading.store.sweep import Fault


def repair(session: Session, faults: Iterable[Fault]) -> Repaired:
    """Fetch anew what `verify` found missing or damaged and named models need; every byte is held to its digest.

    Each blob is fetched once, from the first model's origin that still has it. A user's own file is never written to:
    its changed bytes leave the store, not the disk. Raises AccessDeniedError for a store that is read-only,
    StoppedError after Ctrl-C; all other failures are in the result, one for each fault that is left.
    """
    found = {fault.digest: fault for fault in faults}
    with session.store.lease(found) as lease:
        work = _Work(session, lease)
        work.forget_damaged(found)
        tags = session.store.tags()
        # Manifests first: what a damaged one needs is known, and fetched, once it is whole.
        for tag in tags:
            work.mend_documents(tag)
        for tag in tags:
            work.mend_blobs(tag)
    return Repaired(tuple(work.mended.values()), tuple(_left(session, found, work)))


_Where = tuple[str | None, str | None, str | None]


def _where(tag: Tag) -> _Where:
    return (tag.source, tag.reference, tag.packed)


class _Work:
    """A repair on its way: what was mended, what failed with which source, the origins asked so far."""

    def __init__(self, session: Session, lease: Lease) -> None:
        self.mended: dict[Digest, Mended] = {}
        self.failures: dict[Digest, dict[str, LadingError]] = {}
        self._session = session
        self._store = session.store
        self._lease = lease
        self._origins: dict[_Where, Origin | LadingError] = {}

    def forget_damaged(self, faults: Iterable[Digest]) -> None:
        """Remove damaged blobs that still count as whole, because a full disk took no note of their damage."""
        for digest in faults:
            size = self._store.blobs.size(digest)
            whole = size is not None and self._store.blobs.is_whole(digest, size)
            if whole and not self._store.blobs.hashes_to_its_name(digest):
                self._store.blobs.remove(digest)

    def mend_documents(self, tag: Tag) -> None:
        """Fetch what cannot be read of a model's manifest and the indexes over it."""
        for blob in self._documents(tag):
            try:
                self._store.document(str(blob.digest))
            except (IntegrityError, NotFoundError):
                self._mend_document(tag, blob)

    def mend_blobs(self, tag: Tag) -> None:
        """Fetch the configs and layers that a model lacks."""
        for blob in self._documents(tag):
            document = self._readable(blob)
            if isinstance(document, Manifest):
                lacking = tuple(one for one in document.blobs if not self._store.has(one))
                if lacking:
                    self._lease.add([document.digest, *(one.digest for one in lacking)])
                    self._fetch(tag, document, lacking)

    def _documents(self, tag: Tag) -> Iterator[Descriptor]:
        """Yield a model's manifest, or its indexes and the manifests in them that are here; what is mended is followed."""
        waiting = [tag.descriptor]
        seen: set[Digest] = set()
        while waiting:
            blob = waiting.pop()
            if blob.media_type in MANIFEST_KINDS and blob.digest not in seen:
                seen.add(blob.digest)
                yield blob
                document = self._readable(blob)
                if isinstance(document, Index):
                    waiting += [one for one in document.manifests if self._store.blobs.size(one.digest) is not None]

    def _readable(self, blob: Descriptor) -> Document | None:
        try:
            return self._store.document(str(blob.digest))
        except (IntegrityError, NotFoundError):
            return None

    def _mend_document(self, tag: Tag, blob: Descriptor) -> None:
        try:
            document = self._origin(tag).document(blob.digest)
            self._store.put_document(document, None)
        except StoppedError:
            raise
        except LadingError as error:
            self._note(tag, (blob,), error)
        else:
            self._count(tag, blob)

    def _fetch(self, tag: Tag, manifest: Manifest, lacking: tuple[Descriptor, ...]) -> None:
        try:
            self._origin(tag).fetch(manifest, lacking)
        except StoppedError:
            raise
        except LadingError as error:
            left = tuple(blob for blob in lacking if not self._store.has(blob))
            if len(lacking) > 1 and isinstance(error, IntegrityError | NotFoundError):
                # One that is not there any more keeps none of the others from being mended.
                for blob in left:
                    self._fetch(tag, manifest, (blob,))
            else:
                self._note(tag, left, error)
        for blob in lacking:
            if self._store.has(blob):
                self._count(tag, blob)

    def _origin(self, tag: Tag) -> Origin:
        key = _where(tag)
        if key not in self._origins:
            try:
                self._origins[key] = origin_of(self._session, tag, self._lease)
            except StoppedError:
                raise
            except LadingError as error:
                self._origins[key] = error
        origin = self._origins[key]
        if isinstance(origin, LadingError):
            raise origin
        return origin

    def _note(self, tag: Tag, blobs: tuple[Descriptor, ...], error: LadingError) -> None:
        for blob in blobs:
            self.failures.setdefault(blob.digest, {}).setdefault(told(tag.source or ""), error)
        if isinstance(error, NetworkError):
            # It was tried with patience; asking it for every other blob would take as long each time.
            self._origins[_where(tag)] = error

    def _count(self, tag: Tag, blob: Descriptor) -> None:
        self.failures.pop(blob.digest, None)
        self.mended.setdefault(blob.digest, Mended(blob.digest, blob.size, told(tag.source or "")))


def _left(session: Session, found: dict[Digest, Fault], work: _Work) -> Iterator[Unmended]:
    broken = sweep.missing(session.store)
    for digest, fault in (found | broken).items():
        size = session.store.blobs.size(digest)
        damaged = size is not None and not session.store.blobs.is_whole(digest, size)
        if digest in broken or damaged:
            yield Unmended(fault, tuple(work.failures.get(digest, {"": _unexplained(fault)}).items()))


def _unexplained(fault: Fault) -> LadingError:
    if fault.models:
        return IntegrityError(fault.why, hint="pull or pack those models again")
    return IntegrityError("nothing that has a name needs it", hint="`lading prune` frees it")
