"""Info: what this installation is and uses, and the machine it is on."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import msgspec

from lading import __version__, artifact, fs
from lading.build.isolation import isolation_level
from lading.errors import UnfitError
from lading.hardware import hardware
from lading.hardware.programs import ask_program
from lading.runtime import NAMES, choose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.api.session import Session


class RuntimeDocument(msgspec.Struct, frozen=True):
    """A runtime and its version, null when it is not here."""

    name: str
    version: str | None


class DeviceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A device that a model can be put on; `shared` says that its memory is the host's, `problem` why it may be of no use."""

    name: str
    vendor: str
    memory_bytes: int | None
    free_bytes: int | None
    shared: bool
    source: str
    problem: str


class HardwareDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine has, within the limits of affinity and control groups.

    `vulkan` are the devices that vulkaninfo names, or the drivers that are installed; `cdi` what containers can be given.
    """

    processor: str
    architecture: str
    cores: int
    threads: int
    memory_bytes: int | None
    available_bytes: int | None
    devices: tuple[DeviceDocument, ...]
    vulkan: tuple[str, ...]
    cdi: tuple[str, ...]


class InfoDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `info` prints; sizes in bytes. `isolation` is how far the converter is locked up: namespaces, bubblewrap, limits."""

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
    isolation: str
    hardware: HardwareDocument


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
        formats=tuple(row.name for row in artifact.EVERY if artifact.is_written(row)),
        runtimes=tuple(RuntimeDocument(name, _version(name, environment)) for name in NAMES),
        isolation=isolation_level(environment),
        hardware=_hardware(),
    )


def _hardware() -> HardwareDocument:
    found = hardware(ask=ask_program)
    return HardwareDocument(
        processor=found.processor,
        architecture=found.architecture,
        cores=found.cores,
        threads=found.threads,
        memory_bytes=found.memory.total,
        available_bytes=found.memory.available,
        devices=tuple(
            DeviceDocument(
                name=device.name,
                vendor=device.vendor,
                memory_bytes=device.memory,
                free_bytes=device.free,
                shared=device.shared,
                source=device.source,
                problem=device.problem,
            )
            for device in found.devices
        ),
        vulkan=found.vulkan,
        cdi=found.cdi,
    )


def _version(name: str, environment: Mapping[str, str]) -> str | None:
    try:
        return choose(name, environment).version
    except UnfitError:
        return None
