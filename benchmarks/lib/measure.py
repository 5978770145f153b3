"""Runs commands by turns and compares them: wall and CPU seconds and peak memory of each run, medians, paired ratios."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GB = 1e9
RUNS = 5


@dataclass(frozen=True)
class Run:
    """One run of a command: seconds and MiB. `served` are the CPU seconds that its server spent meanwhile."""

    wall: float
    cpu: float
    peak: float
    served: float = 0.0


def _nothing() -> None:
    pass


def _idle() -> float:
    return 0.0


@dataclass(frozen=True)
class Contender:
    """A command to be measured; `before` makes ready for each run of it and is not timed."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None
    before: Callable[[], None] = _nothing


def asked_runs(about: str | None, default: int = RUNS) -> int:
    """Return how many rounds are wanted: --runs, else BENCH_RUNS, else `default`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--runs", type=int, default=int(os.environ.get("BENCH_RUNS", default)), help="rounds that count"
    )
    runs: int = parser.parse_args().runs
    if runs < 1:
        parser.error("--runs is 1 or more")
    return runs


def once(
    command: Sequence[str], environment: Mapping[str, str] | None = None, server_cpu: Callable[[], float] = _idle
) -> Run:
    """Run a command to its end and return what it took; raises SystemExit with its words if it fails."""
    served = server_cpu()
    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        error = process.stderr.read() if process.stderr else b""
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        message = f"{' '.join(command)} exited with {process.returncode}: {error.decode(errors='replace')[-2000:]}"
        raise SystemExit(message)
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, server_cpu() - served)


def rounds(contenders: Sequence[Contender], runs: int, server_cpu: Callable[[], float] = _idle) -> dict[str, list[Run]]:
    """Run all contenders by turns, after one round that does not count, and return the runs of each in order.

    The n-th runs of two contenders lie seconds apart, so that their ratio bears a machine whose speed changes.
    """
    seen: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for turn in range(runs + 1):
        for contender in contenders:
            contender.before()
            run = once(contender.command, contender.environment, server_cpu)
            if turn:
                seen[contender.name].append(run)
    return seen


def median(runs: Sequence[Run]) -> Run:
    """Return the medians of a contender's runs, and the highest of its peaks."""
    return Run(
        statistics.median(run.wall for run in runs),
        statistics.median(run.cpu for run in runs),
        max(run.peak for run in runs),
        statistics.median(run.served for run in runs),
    )


def beside(ours: Sequence[Run], theirs: Sequence[Run]) -> float:
    """Return our wall time in units of theirs: the median of the ratios within each round."""
    return statistics.median(our.wall / their.wall for our, their in zip(ours, theirs, strict=True))
