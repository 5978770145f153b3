"""Devices that the kernel shows in /sys/class/drm and /sys/class/kfd: AMD's with their memory, Intel's by name.

mem_info_vram_total and mem_info_vram_used are amdgpu's (https://docs.kernel.org/gpu/amdgpu/driver-misc.html), in bytes.
kfd's topology is what ROCm computes on: an AMD device without a node there has no driver for it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from lading.hardware.device import Device

if TYPE_CHECKING:
    from pathlib import Path

_AMD, _INTEL = "0x1002", "0x8086"
_CARD = re.compile(r"card[0-9]+")
_GIBIBYTE = 1024**3
# An integrated device has some of the host's memory carved out for it, and works in the rest.
_CARVED_OUT = 4 * _GIBIBYTE


def drm_devices(root: Path) -> list[Device]:
    """Return AMD's and Intel's devices in the order of their cards."""
    found = []
    computing = _kfd_locations(root)
    with suppress(OSError):
        cards = [path for path in (root / "sys/class/drm").iterdir() if _CARD.fullmatch(path.name)]
        for card in sorted(cards, key=lambda path: int(path.name[4:])):
            vendor = _text(card / "device/vendor")
            if vendor == _AMD:
                found.append(_amd(card / "device", computing))
            elif vendor == _INTEL:
                found.append(_intel(card / "device"))
    return found


def _amd(folder: Path, computing: set[str] | None) -> Device:
    total, used = _number(folder / "mem_info_vram_total"), _number(folder / "mem_info_vram_used")
    name = _text(folder / "product_name") or f"AMD device {_text(folder / 'device') or '(unknown)'}"
    slot = _slot(folder)
    missing = computing is not None and slot is not None and slot not in computing
    return Device(
        name,
        "AMD",
        total,
        None if total is None or used is None else max(0, total - used),
        shared=total is not None and total <= _CARVED_OUT,
        source="/sys",
        problem="not in /sys/class/kfd: ROCm does not see it" if missing else "",
    )


def _intel(folder: Path) -> Device:
    total = _number(folder / "tile0/physical_vram_size_bytes") or _number(folder / "lmem_total_bytes")
    return Device(f"Intel device {_text(folder / 'device')}", "Intel", total, shared=total is None, source="/sys")


def _slot(folder: Path) -> str | None:
    """Return the place on the PCI bus, as 0000:03:00.0."""
    for line in (_text(folder / "uevent") or "").splitlines():
        if line.startswith("PCI_SLOT_NAME="):
            return line.partition("=")[2]
    return None


def _kfd_locations(root: Path) -> set[str] | None:
    """Return the places on the PCI bus of all nodes that compute; None without kfd."""
    found = set()
    try:
        nodes = list((root / "sys/class/kfd/kfd/topology/nodes").iterdir())
    except OSError:
        return None
    for node in nodes:
        said = dict(line.split(" ", 1) for line in (_text(node / "properties") or "").splitlines() if " " in line)
        with suppress(KeyError, ValueError):
            if int(said["simd_count"]):
                location, domain = int(said["location_id"]), int(said.get("domain", "0"))
                found.add(f"{domain:04x}:{location >> 8:02x}:{location >> 3 & 31:02x}.{location & 7:x}")
    return found


def _text(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text(errors="replace").strip() or None
    return None


def _number(path: Path) -> int | None:
    with suppress(ValueError):
        return int(_text(path) or "")
    return None
