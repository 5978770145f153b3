"""Where a built model goes: an archive or layout, a registry, or an engine's own images."""

from __future__ import annotations

import shutil
from dataclasses import replace
from platform import machine
from typing import TYPE_CHECKING, Literal

from lading import fs
from lading import reference as refs
from lading.api._deliver import Origin, Wish, deliver
from lading.api.lookup import parse
from lading.build.program import run
from lading.errors import NotFoundError, UnfitError, UsageError
from lading.manifest import Platform
from lading.plan import single_manifest
from lading.recipe.scope import read_platform
from lading.runtime.process import Command, tethered
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lading.api.results import Built, Delivered
    from lading.api.session import Session
    from lading.digest import Digest
    from lading.manifest import Manifest

Engine = Literal["podman", "docker"]
_ENGINE_SEES = (
    "PATH", "HOME", "USER", "TMPDIR", "LANG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
    "CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "DBUS_SESSION_BUS_ADDRESS",
)  # fmt: skip
_PLACES = "-o oci-layout:DIR[:tag], or -o FILE.tar"


def check_wishes(names: Sequence[str], formats: str, *, output: str | None, engine: str | None, push: bool) -> None:
    """Raise UsageError, before anything is built, for what could not be done with it afterwards."""
    if output is not None:
        place_of(output, names)
    if engine and (not names or "image" not in formats.split(",")):
        reason = "this one has no name" if not names else "none is built"
        msg = f"{engine} takes a named image, and {reason}"
        raise UsageError(msg, hint="name it with -t NAME, and build --format image")
    for name in names if push else ():
        if not isinstance(refs.parse(name), refs.Oci):
            msg = f"`{clean(name)}` says no registry to push to"
            raise UsageError(msg, hint="-t host/repository:tag")


def place_of(text: str, names: Sequence[str]) -> refs.Layout | refs.Archive:
    """Return the layout or archive that `-o` names, with the model's name as the tag where it says none."""
    named = parse(f"oci-archive:{text}" if text.endswith(".tar") and not text.startswith("oci-") else text)
    if not isinstance(named, refs.Layout | refs.Archive) or text.startswith("type="):
        msg = f"`{clean(text)}` is no place for a built model"
        raise UsageError(msg, hint=_PLACES)
    return named if named.tag else replace(named, tag=names[0] if names else "latest")


def write_out(session: Session, built: Built, text: str) -> Delivered:
    """Write a built model to a layout or an archive."""
    if built.digest is None:
        msg = "nothing was built that could be written"
        raise NotFoundError(msg)
    store = session.store
    document = store.document(built.digest)
    name = built.names[0] if built.names else built.digest.short
    origin = Origin(name, store, document, (), local=True)
    with store.use(blob.digest for blob in store.reach(document)):
        return deliver(session, origin, place_of(text, built.names), Wish())


def hand_over(session: Session, built: Built, engine: Engine, environment: Mapping[str, str]) -> str:
    """Give a built model to podman or docker, under its first name, and return what the engine said.

    Raises UsageError for a model without a name or an image, UnfitError where the engine is not here, LadingError with
    its words where it refuses.
    """
    image = next((form for form in built.forms if form.format == "image"), None)
    if not built.names or image is None:
        msg = f"{engine} takes a named image, and {'none was built' if image is None else 'this one has no name'}"
        raise UsageError(msg, hint="name it with -t NAME, and build --format image")
    program = shutil.which(engine, path=environment.get("PATH", ""))
    if program is None:
        msg = f"{engine} is not here"
        raise UnfitError(msg, hint=f"install {engine}, or write an archive with -o FILE.tar")
    name = built.names[0]
    store = session.store
    manifest = _for_this_machine(session, image.digest, name)
    fs.make_folder(store.work / "cache")
    with fs.scratch(store.work / "cache" / f"{engine}-{image.digest.hex}") as folder:
        archive = folder / "image.tar"
        origin = Origin(name, store, manifest, (), local=True)
        with store.use(blob.digest for blob in store.reach(manifest)):
            deliver(session, origin, refs.Archive("oci", str(archive), name), Wish())
        seen = {key: value for key, value in environment.items() if key in _ENGINE_SEES}
        ended = run(Command(tethered((program, "load", "--input", str(archive))), seen), lambda _line: None)
    if ended.code:
        failed = f"{engine} does not take {name}"
        raise ended.failure(failed)
    return ended.lines[-1] if ended.lines else ""


def _for_this_machine(session: Session, digest: Digest, name: str) -> Manifest:
    """Return the one image that an engine here can take: engines load no index of several."""
    here = read_platform(machine())
    wanted = Platform(architecture=here.architecture, os=here.system)
    store = session.store
    return single_manifest(store.document(digest), store.document, name, wanted)
