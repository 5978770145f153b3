"""Tells what machine the figures come from: what matters to them, and nothing that names it."""

from __future__ import annotations

import os
import platform
import ssl
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".tools/bench"
"""Results, and what the benchmarks write while they run: one file system for all."""


def describe() -> dict[str, str]:
    """Return the parts of the machine and their kinds, for a table."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return {
        "CPU": _cpu(),
        "Cores": str(len(os.sched_getaffinity(0))),
        "Memory": f"{memory:.0f} GiB",
        "Kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "File system": _file_system(WORK),
        "Python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION.rsplit(' ', 3)[0]}",
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    name = fields.get("model name", platform.machine())
    family = f", family {fields['cpu family']}, model {fields['model']}" if "cpu family" in fields else ""
    sha = ", with SHA instructions" if "sha_ni" in fields.get("flags", "").split() else ""
    return f"{name}{family}{sha}"


def _file_system(folder: Path) -> str:
    # The longest mount point above the folder wins; of those mounted over one another, the last.
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, point, name = line.split()[:3]
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, name
    return kind
