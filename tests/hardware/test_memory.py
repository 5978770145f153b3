from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lading.hardware.memory import Memory, memory

if TYPE_CHECKING:
    from pathlib import Path

# Captured on the machine that this was written on (Linux 6.18), some lines left out.
MEMINFO = """\
MemTotal:       24684084 kB
MemFree:        21044940 kB
MemAvailable:   22329524 kB
Buffers:           72408 kB
Cached:          1340748 kB
SwapTotal:             0 kB
"""
TOTAL, AVAILABLE = 24684084 * 1024, 22329524 * 1024


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    written = {"proc/meminfo": MEMINFO, "proc/self/cgroup": cgroup}
    for name, text in {**written, **{f"sys/fs/cgroup/{key}": value for key, value in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_limits_the_memory_is_the_machines(tmp_path: Path) -> None:
    assert memory(machine(tmp_path, "0::/\n", {"memory.stat": "anon 1\n"})) == (TOTAL, AVAILABLE)


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/a\n", {"a/memory.max": "max\n", "a/memory.current": "9\n"}, Memory(TOTAL, AVAILABLE)),
        ("0::/a\n", {"a/memory.max": "1000\n", "a/memory.current": "400\n"}, Memory(1000, 600)),
        (
            "0::/a\n",
            {"a/memory.max": "1000\n", "a/memory.current": "400\n", "a/memory.stat": "anon 5\ninactive_file 300\n"},
            Memory(1000, 900),
        ),
        ("0::/a/b\n", {"a/memory.max": "2000\n", "a/b/memory.max": "5000\n"}, Memory(2000, 2000)),
        ("0::/a\n", {"a/memory.max": "1000\n", "a/memory.current": "1400\n"}, Memory(1000, 0)),
        ("0::/host/only\n", {"memory.max": "3000\n", "memory.current": "1000\n"}, Memory(3000, 2000)),
        (
            "5:memory:/c\n",
            {"memory/c/memory.limit_in_bytes": "7000\n", "memory/c/memory.usage_in_bytes": "1000\n"},
            Memory(7000, 6000),
        ),
        ("5:memory:/c\n", {"memory/c/memory.limit_in_bytes": "9223372036854771712\n"}, Memory(TOTAL, AVAILABLE)),
        ("5:cpu:/c\n", {"memory/c/memory.limit_in_bytes": "7000\n"}, Memory(TOTAL, AVAILABLE)),
        ("0::/a\n", {"a/memory.max": "nonsense\n"}, Memory(TOTAL, AVAILABLE)),
    ],
)
def test_the_tightest_limit_of_the_control_groups_holds(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: Memory
) -> None:
    assert memory(machine(tmp_path, cgroup, files)) == expected


def test_a_machine_without_proc_still_tells_its_total(tmp_path: Path) -> None:
    found = memory(tmp_path)
    assert found.total is not None
    assert found.total > 2**20
