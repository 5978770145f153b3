"""Devices that the kernel shows in /sys/class/drm and /sys/class/kfd: AMD's with their memory, Intel's with theirs if they say.

mem_info_vram_total and mem_info_vram_used are amdgpu's (https://docs.kernel.org/gpu/amdgpu/driver-misc.html), in bytes.
kfd's topology is what ROCm computes on: an AMD device without a node there has no driver for it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lading.hardware.device import Device
from lading.hardware.rocm import QUERY, from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lading.hardware.rocm import Card

_AMD, _INTEL = "0x1002", "0x8086"
_CARD = re.compile(r"card[0-9]+")
_GIBIBYTE = 1024**3
# An integrated device has some of the host's memory carved out for it, and works in the rest.
_CARVED_OUT = 4 * _GIBIBYTE


def drm_devices(root: Path, ask: Callable[[Sequence[str]], str | None] | None = None) -> list[Device]:
    """Return AMD's and Intel's devices in the order of their cards.

    With `ask`, which runs a program and returns what it prints or None, rocm-smi names AMD's devices, and tells of those
    that only the compute driver shows.
    """
    amd: list[tuple[str | None, Device]] = []
    intel: list[Device] = []
    computing = _kfd_locations(root)
    with suppress(OSError):
        cards = [path for path in (root / "sys/class/drm").iterdir() if _CARD.fullmatch(path.name)]
        for card in sorted(cards, key=lambda path: int(path.name[4:])):
            vendor = _text(card / "device/vendor")
            if vendor == _AMD:
                amd.append((_slot(card / "device"), _amd(card / "device", computing)))
            elif vendor == _INTEL:
                intel.append(_intel(card / "device"))
    if ask is not None and (amd or computing) and (said := ask(QUERY)) is not None:
        amd = _named(amd, from_json(said))
    return [*(device for _, device in amd), *intel]


def _named(found: list[tuple[str | None, Device]], cards: list[Card]) -> list[tuple[str | None, Device]]:
    """Return the devices with the names of the cards in the same place; cards alone where the kernel shows no device."""
    if not found:
        return [(card.slot, _from_card(card)) for card in cards]
    names = {card.slot: card.name for card in cards if card.slot and card.name}
    return [(slot, replace(device, name=names.get(slot or "", device.name))) for slot, device in found]


def _from_card(card: Card) -> Device:
    free = None if card.memory is None or card.used is None else max(0, card.memory - card.used)
    shared = card.memory is not None and card.memory <= _CARVED_OUT
    return Device(card.name or "AMD device", "AMD", card.memory, free, shared=shared, source="rocm-smi")


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
