"""Push: copy a model from the store to a registry or a layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading import copy
from lading import reference as refs
from lading.api.lookup import local, parse
from lading.api.results import Pushed
from lading.errors import NotFoundError, UsageError
from lading.plan import make_plan, single_manifest
from lading.store import Store
from lading.transport import open_target
from lading.transport.local import tidy

if TYPE_CHECKING:
    from lading.api.session import Session
    from lading.digest import Digest
    from lading.pace import Pace
    from lading.reference import Reference

_MAX_MOUNTS = 4


def push(
    session: Session,
    name: str,
    destination: str | None = None,
    *,
    parallel: int = copy.PARALLEL,
    pace: Pace | None = None,
) -> Pushed:
    """Write a model of the store to where its name says, or to `destination`.

    `pace` limits the speed. Blobs that are there are skipped, those in another repository of the same registry mounted; the manifest goes last.
    Raises UsageError for a local name without a destination, IntegrityError for a blob that was changed in the store.
    """
    tag = local(session, name)
    if tag is None:
        msg = f"no model is named `{name}` in the store"
        raise NotFoundError(msg, hint="`lading list` shows what is there")
    reference = parse(destination or tag.name)
    if isinstance(reference, refs.Name):
        msg = f"`{reference.name}` names no place to push to"
        raise UsageError(msg, hint=f"say where: lading push {tag.name} registry.example.org/team/name:tag")
    manifest = single_manifest(session.store.document(tag.name), session.store.document, tag.name)
    target, wanted = open_target(
        reference,
        session.config,
        lambda: session.client,
        insecure=session.insecure,
        mount_from=_siblings(session, reference, manifest.digest),
    )
    try:
        with session.store.use([manifest.digest, *(blob.digest for blob in manifest.blobs)]):
            plan = make_plan(manifest, target.has)
            copied = copy.run(plan, session.store, target, wanted, session.reporter, parallel=parallel, pace=pace)
    finally:
        if isinstance(target, Store):
            tidy(target)
    return Pushed(str(reference), manifest.digest, copied.total_bytes, copied.moved_bytes)


def _siblings(session: Session, reference: Reference, digest: Digest) -> tuple[str, ...]:
    """Return other repositories of the registry that this model, by its names in the store, is known to be in."""
    if not isinstance(reference, refs.Oci):
        return ()
    found = []
    for tag in session.store.tags():
        if tag.descriptor.digest == digest:
            for text in (tag.name, tag.reference):
                other = parse(text) if text else None
                if isinstance(other, refs.Oci) and other.host == reference.host:
                    found.append(other.repository)
    return tuple(dict.fromkeys(name for name in found if name != reference.repository))[:_MAX_MOUNTS]
