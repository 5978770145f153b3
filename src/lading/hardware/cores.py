"""How many cores this process may really use: one thread too many makes generation many times slower."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lading.hardware.groups import groups

if TYPE_CHECKING:
    from collections.abc import Collection


def usable_cores(root: Path = Path("/")) -> int:
    """Return the physical cores within this process's affinity and its control group's quota, at least 1.

    `root` is where /sys and /proc are looked for. Where the system tells nothing, its count of processors is taken.
    """
    cores = {_siblings(root, number) for number in _allowed()}
    return max(1, min(len(cores), _quota(root)))


def usable_processors(root: Path = Path("/")) -> int:
    """Return the same in hardware threads, for work that two threads of a core do faster than one: hashing does."""
    return max(1, min(len(_allowed()), _quota(root)))


def _allowed() -> Collection[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # macOS has no affinity
        return range(os.cpu_count() or 1)


def _siblings(root: Path, number: int) -> str:
    """Return the hardware threads of a processor's core, the same text for each of them."""
    try:
        return (root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(number)


def _quota(root: Path) -> int:
    """Return the processors' worth of time that the tightest control group grants (cgroups(7), cpu.max)."""
    tightest = math.inf
    for folder in groups(root, "cpu"):
        tightest = min(tightest, _quota_of(folder))
    return 2**31 if tightest == math.inf else max(1, math.floor(tightest))


def _quota_of(folder: Path) -> float:
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        return math.inf if limit <= 0 else limit / int((folder / "cpu.cfs_period_us").read_text())
    return math.inf
