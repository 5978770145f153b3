"""Info: what this installation is and uses."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import msgspec

from lading import __version__, artifact, fs
from lading.errors import UnfitError
from lading.runtime import NAMES, choose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.api.session import Session


class RuntimeDocument(msgspec.Struct, frozen=True):
    """A runtime and its version, null when it is not here."""

    name: str
    version: str | None


class InfoDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `info` prints; sizes in bytes."""

    version: str
    python: str
    platform: str
    store: str
    store_models: int
    store_bytes: int
    store_free_bytes: int
    state: str
    config: str
    auth_files: tuple[str, ...]
    formats: tuple[str, ...]
    runtimes: tuple[RuntimeDocument, ...]


def info(session: Session, environment: Mapping[str, str]) -> InfoDocument:
    """Gather the settings in force, the store's figures and the runtimes that are here."""
    store, config = session.store, session.config
    return InfoDocument(
        version=__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}".lower(),
        store=str(store.root),
        store_models=len(store.tags()),
        store_bytes=sum(store.blobs.path(digest).stat().st_size for digest in store.blobs.digests()),
        store_free_bytes=fs.free_bytes(store.root),
        state=str(config.state),
        config=str(config.folder / "config.toml"),
        auth_files=tuple(str(path) for path in config.auth_files),
        formats=tuple(row.name for row in artifact.FORMATS),
        runtimes=tuple(RuntimeDocument(name, _version(name, environment)) for name in NAMES),
    )


def _version(name: str, environment: Mapping[str, str]) -> str | None:
    try:
        return choose(name, environment).version
    except UnfitError:
        return None
