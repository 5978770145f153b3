"""Hardware: what this machine has for a model. Files are read; a program is run only where the caller hands one in."""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lading.hardware.cdi import cdi_devices
from lading.hardware.cores import usable_cores, usable_processors
from lading.hardware.device import Device
from lading.hardware.drm import drm_devices
from lading.hardware.memory import Memory, memory
from lading.hardware.nvidia import nvidia_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Device", "Hardware", "Memory", "hardware"]

_MODEL = re.compile(r"^(?:model name|Model|cpu model)\s*:\s*(.+?)\s*$", re.MULTILINE)
_VULKAN = ("usr/share/vulkan/icd.d", "etc/vulkan/icd.d")
_VULKAN_NAME = re.compile(r"^\s*deviceName\s*=\s*(.+?)\s*$", re.MULTILINE)
# What Apple lets a device use of the memory that it shares with the host, unless told otherwise (iogpu.wired_limit_mb).
_APPLES_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Hardware:
    """What is there. `cores` are physical, `threads` hardware threads, both within affinity and quota.

    `vulkan` are the devices that vulkaninfo names, or without asking it the drivers that are installed; `cdi` what a
    container engine can be asked for.
    """

    processor: str
    architecture: str
    cores: int
    threads: int
    memory: Memory
    devices: tuple[Device, ...] = ()
    vulkan: tuple[str, ...] = ()
    cdi: tuple[str, ...] = ()


def hardware(root: Path = Path("/"), ask: Callable[[Sequence[str]], str | None] | None = None) -> Hardware:
    """Return what this machine has; parts that cannot be read are missing, nothing is raised.

    `root` is where /proc, /sys, /etc and /usr are looked for. `ask` runs a program and returns what it prints, None if it
    is not there or fails; without it nothing is run, NVIDIA's devices have no memory and AMD's no names.
    """
    found = memory(root)
    devices = (*nvidia_devices(root, ask), *drm_devices(root, ask))
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        devices = (_apple(found),)
    return Hardware(
        processor=_processor(root),
        architecture=platform.machine(),
        cores=usable_cores(root),
        threads=usable_processors(root),
        memory=found,
        devices=devices,
        vulkan=_vulkan(root, ask),
        cdi=cdi_devices(root),
    )


def _processor(root: Path) -> str:
    with suppress(OSError):
        match = _MODEL.search((root / "proc/cpuinfo").read_text(errors="replace"))
        if match:
            return match[1]
    # platform.processor would run uname.
    return platform.machine()


def _apple(found: Memory) -> Device:
    usable = None if found.total is None else int(found.total * _APPLES_SHARE)
    return Device("Apple GPU", "Apple", usable, shared=True, source="system")


def _vulkan(root: Path, ask: Callable[[Sequence[str]], str | None] | None) -> tuple[str, ...]:
    if ask is not None and (said := ask(("vulkaninfo", "--summary"))) is not None:
        return tuple(_VULKAN_NAME.findall(said))
    names: set[str] = set()
    for folder in _VULKAN:
        with suppress(OSError):
            names |= {path.stem for path in (root / folder).glob("*.json")}
    return tuple(sorted(names))
