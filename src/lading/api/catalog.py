"""The models of the store: list, tag, remove, prune, verify."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from lading import fs, media
from lading.api.documents import FactsDocument, ModelDocument, PartDocument, facts_document, part_document
from lading.errors import LadingError, NotFoundError
from lading.events import Advanced, Started
from lading.manifest import Index
from lading.plan import single_manifest
from lading.text import told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lading.api.session import Session
    from lading.digest import Digest
    from lading.store import Store, Tag
    from lading.store.sweep import Fault, Pruned

_CACHE_VERSION = 3


class _Summary(msgspec.Struct, frozen=True):
    # What `list` shows of a manifest; it follows from the digest, so it may be kept for ever.
    format: str
    model: FactsDocument
    parts: tuple[PartDocument, ...]
    blobs: dict[str, int]
    settings: dict[str, Any]
    annotations: dict[str, str]


class _Cache(msgspec.Struct, frozen=True):
    version: int
    summaries: dict[str, _Summary]


def list_models(session: Session) -> tuple[ModelDocument, ...]:
    """Return all named models, sorted by name.

    `broken` says why one cannot be read, or what is known to be wrong with its files; none is read for that.
    """
    store = session.store
    tags = sorted(store.tags(), key=lambda tag: tag.name)
    summaries = _summaries(store, tags)
    known = (summaries[tag.descriptor.digest] for tag in tags)
    users = _users(known)
    faults = store.blobs.linked.faults(store.blobs.path)
    return tuple(_listed(tag, summaries[tag.descriptor.digest], users, faults) for tag in tags)


def _listed(tag: Tag, summary: _Summary | str, users: Counter[str], faults: Mapping[Digest, str]) -> ModelDocument:
    known = _UNKNOWN if isinstance(summary, str) else summary
    if isinstance(summary, str):
        broken: str | None = summary
    else:
        broken = next((why for digest, why in faults.items() if digest in known.blobs), None) if faults else None
    return ModelDocument(
        reference=tag.name,
        digest=str(tag.descriptor.digest),
        format=known.format,
        media_type=tag.descriptor.media_type,
        size=sum(part.size for part in known.parts),
        model=known.model,
        parts=known.parts,
        stored=True,
        own_size=sum(size for blob, size in known.blobs.items() if users[blob] == 1),
        shared_size=sum(size for blob, size in known.blobs.items() if users[blob] > 1),
        settings=known.settings,
        annotations=known.annotations,
        source=tag.source and told(tag.source),
        pulled=tag.pulled,
        broken=broken,
    )


def bytes_of(session: Session, one: Tag) -> tuple[int, int]:
    """Return how many bytes of a name's blobs no other name needs, and how many another one does."""
    tags = session.store.tags()
    summaries = _summaries(session.store, list(tags))
    users = _users(summaries[tag.descriptor.digest] for tag in tags)
    summary = summaries.get(one.descriptor.digest)
    blobs = summary.blobs if isinstance(summary, _Summary) else {}
    own = sum(size for blob, size in blobs.items() if users[blob] == 1)
    return own, sum(blobs.values()) - own


def users_of_blobs(session: Session) -> Counter[str]:
    """Return how many names of the store need each blob, by digest."""
    tags = session.store.tags()
    summaries = _summaries(session.store, list(tags))
    return _users(summaries[tag.descriptor.digest] for tag in tags)


def index_format(index: Index) -> str:
    """Return the formats of which an index holds one model, as `--format` takes them; `index` for any other."""
    forms = dict.fromkeys(entry.annotations.get(media.FORM, "") for entry in index.manifests)
    return ",".join(forms) if forms and "" not in forms else "index"


def _users(summaries: Iterable[_Summary | str]) -> Counter[str]:
    return Counter(blob for summary in summaries if isinstance(summary, _Summary) for blob in summary.blobs)


def tag(session: Session, name: str, new_name: str) -> Digest:
    """Give a model of the store a second name and return its digest."""
    found = session.store.find(name)
    if found is None:
        msg = f"no model is named `{name}` in the store"
        raise NotFoundError(msg, hint="`lading list` shows what is there")
    kept = {
        key: value
        for key, value in found.descriptor.annotations.items()
        if key in (media.SOURCE, media.REFERENCE, media.PULLED, media.PACKED)
    }
    document = session.store.document(found.name)
    session.store.tag(new_name, document, kept)
    return document.digest


def remove(session: Session, names: Iterable[str]) -> tuple[str, ...]:
    """Drop names from the store and return those dropped; the bytes stay until `prune`.

    All names are looked up first: one that is not there drops none.
    """
    from lading.api.lookup import local  # noqa: PLC0415 - the look-up is needed here only

    found = []
    for name in names:
        model = local(session, name)
        if model is None:
            msg = f"no model is named `{name}` in the store"
            raise NotFoundError(msg, hint="`lading list` shows what is there")
        found.append(model.name)
    for name in found:
        session.store.untag(name)
    return tuple(found)


def prune(session: Session, *, dry_run: bool = False, build_cache: bool = False) -> Pruned:
    """Free what no name reaches and nothing in use needs; with `build_cache` what steps of builds made, too."""
    from lading.store import sweep  # noqa: PLC0415 - loads the thread pool of `verify`

    return sweep.prune(session.store, dry_run=dry_run, build_cache=build_cache)


def verify(session: Session) -> Iterator[tuple[Digest, int, Fault | None]]:
    """Read every blob of the store on all cores; yield digest, size in bytes, and the fault if there is one.

    The reporter hears how far it is under the key `verify`, and nothing at the end: what was found says more.
    """
    from lading.hardware.cores import usable_processors  # noqa: PLC0415 - as above
    from lading.store import sweep  # noqa: PLC0415 - as above

    blobs = session.store.blobs
    total = sum(blobs.size(digest) or 0 for digest in blobs.digests())
    session.reporter.emit(Started("verify", "verify", "the store", total))

    def progress(done: int) -> None:
        session.reporter.emit(Advanced("verify", done))

    yield from sweep.verify(session.store, threads=usable_processors(), progress=progress)


def _summaries(store: Store, tags: list[Tag]) -> dict[Digest, _Summary | str]:
    path = store.work / "cache" / "summaries.json"
    try:
        cache = _DECODER.decode(path.read_bytes())
        known = cache.summaries if cache.version == _CACHE_VERSION else {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        known = {}
    found: dict[Digest, _Summary | str] = {}
    for one in tags:
        digest = one.descriptor.digest
        if digest not in found:
            found[digest] = known.get(digest) or _summarize(store, one)
    fresh = {digest: summary for digest, summary in found.items() if isinstance(summary, _Summary)}
    if fresh.keys() - known.keys():
        _remember(store, fresh)
    return found


def _summarize(store: Store, one: Tag) -> _Summary | str:
    from lading import artifact  # noqa: PLC0415 - what the cache knows needs no reader of formats
    from lading.artifact.unpack import read_stored  # noqa: PLC0415 - as above

    try:
        document = store.document(str(one.descriptor.digest))
        manifest = single_manifest(document, store.document, one.name)
        row = artifact.detect(manifest, one.name)
        model = read_stored(row, manifest, store)
        reached = tuple(store.reach(document))
    except LadingError as error:
        return error.message
    return _Summary(
        index_format(document) if isinstance(document, Index) else row.name,
        facts_document(model.facts),
        tuple(part_document(part) for part in model.parts),
        {str(blob.digest): blob.size for blob in reached},
        dict(model.facts.settings),
        dict(model.facts.annotations),
    )


def _remember(store: Store, summaries: dict[Digest, _Summary]) -> None:
    try:
        fs.make_folder(store.work / "cache")
        fs.atomic_write(
            store.work / "cache" / "summaries.json",
            msgspec.json.encode(
                _Cache(_CACHE_VERSION, {str(digest): summary for digest, summary in summaries.items()})
            ),
        )
    except LadingError:
        # A store that cannot be written to, or a full disk: the list is right all the same, only slower.
        return


_UNKNOWN = _Summary("", FactsDocument(), (), {}, {}, {})
_DECODER = msgspec.json.Decoder(_Cache)
