"""How much memory this process may use: the machine's, within the limits of its control groups."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from lading.hardware.groups import groups

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(r"^(MemTotal|MemAvailable):\s+([0-9]+) kB$", re.MULTILINE)
_RECLAIMABLE = re.compile(r"^(?:total_)?inactive_file ([0-9]+)$", re.MULTILINE)
# Version 1 writes a number near 2**63 where there is no limit.
_NO_LIMIT = 2**60


class Memory(NamedTuple):
    """Bytes; None where the system does not tell."""

    total: int | None
    available: int | None


def memory(root: Path) -> Memory:
    """Return the memory that this process may have and what of it is free; `root` is where /proc and /sys are looked for."""
    total, available = _of_the_machine(root)
    for folder in groups(root, "memory"):
        limit, used = _of_the_group(folder)
        if limit is None:
            continue
        total = limit if total is None else min(total, limit)
        if used is not None:
            left = max(0, limit - used)
            available = left if available is None else min(available, left)
    return Memory(total, available if available is None or total is None else min(available, total))


def _of_the_machine(root: Path) -> Memory:
    with suppress(OSError):
        found = {name: int(number) * 1024 for name, number in _LINE.findall((root / "proc/meminfo").read_text())}
        return Memory(found.get("MemTotal"), found.get("MemAvailable"))
    with suppress(OSError, ValueError, AttributeError):
        return Memory(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None)
    return Memory(None, None)


def _of_the_group(folder: Path) -> tuple[int | None, int | None]:
    """Return a group's limit and what counts against it that the kernel could not take back."""
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit = _number(folder / limit_name)
        if limit is None or limit >= _NO_LIMIT:
            continue
        used = _number(folder / used_name)
        if used is None:
            return limit, None
        stat = ""
        with suppress(OSError):
            stat = (folder / "memory.stat").read_text()
        pages = [int(number) for number in _RECLAIMABLE.findall(stat)]
        return limit, max(0, used - max(pages, default=0))
    return None, None


def _number(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None
