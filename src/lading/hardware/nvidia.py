"""NVIDIA's devices: named by the driver in /proc, and told in full by nvidia-smi, if one may be asked.

The columns are those of `nvidia-smi --help-query-gpu`; memory is in MiB. A device in MIG mode is not one memory but
several: its instances are told by `nvidia-smi -L` without their sizes beyond the profile's name (`1g.10gb`).
https://docs.nvidia.com/datacenter/tesla/mig-user-guide/
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from lading.hardware.device import Device

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

VENDOR = "NVIDIA"

_COLUMNS = ("index", "name", "memory.total", "memory.free", "mig.mode.current")
_QUERY = ("nvidia-smi", f"--query-gpu={','.join(_COLUMNS)}", "--format=csv,noheader,nounits")
_LIST = ("nvidia-smi", "-L")
# What the columns of memory say on a chip that shares the host's (Grace, Tegra); other words are those of trouble.
_NOT_ITS_OWN = frozenset({"[N/A]", "[Not Supported]"})
_MEBIBYTE = 1024 * 1024
_GIGABYTE = 10**9
_MODEL = re.compile(r"^Model:\s*(.+?)\s*$", re.MULTILINE)
_GPU = re.compile(r"GPU ([0-9]+): ")
_INSTANCE = re.compile(r"\s+MIG (\S*?([0-9]+)gb\S*)\s+Device\s+[0-9]+:")


def nvidia_devices(root: Path, ask: Callable[[Sequence[str]], str | None] | None) -> list[Device]:
    """Return the devices; with `ask`, which runs a program and returns what it prints or None, their memory too."""
    if ask is not None and (said := ask(_QUERY)) is not None:
        instances = ask(_LIST) or "" if "Enabled" in said else ""
        if devices := from_query(said, instances):
            return devices
    found = []
    with suppress(OSError):
        for folder in sorted((root / "proc/driver/nvidia/gpus").iterdir()):
            with suppress(OSError):
                model = _MODEL.search((folder / "information").read_text(errors="replace"))
                problem = "nvidia-smi does not answer" if ask is not None else ""
                found.append(Device(model[1] if model else "GPU", VENDOR, source="/proc", problem=problem))
    return found


def from_query(said: str, instances: str = "") -> list[Device]:
    """Read what nvidia-smi prints for the columns asked for; lines that are no devices are passed over.

    `instances` is what `nvidia-smi -L` prints: a device in MIG mode is replaced by its instances there.
    """
    import csv  # noqa: PLC0415 - where there is a driver

    parts = _instances(instances)
    devices: list[Device] = []
    for row in csv.reader(said.splitlines(), skipinitialspace=True):
        if len(row) != len(_COLUMNS) or not row[0].strip().isdigit():
            continue
        index, name, total, free, mig = (cell.strip() for cell in row)
        if mig == "Enabled":
            there = [
                Device(f"{name} MIG {profile}", VENDOR, gigabytes * _GIGABYTE, source="nvidia-smi")
                for profile, gigabytes in parts.get(int(index), [])
            ]
            bare = Device(name, VENDOR, source="nvidia-smi", problem="in MIG mode and without an instance")
            devices += there or [bare]
            continue
        memory, left = _bytes(total), _bytes(free)
        shared = total in _NOT_ITS_OWN
        problem = "" if shared or memory is not None else f"nvidia-smi says {total}"
        devices.append(Device(name, VENDOR, memory, left, shared=shared, source="nvidia-smi", problem=problem))
    return devices


def _bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * _MEBIBYTE if mebibytes.isdigit() else None


def _instances(said: str) -> dict[int, list[tuple[str, int]]]:
    found: dict[int, list[tuple[str, int]]] = {}
    gpu = -1
    for line in said.splitlines():
        if match := _GPU.match(line):
            gpu = int(match[1])
        elif match := _INSTANCE.match(line):
            found.setdefault(gpu, []).append((match[1], int(match[2])))
    return found
