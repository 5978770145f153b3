"""Pack: a user's file or folder becomes a named model of the store."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from lading import artifact, media
from lading import copy as mover
from lading.api._deliver import Untold, documents_of, keep
from lading.api._packing import Packing, formed, is_plain
from lading.api.clock import now
from lading.api.lookup import check_forms, tag_name
from lading.api.results import DeliveredForm, PackedFile, PackResult
from lading.events import Noted
from lading.package import NOTHING, bring, open_draft
from lading.package import pack as pack_draft
from lading.plan import make_plan
from lading.reference import form_tag
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lading.api.session import Session
    from lading.convert import Form
    from lading.manifest import Document
    from lading.model import Model
    from lading.package import Given
    from lading.store import Lease


def pack(
    session: Session,
    source: Path,
    name: str,
    *,
    format_name: str = "docker",
    given: Given = NOTHING,
    copy: bool = False,
    dry_run: bool = False,
) -> PackResult:
    """Pack a file, a set of shards or a folder under `name` and return what was made.

    Files come in as copy-on-write twins or hard links where that can be, else as copies; `copy` forces copies.
    `format_name` is a format, or several with commas: then `name` is an index of them, and each has a name of its own.
    `given` goes before what the files say. `dry_run` reads the headers only. Raises FormatError for files that are no
    model.
    """
    rows = tuple(artifact.named(row.name) for row in artifact.several(format_name))
    words = ",".join(row.name for row in rows)
    name = tag_name(name)
    check_forms(name, [row.name for row in rows])
    with ExitStack() as stack:
        draft = open_draft(source, stack, given)
        if draft.replaced:
            names = clean(", ".join(draft.replaced))
            session.reporter.emit(Noted(f"left out for what is given in its place: {names}"))
        if dry_run:
            files = tuple(PackedFile(role, file, origin.before.st_size, "") for role, file, origin in draft.files)
            return PackResult(name, None, words, draft.facts, files)
        lease = stack.enter_context(session.store.lease())
        if is_plain(rows):
            packed = pack_draft(
                draft, session.store, lease, rows[0], session.reporter, copy=copy, created=session.config.created
            )
            model, how = packed.model, packed.how
            root: Document = packed.written.manifest
            forms: tuple[Form, ...] = ()
        else:
            model, how = bring(draft, session.store, lease, session.reporter, copy=copy)
            root, forms = _written(session, lease, model, rows)
        how_packed = Packing.of(words, session.config.created, given).text
        annotations = {media.SOURCE: source.resolve().as_uri(), media.PULLED: now(), media.PACKED: how_packed}
        named = {form_tag(name, form.name): form for form in forms} if len(forms) > 1 else {}
        documents = {name: root, **{tag: form.root for tag, form in named.items()}}
        session.store.tag_all({tag: (document, annotations) for tag, document in documents.items()})
        files = tuple(PackedFile(part.role, part.name, part.blob.size, how[part.name]) for part in model.parts)
        told = tuple(DeliveredForm(form.name, tag, form.root.digest) for tag, form in named.items())
        return PackResult(name, root.digest, words, draft.facts, files, told)


def _written(
    session: Session, lease: Lease, model: Model, rows: Sequence[artifact.Format]
) -> tuple[Document, tuple[Form, ...]]:
    """Write a model, whose files are in the store, there in several formats; leased, and not named."""
    from lading.convert import Press  # noqa: PLC0415 - one format is written without

    store = session.store
    model = replace(model, facts=replace(model.facts, created=session.config.created))
    press = Press(store, session.reporter, store)
    made, left_out = formed(session, store, model, rows, press, store.has)
    for sentence in left_out:
        session.reporter.emit(Noted(sentence, warning=True))
    inner = documents_of(made)
    keep(lease, made.root, inner)
    plan = make_plan(made.root, store.has, inner)
    store.require_space(plan.missing_bytes)
    told = frozenset((*(part.blob.digest for part in model.parts), *press.sent))
    mover.run(plan, made.source, store, None, Untold(session.reporter, told))
    return made.root, made.forms
