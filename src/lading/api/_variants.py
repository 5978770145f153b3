"""From a reference to the variants that `fit` weighs: one for each quantization, file or entry of an index."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lading import reference as refs
from lading.api.lookup import local, parse, remote
from lading.errors import NetworkError
from lading.fit.headers import HeaderAt, Tensors, Variant
from lading.text import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lading.api._listed import Repository
    from lading.api.session import Session
    from lading.content import RangeReader
    from lading.store import Tag
    from lading.transport.choice import Choice
    from lading.transport.listing import Listing

# What may be one of several files of a model, or has a config.json beside it.
_SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}\.gguf$|\.safetensors$", re.IGNORECASE)
_MAX_CONFIG = 4 * 1024 * 1024
_PARALLEL = 8


class Found(NamedTuple):
    """What a reference leads to: the variants, and where they are, as messages and documents call it.

    `near` says that they are files on disk, whose headers are read sooner than what was kept of them is written.
    """

    shown: str
    variants: tuple[Variant, ...]
    near: bool = False


def find(session: Session, text: str) -> Found:
    """Return the variants under a reference; nothing of weights is read. Raises the errors of the place."""
    named = parse(text)
    if isinstance(named, refs.File):
        return _of_path(Path(named.path).expanduser())
    if isinstance(named, refs.Hub):
        return _of_hub_or_tag(session, named, text)
    if tag := local(session, text):
        return _of_tag(session, tag)
    place = remote(session, text)
    match place:
        case refs.Hub():
            return of_hub(session, place)
        case refs.Url():
            return _of_url(session, place)
        case _:
            from lading.api._anatomy import remote_place  # noqa: PLC0415 - each kind of place loads its own needs
            from lading.api._artifact_variants import of_artifact  # noqa: PLC0415 - as above

            near = isinstance(place, refs.Layout | refs.Archive)
            return Found(str(place), of_artifact(remote_place(session, place), near=near))


def _of_hub_or_tag(session: Session, named: refs.Hub, text: str) -> Found:
    # What the hub has is the question, also where one of it was pulled; that one answers where the hub does not.
    try:
        return of_hub(session, named)
    except NetworkError:
        tag = local(session, text)
        if tag is None:
            raise
        return _of_tag(session, tag)


def _of_tag(session: Session, tag: Tag) -> Found:
    from lading.api._anatomy import stored_place  # noqa: PLC0415 - each kind of place loads its own needs
    from lading.api._artifact_variants import of_artifact  # noqa: PLC0415 - as above

    return Found(tag.name, of_artifact(stored_place(session, tag.name), near=True))


# -- files ------------------------------------------------------------------------------------------------------------


def _of_path(path: Path) -> Found:
    shown = str(path)
    if not (path.is_dir() or _SHARD.search(path.name)):
        # Without a name to be chosen by, a file is opened whatever it is called.
        return Found(shown, (Variant(path.name, (_file(path),)),), near=True)
    from lading.transport.choice import choose, every  # noqa: PLC0415 - as above

    if path.is_dir():
        base, names = path, [one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file()]
        choices = every(names, shown)
    else:
        base, names = path.parent, [one.name for one in path.parent.iterdir()]
        choices = (replace(choose(names, path.name, shown), projector=None),)

    def place(name: str) -> HeaderAt:
        return _file(base / name)

    def size(names: Iterable[str]) -> int:
        return sum((base / name).stat().st_size for name in names)

    def config(name: str) -> bytes:
        with (base / name).open("rb") as file:
            return file.read(_MAX_CONFIG)

    return Found(shown, _of_choices(choices, place, size, config), near=True)


def _file(path: Path) -> HeaderAt:
    from lading.ranges import FileRanges, open_regular  # noqa: PLC0415 - as above

    return HeaderAt(path.name, lambda: FileRanges(open_regular(path), str(path)))


# -- hubs -------------------------------------------------------------------------------------------------------------


def of_hub(session: Session, reference: refs.Hub, listing: Listing | None = None) -> Found:
    """Return the variants of a hub's repository, or the one that the reference selects.

    Without `listing`, what was listed within minutes is taken, or the hub is asked.
    """
    from lading.api._listed import Listings  # noqa: PLC0415 - as above
    from lading.transport.choice import choose, every  # noqa: PLC0415 - as above

    hubs = session.config.hubs
    endpoint = (hubs.ms_endpoint if reference.hub == "ms" else hubs.hf_endpoint) or ""
    listings = Listings(session.config.store / "cache", stale=session.offline or session.config.offline)
    found = None if listing else listings.get(reference, endpoint)
    if found is None:
        found = listings.put(reference, endpoint, listing or _ask(session, reference))
    names = [file.path for file in found.files]
    base = found.source.partition("@")[0]
    choices = (choose(names, reference.select, base),) if reference.select else every(names, base)
    return Found(base, _of_choices(choices, *_hub_files(session, reference, found)))


def _ask(session: Session, reference: refs.Hub) -> Listing:
    from lading.transport import open_hub  # noqa: PLC0415 - as above

    return open_hub(reference, session.config, session.client, insecure=session.insecure).listing()


def _hub_files(
    session: Session, reference: refs.Hub, found: Repository
) -> tuple[Callable[[str], HeaderAt], Callable[[Iterable[str]], int], Callable[[str], bytes]]:
    files = {file.path: file for file in found.files}

    def look(name: str) -> RangeReader:
        from lading.digest import Digest  # noqa: PLC0415 - as above
        from lading.transport import open_hub  # noqa: PLC0415 - as above
        from lading.transport.listing import ListedFile, ListedSource  # noqa: PLC0415 - as above
        from lading.transport.listing import Listing as Made  # noqa: PLC0415 - as above

        file = files[name]
        # Every byte comes from the commit whose files were listed.
        pinned = replace(reference, revision=found.revision or reference.revision)
        hub = open_hub(pinned, session.config, session.client, insecure=session.insecure)
        digest = Digest(file.sha256) if file.sha256 else None
        listed = ListedFile(file.path, file.size, digest, file.git_sha1, file.xet)
        return ListedSource(hub, session.client, Made(found.source, found.revision, (listed,)), [name]).look(listed)

    def place(name: str) -> HeaderAt:
        file = files[name]
        digest = file.sha256 or (f"git:{file.git_sha1}" if file.git_sha1 else "")
        # What one hub says of a digest is not believed of another's file.
        key = f"{found.asked.partition(' ')[0]} {reference.hub} {digest}" if digest else None
        return HeaderAt(name, partial(look, name), key, remote=True)

    def size(names: Iterable[str]) -> int:
        return sum(files[name].size for name in names)

    def config(name: str) -> bytes:
        reader = look(name)
        return reader.read_at(0, min(reader.size, _MAX_CONFIG))

    return place, size, config


def _of_choices(
    choices: Sequence[Choice],
    place: Callable[[str], HeaderAt],
    size: Callable[[Iterable[str]], int],
    config: Callable[[str], bytes],
) -> tuple[Variant, ...]:
    labels = [choice.quant for choice in choices]
    variants = []
    for choice in choices:
        first = choice.weights[0]
        # A label that several files share names none of them.
        alone = bool(choice.quant) and labels.count(choice.quant) == 1
        if first.lower().endswith(".safetensors"):
            own = next((name for name in sorted(choice.others, key=len) if _base(name) == "config.json"), None)
            weights: tuple[HeaderAt, ...] | Tensors = Tensors(
                size(choice.weights), None if own is None else partial(config, own)
            )
        else:
            weights = tuple(map(place, choice.weights))
        variants.append(
            Variant(
                name=choice.quant if alone else _base(first),
                select=choice.quant if alone else first,
                label=choice.quant,
                weights=weights,
                projectors=(place(choice.projector),) if choice.projector else (),
            )
        )
    return tuple(variants)


def _base(name: str) -> str:
    return name.rpartition("/")[2]


# -- one file behind a URL --------------------------------------------------------------------------------------------


def _of_url(session: Session, reference: refs.Url) -> Found:
    from lading.digest import Digest  # noqa: PLC0415 - as above
    from lading.transport.web import look  # noqa: PLC0415 - as above

    file = look(reference.url, session.client, insecure=session.insecure)
    if file.name.lower().endswith(".safetensors"):
        return Found(told(str(reference)), (Variant(file.name, Tensors(file.size)),))
    version = file.digest or file.validator
    # An address may hold a password, and the cache is no place for that.
    key = Digest.of(f"{reference.url} {file.size} {version}".encode()).hex if version else None
    place = HeaderAt(file.name, file.ranges, key, remote=True)
    return Found(told(str(reference)), (Variant(file.name, (place,)),))
