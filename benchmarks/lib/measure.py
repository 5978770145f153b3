"""Runs commands in turn and compares them: medians of wall and CPU seconds and of peak memory, and their ratios."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class Run:
    """One run of a command: seconds and MiB."""

    wall: float
    cpu: float
    peak: float


def once(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end and return what it took; it must succeed."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        error = process.stderr.read() if process.stderr else b""
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        message = f"{' '.join(command)} exited with {process.returncode}: {error.decode(errors='replace')}"
        raise SystemExit(message)
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(
    commands: Mapping[str, tuple[Sequence[str], Mapping[str, str] | None]],
    *,
    runs: int = 7,
    before: Callable[[str], None] = lambda _name: None,
) -> dict[str, Run]:
    """Run the commands by turns, after one round that does not count, and return each one's medians.

    `before` is called with a command's name ahead of each of its runs.
    """
    seen: dict[str, list[Run]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, (command, environment) in commands.items():
            before(name)
            run = once(command, environment)
            if turn:
                seen[name].append(run)
    return {
        name: Run(
            statistics.median(run.wall for run in done),
            statistics.median(run.cpu for run in done),
            max(run.peak for run in done),
        )
        for name, done in seen.items()
    }


def show(title: str, results: Mapping[str, Run]) -> None:
    """Print a table of medians."""
    print(title)
    for name, run in results.items():
        print(f"  {name:<34} wall {run.wall * 1e3:8.0f} ms   CPU {run.cpu * 1e3:8.0f} ms   peak {run.peak:6.1f} MiB")


def bar(what: str, figure: float, limit: float, unit: str = "") -> None:
    """Print a figure beside the bar it is held to."""
    verdict = "within" if figure <= limit else "OVER"
    print(f"  {what}: {figure:.2f}{unit}, {verdict} the bar of {limit:g}{unit}")
