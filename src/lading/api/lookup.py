"""From the words a user typed to the place a model is: local tags, short names, transports."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lading import reference as refs
from lading.errors import AccessDeniedError, NetworkError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


@contextmanager
def telling_guess(text: str, reference: Reference) -> Iterator[None]:
    """Say in the error that ends the block where a bare name was looked for, if it was nowhere to be had."""
    try:
        yield
    except (NotFoundError, NetworkError, AccessDeniedError) as error:
        if isinstance(parse(text), refs.Name) and isinstance(reference, refs.Ollama):
            msg = f"no model here is named `{text}`, and at {reference}: {error.message}"
            raise type(error)(msg, hint=_hint_of_path(text) or error.hint) from error
        raise


def _hint_of_path(text: str) -> str:
    """Return how to name the file or folder that a bare name is in this folder; "" if it is none."""
    path = Path(text)
    if path.suffix == ".tar" and path.is_file():
        return f"for the archive here: oci-archive:{text}, or `lading load {text}`"
    return f"for the {'folder' if path.is_dir() else 'file'} here: ./{text}" if path.exists() else ""


def with_quant(text: str, quant: str | None) -> str:
    """Return a reference to the quantization of a hub's repository; what is no hub's is as it was.

    Raises UsageError where the reference names another one.
    """
    reference = parse(text)
    if quant is None or not isinstance(reference, refs.Hub):
        return text
    if reference.select and reference.select.casefold() != quant.casefold():
        msg = f"{text} and --quant {quant} name two quantizations"
        raise UsageError(msg, hint="leave one of them away")
    return str(replace(reference, select=reference.select or quant))


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


def check_forms(name: str, formats: Sequence[str]) -> None:
    """Raise UsageError unless each of several formats can have a name of its own in the store, behind the model's."""
    for form in formats if len(formats) > 1 else ():
        try:
            tag_name(refs.form_tag(name, form))
        except UsageError:
            msg = f"the form {form} would be named `{refs.form_tag(name, form)}`, which cannot be the name of a model"
            raise UsageError(msg, hint=f"give `{name}` a shorter name, or one with a tag") from None


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
