from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from lading.hardware.cores import usable_cores, usable_processors

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="affinity and control groups are Linux's")


def machine(root: Path, siblings: dict[int, str], cgroup: str = "", files: dict[str, str] | None = None) -> Path:
    for number, text in siblings.items():
        folder = root / f"sys/devices/system/cpu/cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{text}\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in (files or {}).items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(text)
    return root


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


def test_this_machine_has_at_least_one_core_and_no_more_than_processors() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.usefixtures("eight")
def test_processors_are_counted_within_affinity_and_quota_with_both_threads_of_a_core(tmp_path: Path) -> None:
    pairs = {number: f"{number // 2 * 2}-{number // 2 * 2 + 1}" for number in range(8)}
    free = machine(tmp_path / "free", pairs, "0::/\n", {"cpu.max": "max 100000"})
    assert (usable_cores(free), usable_processors(free)) == (4, 8)
    tight = machine(tmp_path / "tight", pairs, "0::/\n", {"cpu.max": "350000 100000"})
    assert (usable_cores(tight), usable_processors(tight)) == (3, 3)


@pytest.mark.usefixtures("eight")
def test_two_threads_of_a_core_count_once(tmp_path: Path) -> None:
    pairs = {number: f"{number % 4},{number % 4 + 4}" for number in range(8)}
    assert usable_cores(machine(tmp_path, pairs)) == 4


@pytest.mark.usefixtures("eight")
def test_without_topology_each_processor_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "250000 100000\n"}, 2),
        ("0::/a\n", {"a/cpu.max": "50000 100000\n"}, 1),
        ("0::/host/path\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/a\n", {"a/cpu.max": "nonsense\n"}, 8),
        ("4:cpu,cpuacct:/c\n", {"cpu/c/cpu.cfs_quota_us": "500000\n", "cpu/c/cpu.cfs_period_us": "100000\n"}, 5),
        ("4:cpu,cpuacct:/c\n", {"cpu/c/cpu.cfs_quota_us": "-1\n", "cpu/c/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_the_tightest_quota_of_the_control_groups_holds(
    tmp_path: Path, cgroup: str, files: dict[str, str], cores: int
) -> None:
    assert usable_cores(machine(tmp_path, {}, cgroup, files)) == cores
