"""Pull: copy a model from where it is into the store, verified."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from lading import artifact, copy, fs, media
from lading import reference as refs
from lading.api.clock import now
from lading.api.lookup import parse, remote, stored_name
from lading.api.results import Pulled
from lading.errors import IntegrityError, NoSpaceError, UsageError
from lading.events import Advanced, Finished, Started
from lading.facts import HeaderFile, read_facts
from lading.manifest import MAX_DOCUMENT, Descriptor, Manifest
from lading.model import Model, Part, Role, role_of
from lading.plan import make_plan, single_manifest
from lading.store.views import safe_parts
from lading.transport import open_source

if TYPE_CHECKING:
    from lading.api.session import Session
    from lading.content import Source
    from lading.reference import Reference
    from lading.store import Adopted, Lease
    from lading.transport.web import WebFile

_RESERVE = 16 * 1024 * 1024
_BLOB = "application/octet-stream"


def pull(session: Session, text: str, *, name: str | None = None, parallel: int = copy.PARALLEL) -> Pulled:
    """Fetch what a reference names, unless it is all here, and name it in the store.

    `name` is the name to give; None gives the one that follows from the reference. The manifest is read and
    understood before the first byte of weights is fetched. Raises the errors of the source, IntegrityError
    for bytes that are not as promised, NoSpaceError before fetching what cannot fit.
    """
    reference = remote(session, text)
    local_name = name or stored_name(parse(text)) or stored_name(reference)
    if isinstance(reference, refs.Url):
        return _pull_file(session, reference, local_name or reference.stored)
    source, wanted = open_source(reference, session.config, lambda: session.client, insecure=session.insecure)
    if local_name is None:
        local_name = wanted
    manifest = single_manifest(source.document(wanted), source.document, str(reference))
    row = artifact.detect(manifest, str(reference))
    before = session.store.find(local_name)
    with session.store.lease([manifest.digest, *(blob.digest for blob in manifest.blobs)]):
        _understand(session, manifest, source, row)
        plan = make_plan(manifest, session.store.has)
        if plan.missing_bytes + _RESERVE > fs.free_bytes(session.store.root):
            raise _no_space(session, plan.missing_bytes)
        copied = copy.run(plan, source, session.store, None, session.reporter, parallel=parallel)
        annotations = {media.REFERENCE: str(reference), media.SOURCE: _pinned(reference, manifest), media.PULLED: now()}
        replaced = before.descriptor.digest if before and before.descriptor.digest != manifest.digest else None
        unchanged = before is not None and replaced is None and not copied.moved_bytes
        if not unchanged:
            session.store.tag(local_name, manifest, annotations)
    return Pulled(
        name=local_name,
        digest=manifest.digest,
        format=row.name,
        total_bytes=copied.total_bytes,
        new_bytes=copied.moved_bytes,
        up_to_date=unchanged,
        replaced=replaced,
    )


def _understand(session: Session, manifest: Manifest, source: Source, row: artifact.Format) -> None:
    # A config that makes no sense, or a file name that leads elsewhere, is refused before gigabytes are fetched.
    if manifest.config.size > MAX_DOCUMENT:
        msg = f"the config of {manifest.digest.short} has {manifest.config.size} bytes; 4 MiB are the most"
        raise IntegrityError(msg, hint="the artifact is malformed")
    if not session.store.has(manifest.config):
        session.store.put_blob(manifest.config, source, lambda _done: None)
    model = row.read(manifest, session.store.read(manifest.config))
    for part in model.parts:
        safe_parts(part.name)


def _pinned(reference: Reference, manifest: Manifest) -> str:
    if isinstance(reference, refs.Oci):
        return f"oci://{refs.with_digest(reference, manifest.digest)}"
    return str(reference)


def _pull_file(session: Session, reference: refs.Url, name: str) -> Pulled:
    from lading.transport.web import look  # noqa: PLC0415 - HTTP is loaded only by those who speak it

    file = look(reference.url, session.client, insecure=session.insecure)
    if role_of(file.name) is not Role.WEIGHTS:
        msg = f"{reference} does not end in the name of a weights file"
        raise UsageError(msg, hint="a URL to pull ends in .gguf or .safetensors")
    if file.size + _RESERVE > fs.free_bytes(session.store.root):
        raise _no_space(session, file.size)
    row = artifact.named("modelpack")
    with session.store.lease() as lease:
        # The header is read before the file is fetched, and again, by `read_facts`, from the verified blob.
        with closing(file.ranges()) as ranges:
            read_facts([HeaderFile(Role.WEIGHTS, file.name, lambda: ranges)])
        adopted = _receive(session, file, lease)
        blob = Descriptor(media_type=_BLOB, digest=adopted.digest, size=adopted.size)
        part = Part(Role.WEIGHTS, file.name, blob)
        facts = read_facts([HeaderFile(Role.WEIGHTS, file.name, lambda: session.store.ranges(blob))])
        written = row.write(Model((part,), facts), None)
        manifest = written.manifest
        lease.add([adopted.digest, manifest.config.digest, manifest.digest])
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


def _receive(session: Session, file: WebFile, lease: Lease) -> Adopted:
    session.reporter.emit(Started(file.url, "weights", file.name, file.size))
    with closing(file.open()) as reader:
        adopted = session.store.put_unknown(
            file.name, file.size, reader, lambda done: session.reporter.emit(Advanced(file.url, done)), lease=lease
        )
    session.reporter.emit(Finished(file.url))
    return adopted


def _no_space(session: Session, needed: int) -> NoSpaceError:
    left = fs.free_bytes(session.store.root)
    msg = f"{needed / 1e9:.2f} GB are to be fetched and {left / 1e9:.2f} GB are free in {session.store.root}"
    return NoSpaceError(msg, hint="free some space (`lading prune` helps), or name another place with --store")
