"""Pack: a user's file or folder becomes a named model of the store."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from lading import artifact, media
from lading.api.clock import now
from lading.api.lookup import tag_name
from lading.api.results import PackedFile, PackResult
from lading.package import open_draft
from lading.package import pack as pack_draft

if TYPE_CHECKING:
    from pathlib import Path

    from lading.api.session import Session


def pack(
    session: Session,
    source: Path,
    name: str,
    *,
    format_name: str = "docker",
    copy: bool = False,
    dry_run: bool = False,
) -> PackResult:
    """Pack a file, a set of shards or a folder under `name` and return what was made.

    Files come in as copy-on-write twins or hard links where that can be, else as copies; `copy` forces copies.
    `dry_run` reads the headers only. Raises FormatError for files that are no model.
    """
    row = artifact.named(format_name)
    name = tag_name(name)
    with ExitStack() as stack:
        draft = open_draft(source, stack)
        if dry_run:
            files = tuple(PackedFile(role, file, origin.before.st_size, "") for role, file, origin in draft.files)
            return PackResult(name, None, row.name, draft.facts, files)
        lease = stack.enter_context(session.store.lease())
        packed = pack_draft(
            draft, session.store, lease, row, session.reporter, copy=copy, created=session.config.created
        )
        manifest = packed.written.manifest
        session.store.tag(name, manifest, {media.SOURCE: source.resolve().as_uri(), media.PULLED: now()})
        files = tuple(
            PackedFile(part.role, part.name, part.blob.size, packed.how[part.name]) for part in packed.model.parts
        )
        return PackResult(name, manifest.digest, row.name, draft.facts, files)
