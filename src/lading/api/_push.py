"""Push: write a model of the store to a registry, a layout or an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading import copy
from lading import reference as refs
from lading.api._deliver import Wish, deliver, of_store
from lading.api.lookup import local, parse
from lading.api.results import Pushed
from lading.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from lading.api.session import Session
    from lading.pace import Pace


def push(
    session: Session,
    name: str,
    destination: str | None = None,
    wish: Wish | None = None,
    *,
    parallel: int = copy.PARALLEL,
    pace: Pace | None = None,
) -> Pushed:
    """Write a model of the store to where its name says, or to `destination`; as it is, or as `wish` says.

    `pace` limits the speed. Blobs that are there are skipped, those in another repository of the same registry mounted;
    the name goes last. Raises UsageError for a local name without a destination, IntegrityError for a blob that was
    changed in the store, NotFoundError for one that is missing there; then nothing is sent.
    """
    tag = local(session, name)
    if tag is None:
        msg = f"no model is named `{name}` in the store"
        raise NotFoundError(msg, hint="`lading list` shows what is there")
    place = parse(destination or tag.name)
    if isinstance(place, refs.Name):
        msg = f"`{place.name}` names no place to push to"
        raise UsageError(msg, hint=f"say where: lading push {tag.name} registry.example.org/team/name:tag")
    origin = of_store(session, tag.name, place)
    blobs = tuple(session.store.reach(origin.document))
    with session.store.use(blob.digest for blob in blobs):
        # A registry that has a blob is never sent it: a damaged one would go unnoticed.
        for blob in blobs:
            session.store.ranges(blob).close()
        done = deliver(session, origin, place, wish or Wish(), parallel=parallel, pace=pace)
    return Pushed(done.destination, done.digest, done.total_bytes, done.new_bytes, done.forms)
