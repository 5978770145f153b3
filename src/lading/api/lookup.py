"""From the words a user typed to the place a model is: local tags, short names, transports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lading import reference as refs
from lading.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from lading.api.session import Session
    from lading.reference import Reference
    from lading.store import Tag

_MAX_HOPS = 4


def parse(text: str) -> Reference:
    """Read a reference; a bare word that ends like weights and is a file here is that file."""
    return refs.parse(text, is_file=lambda path: Path(path).is_file())


def stored_name(reference: Reference) -> str | None:
    """Return the tag a reference goes by in the store; None for files and layouts."""
    match reference:
        case refs.Name(name):
            return name
        case refs.Oci() | refs.Hub() | refs.Ollama() | refs.Url():
            return reference.stored
        case _:
            return None


def local(session: Session, text: str) -> Tag | None:
    """Return what the store holds under the words as they are, or under the name their reference goes by."""
    if tag := session.store.find(text):
        return tag
    name = stored_name(parse(text))
    return session.store.find(name) if name else None


def remote(session: Session, text: str) -> Reference:
    """Return where to ask for a model: what a tag was pulled from, a short name's reference, else the default transport.

    Raises NotFoundError for a local tag that came from nowhere else, UsageError for a short name that leads in a circle.
    """
    named = parse(text)
    for _hop in range(_MAX_HOPS):
        if not isinstance(named, refs.Name):
            return named
        if tag := session.store.find(named.name):
            return _origin(tag)
        short = session.config.short_names().get(named.name)
        if short is None and named.name.endswith((".gguf", ".safetensors")):
            msg = f"{named.name} is no file here, and no model in the store has that name"
            raise NotFoundError(msg, hint="check how it is written, and from which folder")
        if short is None:
            return _default(session.config.transport, named.name)
        named = parse(short)
    msg = f"the short name `{text}` leads in a circle"
    raise UsageError(msg, hint="see shortnames.toml")


def tag_name(name: str) -> str:
    """Return the tag that `-t` stands for: the words as they are, a registry reference with its `:latest`.

    Raises UsageError for what cannot be a tag.
    """
    try:
        stored = None if "://" in name else stored_name(refs.parse(name))
    except UsageError:
        stored = None
    if stored is None:
        msg = f"{name!r} cannot be the name of a model"
        raise UsageError(msg, hint="a name is like story:1, or host/repository:tag to push it there")
    return stored


def _origin(tag: Tag) -> Reference:
    if tag.reference is None:
        msg = f"`{tag.name}` was packed here: there is nowhere to pull it from"
        raise NotFoundError(msg, hint=f"`lading inspect {tag.name}` shows it; it can be run as it is")
    return refs.parse(tag.reference)


def _default(transport: str, name: str) -> Reference:
    try:
        return refs.parse(f"{transport}://{name}")
    except UsageError as error:
        msg = f"no model is named `{name}` here, and `{transport}://{name}` is no reference"
        raise NotFoundError(
            msg, hint="`lading list` shows what is here; a registry's model is host/name:tag"
        ) from error
