"""Hardware that somebody says is there: sizes (`24GiB`), or a machine by name (`rtx4090x2`)."""

from __future__ import annotations

import re
from dataclasses import replace

from lading.errors import UsageError
from lading.hardware.device import Device

_GIBIBYTE = 1024**3
_TERA = 10**12
_MOST = 16
_SIZE = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)\s*(MiB|GiB|TiB|MB|GB|TB)", re.IGNORECASE)
_NAME = re.compile(r"([a-z0-9-]+?)(?:x([0-9]{1,2}))?", re.IGNORECASE)
_UNITS = {
    "mib": 1024**2,
    "gib": _GIBIBYTE,
    "tib": 1024**4,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}

PROFILES = {
    # https://www.nvidia.com/en-us/geforce/graphics-cards/30-series/rtx-3060-3060ti/ (12 GB, 192 bit at 15 Gbit/s)
    "rtx3060": Device("GeForce RTX 3060", "NVIDIA", 12 * _GIBIBYTE, bandwidth=0.360 * _TERA, source="profile"),
    # https://www.nvidia.com/en-us/geforce/graphics-cards/40-series/rtx-4090/ (24 GB, 384 bit at 21 Gbit/s)
    "rtx4090": Device("GeForce RTX 4090", "NVIDIA", 24 * _GIBIBYTE, bandwidth=1.008 * _TERA, source="profile"),
    # https://www.nvidia.com/en-us/data-center/l40s/ and its data sheet (48 GB with ECC, 864 GB/s; some 45 GiB are left)
    "l40s": Device("L40S", "NVIDIA", 45 * _GIBIBYTE, bandwidth=0.864 * _TERA, source="profile"),
    # https://www.nvidia.com/en-us/data-center/a100/ and its data sheet 1758950-r4 (80 GB SXM, 2,039 GB/s)
    "a100": Device("A100 80GB", "NVIDIA", 79 * _GIBIBYTE, bandwidth=2.039 * _TERA, source="profile"),
    # https://www.nvidia.com/en-us/data-center/h100/ and its data sheet (80 GB SXM, 3.35 TB/s)
    "h100": Device("H100 80GB", "NVIDIA", 79 * _GIBIBYTE, bandwidth=3.35 * _TERA, source="profile"),
}
"""Devices by the name they are asked for with; NAMExN is N of them."""


def size(text: str) -> int:
    """Read a size with its unit (24GiB, 512 MiB, 80GB); raises UsageError for anything else, or nothing."""
    match = _SIZE.fullmatch(text.strip())
    count = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if not count:
        msg = f"`{text}` is not a size"
        raise UsageError(msg, hint="a number and MiB, GiB or TiB (or MB, GB, TB): 24GiB")
    return count


def device_of(text: str) -> Device:
    """Return a device of a size; raises UsageError."""
    return Device(text.strip(), memory=size(text), source="given")


def machine(name: str) -> tuple[Device, ...]:
    """Return the devices of a named machine, such as h100 or rtx4090x2; raises UsageError for one that has no profile."""
    match = _NAME.fullmatch(name.strip())
    known = PROFILES.get(match[1].lower()) if match else None
    count = int(match[2] or 1) if match else 0
    if known is None or not 1 <= count <= _MOST:
        msg = f"there is no profile `{name}`"
        raise UsageError(
            msg, hint=f"one of {', '.join(PROFILES)}, several as {next(iter(PROFILES))}x2; or --device 24GiB"
        )
    return tuple(replace(known, name=f"{known.name} {index}" if count > 1 else known.name) for index in range(count))
