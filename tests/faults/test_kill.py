"""Each system call with which a command touches the store may be its last, or fail: nothing is lost, nothing is stuck.

A sample of the calls; `make soak` strikes every one of them.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import strikes
from strikes import COMMANDS, FAULTS, Point, strike

if TYPE_CHECKING:
    from pathlib import Path

    from trials import World

    from .conftest import Record

pytestmark = pytest.mark.integration

SAMPLE = {"KILL": 12, "EIO": 6, "ENOSPC": 6}


@pytest.fixture(scope="session")
def strace() -> str:
    program, why_not = strikes.strace()
    if program is None:
        pytest.skip(why_not)
    return program


@pytest.fixture(scope="session")
def points(strace: str, world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Point]]:
    """Every call of each command that touches the store."""
    log = tmp_path_factory.mktemp("trace") / "log"
    return {command: strikes.find(strace, world, command, log) for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_call_that_is_the_last_or_fails_loses_nothing(
    strace: str,
    world: World,
    points: dict[str, list[Point]],
    tmp_path: Path,
    record: Record,
    fault_seed: int,
    fault: str,
    command: str,
) -> None:
    eligible = [point for point in points[command] if point.may(fault)]
    assert len(eligible) >= 3, f"{command} touches the store {len(eligible)} times"
    rng = random.Random(f"{fault_seed} {command} {fault}")
    chosen = rng.sample(eligible, min(SAMPLE[fault], len(eligible)))
    struck = sum(strike(strace, world, command, point, fault, tmp_path / "log") for point in chosen)
    assert struck
    record("system calls", fault, command, struck)


def test_a_pull_killed_fifty_times_needs_only_the_same_command(world: World, record: Record, fault_seed: int) -> None:
    deaths = sum(world.killed(fault_seed * 50 + number).strikes for number in range(50))
    assert deaths >= 10, "most pulls were over before they were killed"
    record("random moments", "KILL", "pull", deaths)
