"""Prepare: from a reference to files on disk that a runtime can open, leased for as long as they are used."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lading import artifact
from lading import reference as refs
from lading.api._selection import ANY, from_document
from lading.api.lookup import local, parse, with_quant
from lading.artifact.contents import part_ranges, read_part
from lading.artifact.unpack import read_stored, unpack
from lading.build.wishes import settings_of, template_of, understood, unheeded
from lading.digest import Digest
from lading.errors import AccessDeniedError, FormatError, NotFoundError, UnfitError
from lading.events import Noted
from lading.facts import HeaderFile, read_facts
from lading.formats.shards import shard_of
from lading.model import Role
from lading.package import open_draft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.api._selection import Selection
    from lading.api.results import Pulled
    from lading.api.session import Session
    from lading.manifest import Manifest
    from lading.model import Model, ModelFacts, Part
    from lading.recipe.command import Command

_MAX_PARAMS = 64 * 1024
_OPENED = (Role.WEIGHTS, Role.PROJECTOR, Role.TEMPLATE)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be served: files on disk, and what it says of itself.

    `weights` is the first shard. `parameters` are the artifact's own wishes, not yet checked. `digest` is None and
    `held` empty for a bare model, whose `files` are used as they lie; `pulled` tells of a pull that had to come first.
    """

    name: str
    digest: Digest | None
    weights: Path
    projector: Path | None
    template: Path | None
    facts: ModelFacts
    parameters: dict[str, object]
    held: tuple[Digest, ...]
    files: tuple[Path, ...] = ()
    pulled: Pulled | None = None


@contextmanager
def prepare(session: Session, text: str, selection: Selection = ANY) -> Iterator[Prepared]:
    """Yield the files of a model, which stay in the store until the block ends.

    A local tag or file is used at once, unless it is another quantization than `selection` names; anything else is pulled
    first. Every file is checked as the store checks what
    it opens. Raises UnfitError for a model that no runtime here can serve.
    """
    reference = parse(text)
    if isinstance(reference, refs.File):
        yield _from_files(Path(reference.path).expanduser())
        return
    text = with_quant(text, selection.quant)
    tag = local(session, text)
    pulled = None
    if tag is not None and not _is_meant(session, tag.name, selection):
        tag = None
    if tag is None:
        from lading.api._pull import pull  # noqa: PLC0415 - a model that is here needs no pull

        pulled = pull(session, text, selection=selection)
        name = pulled.name
    else:
        name = tag.name
    store = session.store
    document = store.document(name)
    manifest = from_document(session, store, document, name, selection)
    with ExitStack() as stack:
        stack.enter_context(store.use([manifest.digest, *(blob.digest for blob in manifest.blobs)]))
        # Known by the digest that build, pull and list show, which of several platforms is the index's.
        yield replace(_from_store(session, name, manifest, pulled, stack), digest=document.digest)


def _is_meant(session: Session, name: str, selection: Selection) -> bool:
    """Say whether a model of the store is, or an index there has, the quantization that is asked for."""
    if selection.quant is None and selection.platform is None:
        return True
    try:
        from_document(session, session.store, session.store.document(name), name, selection)
    except NotFoundError:
        tag = session.store.find(name)
        # What was packed here can be had from nowhere else.
        if tag is None or tag.reference is None:
            raise
        return False
    return True


def _from_store(session: Session, name: str, manifest: Manifest, pulled: Pulled | None, stack: ExitStack) -> Prepared:
    store = session.store
    row = artifact.detect(manifest, name)
    model = read_stored(row, manifest, store)
    _require_gguf(model.facts.format, name)
    parts = [part for part in model.parts if part.role in _OPENED]
    facts = read_facts([HeaderFile(part.role, part.name, partial(part_ranges, part, store)) for part in parts])
    _require_one_model([part.name for part in parts if part.role is Role.WEIGHTS], name)
    places = _places(session, name, manifest.digest, parts)
    paths = {role: [place for part, place in zip(parts, places, strict=True) if part.role is role] for role in _OPENED}
    left = [part.name for part in model.of(Role.ADAPTER)]
    if left:
        session.reporter.emit(Noted(f"adapters are not served yet: {', '.join(left)}", warning=True))
    command = _understood(session, model)
    wished = settings_of(command) if command else {}
    for text in unheeded(command) if command else ():
        session.reporter.emit(Noted(f"the model's command asks in vain for {text}", warning=True))
    return Prepared(
        name=name,
        digest=manifest.digest,
        weights=paths[Role.WEIGHTS][0],
        projector=next(iter(paths[Role.PROJECTOR]), None),
        template=next(iter(paths[Role.TEMPLATE]), None) or _written_out(session, command, stack),
        facts=facts,
        parameters={**_parameters(session, model), **wished, **model.facts.settings},
        held=(manifest.digest, *(blob.digest for blob in manifest.blobs)),
        pulled=pulled,
    )


def _understood(session: Session, model: Model) -> Command | None:
    try:
        return understood(model.facts.command)
    except FormatError as error:
        session.reporter.emit(Noted(f"the command in the artifact is not understood: {error.message}", warning=True))
        return None


def _written_out(session: Session, command: Command | None, stack: ExitStack) -> Path | None:
    """Return a file of the chat template that a command holds written out, leased until the stack is closed."""
    text = template_of(command) if command else None
    if text is None:
        return None
    store, data = session.store, text.encode("utf-8", "replace")
    path = store.blobs.path(Digest.of(data))
    if not store.writable and not path.exists():
        note = "the model's own chat template is used: the store, where that of its command would go, is read-only"
        session.reporter.emit(Noted(note, warning=True))
        return None
    stack.enter_context(store.lease([Digest.of(data)]) if store.writable else nullcontext())
    return path if path.exists() else store.blobs.path(store.put_bytes(data))


def _places(session: Session, name: str, digest: Digest, parts: list[Part]) -> list[Path]:
    """Return where each part lies under its own name; in a store that is read-only, under its digest's if that will do.

    What is packed in layers is unpacked once, beside the links to what is not.
    """
    store = session.store
    packed = [part for part in parts if part.member]
    try:
        if packed:
            unpack(store, digest, packed, session.reporter)
        folder = store.view(digest, [(part.name, part.blob) for part in parts if not part.member])
    except AccessDeniedError as error:
        if store.writable:
            raise
        if packed or sum(part.role is Role.WEIGHTS for part in parts) > 1:
            # A runtime finds the other shards by the name of the first.
            why = (
                "is packed in layers, out of which it goes into" if packed else "has several files, which get names in"
            )
            msg = f"{name} {why} the store {store.root}: it is read-only"
            hint = "run it once when the store can be written to, or pull it into another one with --store"
            raise AccessDeniedError(msg, hint=hint) from error
        return [store.blobs.path(part.blob.digest) for part in parts]
    return [folder / part.name for part in parts]


def _from_files(path: Path) -> Prepared:
    with ExitStack() as stack:
        draft = open_draft(path, stack)
        _require_gguf(draft.facts.format, str(path))
        files = {
            role: [origin.path.absolute() for found, _name, origin in draft.files if found is role] for role in _OPENED
        }
        _require_one_model([file.name for file in files[Role.WEIGHTS]], str(path))
        return Prepared(
            name=str(path),
            digest=None,
            weights=files[Role.WEIGHTS][0],
            projector=next(iter(files[Role.PROJECTOR]), None),
            template=next(iter(files[Role.TEMPLATE]), None),
            facts=draft.facts,
            parameters={},
            held=(),
            files=tuple(path for paths in files.values() for path in paths),
        )


def _parameters(session: Session, model: Model) -> dict[str, object]:
    part = next(iter(model.of(Role.PARAMS)), None)
    if part is None:
        return {}
    try:
        return msgspec.json.decode(read_part(part, session.store, _MAX_PARAMS), type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"the parameters of the model ({part.name}) are no JSON object"
        raise FormatError(msg, hint="the artifact is malformed") from error


def _require_gguf(format_name: str, name: str) -> None:
    if format_name != "gguf":
        msg = f"{name} is a {format_name or 'nameless'} model; the runtimes here serve GGUF"
        raise UnfitError(msg, hint="pull or pack its GGUF form")


def _require_one_model(files: list[str], name: str) -> None:
    if len(files) > 1 and not all(shard_of(file) for file in files):
        msg = f"{name} holds {len(files)} models: {', '.join(files[:5])}"
        raise UnfitError(msg, hint="pack or name one of them")
