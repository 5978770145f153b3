"""Pull of one file behind a plain URL, which nobody described: it becomes a ModelPack of its own."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from lading import artifact, media
from lading.api._pull import telling_what_is_kept
from lading.api._selection import ANY
from lading.api.clock import now
from lading.api.results import Pulled
from lading.errors import NetworkError, UsageError
from lading.events import Advanced, Finished, Started
from lading.facts import HeaderFile, read_facts
from lading.manifest import Descriptor
from lading.model import Model, Part, Role, role_of
from lading.pace import Paced
from lading.store import Adopted, Version
from lading.store.connections import Connections, Shared
from lading.text import told
from lading.transport.web import WebSource, look

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.api._pull import Way
    from lading.api._selection import Selection
    from lading.api.session import Session
    from lading.content import Source
    from lading.model import ModelFacts
    from lading.reference import Url
    from lading.store import Lease
    from lading.transport.web import WebFile

_BLOB = "application/octet-stream"


def pull_file(session: Session, reference: Url, name: str, *, way: Way, selection: Selection = ANY) -> Pulled:
    """Fetch a file of weights and name it in the store; its header is read before the rest of it where ranges are known.

    A version of the file that is here already costs only the question for it.
    """
    file = look(reference.url, session.client, insecure=session.insecure)
    if role_of(file.name) is not Role.WEIGHTS:
        msg = f"{told(reference.url)} does not end in the name of a weights file"
        raise UsageError(msg, hint="a URL to pull ends in .gguf or .safetensors")
    row = artifact.named("modelpack")
    with session.store.lease() as lease:
        adopted = received(
            session, file, lease, way, judge=lambda facts: selection.refuse_unfit(session, name, facts, ())
        )
        blob = Descriptor(media_type=_BLOB, digest=adopted.digest, size=adopted.size)
        part = Part(Role.WEIGHTS, file.name, blob)
        # From the bytes that were kept: what the header said before they came proves nothing.
        facts = read_facts([HeaderFile(Role.WEIGHTS, file.name, lambda: session.store.ranges(blob))])
        written = row.write(Model((part,), facts), None)
        manifest = written.manifest
        lease.add([manifest.config.digest, manifest.digest])
        session.store.put_bytes(written.config)
        session.store.put_bytes(manifest.raw)
        before = session.store.find(name)
        replaced = before.descriptor.digest if before and before.descriptor.digest != manifest.digest else None
        unchanged = before is not None and replaced is None
        if not unchanged:
            annotations = {media.REFERENCE: str(reference), media.SOURCE: str(reference), media.PULLED: now()}
            session.store.tag(name, manifest, annotations)
    return Pulled(
        name=name,
        digest=manifest.digest,
        format=row.name,
        total_bytes=adopted.size,
        new_bytes=0 if adopted.how == "present" else adopted.size,
        up_to_date=unchanged,
        replaced=replaced,
    )


def received(
    session: Session,
    file: WebFile,
    lease: Lease,
    way: Way,
    *,
    judge: Callable[[ModelFacts], None] = lambda _facts: None,
) -> Adopted:
    """Return a file as a blob that `lease` keeps: fetched, unless this version of it is here.

    `judge` is shown what its header says, where that can be read before the rest, and may raise.
    """
    return _present(session, file, lease) or _fetched(session, file, lease, way, judge)


def _present(session: Session, file: WebFile, lease: Lease) -> Adopted | None:
    if file.digest is not None:
        lease.add([file.digest])
        whole = session.store.blobs.is_whole(file.digest, file.size)
        return Adopted(file.digest, file.size, "present") if whole else None
    return session.store.find_version(_version(file), lease) if file.validator else None


def _fetched(session: Session, file: WebFile, lease: Lease, way: Way, judge: Callable[[ModelFacts], None]) -> Adopted:
    store = session.store
    # Where the server promises a digest the file is a blob like any other; else its version stands for the digest.
    wanted = Descriptor(media_type=_BLOB, digest=file.digest, size=file.size) if file.digest else _version(file).blob
    if not way.resume:
        store.blobs.forget_part(wanted.digest)
    store.require_space(file.size - store.received(wanted))
    if facts := _look_ahead(file):
        judge(facts)
    key = told(file.url)
    connections = Connections(way.parallel)
    source: Source = Paced(WebSource(file), way.pace) if way.pace else Shared(WebSource(file), connections)

    def progress(done: int) -> None:
        session.reporter.emit(Advanced(key, done))

    session.reporter.emit(Started(key, "weights", file.name, file.size))
    # One is the stream's own; the others are for when it is slow.
    connections.borrow()
    with telling_what_is_kept(store, (wanted,)):
        if file.digest:
            adopted = Adopted(file.digest, file.size, store.put_blob(wanted, source, progress) or "received")
        elif file.validator:
            adopted = store.put_version(_version(file), source, progress, lease=lease)
        else:
            with closing(source.open(wanted)) as reader:
                adopted = store.put_unknown(file.name, file.size, reader, progress, lease=lease)
    session.reporter.emit(Finished(key))
    return adopted


def _look_ahead(file: WebFile) -> ModelFacts | None:
    """Refuse what is no weights file before it is fetched; where the server knows no ranges, that is found out after: None."""
    with closing(file.ranges()) as ranges:
        try:
            return read_facts([HeaderFile(Role.WEIGHTS, file.name, lambda: ranges)])
        except NetworkError:
            if not ranges.undivided:
                raise
            return None


def _version(file: WebFile) -> Version:
    return Version(file.url, file.name, file.size, file.validator)
