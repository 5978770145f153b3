"""Pull of one file behind a plain URL, which nobody described: it becomes a ModelPack of its own."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from lading import artifact, media
from lading.api.clock import now
from lading.api.results import Pulled
from lading.errors import UsageError
from lading.events import Advanced, Finished, Started
from lading.facts import HeaderFile, read_facts
from lading.manifest import Descriptor
from lading.model import Model, Part, Role, role_of
from lading.transport.web import look

if TYPE_CHECKING:
    from lading.api._pull import Way
    from lading.api.session import Session
    from lading.pace import Pace
    from lading.reference import Url
    from lading.store import Adopted, Lease
    from lading.transport.web import WebFile

_BLOB = "application/octet-stream"


def pull_file(session: Session, reference: Url, name: str, *, way: Way) -> Pulled:
    """Fetch a file of weights and name it in the store; its header is read before the rest of it."""
    file = look(reference.url, session.client, insecure=session.insecure)
    if role_of(file.name) is not Role.WEIGHTS:
        msg = f"{reference} does not end in the name of a weights file"
        raise UsageError(msg, hint="a URL to pull ends in .gguf or .safetensors")
    session.store.require_space(file.size)
    row = artifact.named("modelpack")
    with session.store.lease() as lease:
        with closing(file.ranges()) as ranges:
            read_facts([HeaderFile(Role.WEIGHTS, file.name, lambda: ranges)])
        adopted = _receive(session, file, lease, way.pace)
        blob = Descriptor(media_type=_BLOB, digest=adopted.digest, size=adopted.size)
        part = Part(Role.WEIGHTS, file.name, blob)
        # Once more, from the bytes that were kept: what the header said before they came proves nothing.
        facts = read_facts([HeaderFile(Role.WEIGHTS, file.name, lambda: session.store.ranges(blob))])
        written = row.write(Model((part,), facts), None)
        manifest = written.manifest
        lease.add([manifest.config.digest, manifest.digest])
        session.store.put_bytes(written.config)
        session.store.put_bytes(manifest.raw)
        annotations = {media.REFERENCE: str(reference), media.SOURCE: str(reference), media.PULLED: now()}
        before = session.store.find(name)
        session.store.tag(name, manifest, annotations)
    replaced = before.descriptor.digest if before and before.descriptor.digest != manifest.digest else None
    return Pulled(
        name=name,
        digest=manifest.digest,
        format=row.name,
        total_bytes=adopted.size,
        new_bytes=0 if adopted.how == "present" else adopted.size,
        up_to_date=before is not None and replaced is None,
        replaced=replaced,
    )


def _receive(session: Session, file: WebFile, lease: Lease, pace: Pace | None) -> Adopted:
    session.reporter.emit(Started(file.url, "weights", file.name, file.size))
    with closing(pace.reader(file.open()) if pace else file.open()) as reader:
        adopted = session.store.put_unknown(
            file.name, file.size, reader, lambda done: session.reporter.emit(Advanced(file.url, done)), lease=lease
        )
    session.reporter.emit(Finished(file.url))
    return adopted
