"""Run thousands of faulty commands, hold the store to its promises after each, and print the figures.

    python scripts/soak.py --runs 10000 --seed 1
    python scripts/soak.py --runs 0 --calls tag,rm

Every run follows from the seed: `--seed` and the number of a run that is named as a violation repeat it. Then every
system call with which a command touches its store is struck in turn: it is the command's last, or fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

from chaos_proxy import KINDS, WRONG
from checker import BrokenPromiseError
from fault_table import table
from real_registry import start_registry
from strikes import COMMANDS as STRUCK
from strikes import FAULTS, find, strace, strike
from trials import COMMANDS, PULLS, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SMALL, BIG = 400_000, 24 << 20
EVERY_BIG, EVERY_KILL = 41, 20


@dataclass
class Figures:
    """What a number of runs came to."""

    runs: int = 0
    processes: int = 0
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    fetched_again: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Count the runs of another part too."""
        self.runs += other.runs
        self.processes += other.processes
        self.counts += other.counts
        self.fetched_again = max(self.fetched_again, other.fetched_again)
        self.violations += other.violations


def soak(seed: int, numbers: Iterable[int]) -> Figures:
    """Run the trials of these numbers against a registry of their own."""
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="lading-soak-") as folder:
        registry = start_registry(Path(folder) / "registry", htpasswd=True)
        (Path(folder) / "big").mkdir()
        (Path(folder) / "small").mkdir()
        worlds = [World(Path(folder) / name, registry, size=size) for name, size in (("small", SMALL), ("big", BIG))]
        try:
            for number in numbers:
                one(figures, worlds[number % EVERY_BIG == 0], seed, number)
        finally:
            for world in worlds:
                world.close()
            registry.stop()
    return figures


def one(figures: Figures, world: World, seed: int, number: int) -> None:
    """Run one trial: a kill now and then, else the next fault and the next command in turn."""
    kill = number % EVERY_KILL == 1
    kind = "KILL" if kill else KINDS[number % len(KINDS)]
    command = PULLS[number // EVERY_KILL % len(PULLS)] if kill else COMMANDS[number // len(KINDS) % len(COMMANDS)]
    figures.runs += 1
    try:
        outcome = world.killed(seed + number, command) if kill else world.trial(kind, command, seed + number)
    except BrokenPromiseError as error:
        figures.violations.append(f"run {number}, {kind} during {command}: {error}")
        return
    except Exception as error:  # noqa: BLE001 - whatever comes out is a finding, and the others go on
        figures.violations.append(f"run {number}, {kind} during {command}: {error!r}")
        return
    figures.processes += len(outcome.codes)
    figures.counts["runs struck", kind, command] += bool(outcome.strikes)
    if command in PULLS and outcome.strikes and not kill and kind not in WRONG:
        again = outcome.sent - world.clean_pull(command).sent
        figures.fetched_again = max(figures.fetched_again, again // outcome.strikes)


def strike_each(command: str, fault: str) -> Figures:
    """Let a fault happen at each system call of a command that touches its store, one run for each."""
    figures = Figures()
    program, _why_not = strace()
    if program is None:
        return figures
    with tempfile.TemporaryDirectory(prefix="lading-strikes-") as folder:
        registry = start_registry(Path(folder) / "registry", htpasswd=True)
        (Path(folder) / "world").mkdir()
        world = World(Path(folder) / "world", registry, size=SMALL)
        log = Path(folder) / "log"
        try:
            for point in (one for one in find(program, world, command, log) if one.may(fault)):
                figures.runs += 1
                try:
                    struck = strike(program, world, command, point, fault, log)
                except AssertionError as error:
                    notes = " ".join(getattr(error, "__notes__", ()))
                    figures.violations.append(f"{fault} at a call of {command}: {error} {notes}")
                else:
                    figures.counts["calls struck" if struck else "calls not met again", fault, command] += 1
        finally:
            world.close()
            registry.stop()
    return figures


def strike_all(commands: Sequence[str], jobs: int) -> Figures:
    """Strike every call of these commands with every fault, and say how far it is."""
    total = Figures()
    pairs = [(command, fault) for command in commands for fault in FAULTS]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for (command, fault), figures in zip(pairs, pool.map(strike_each, *zip(*pairs, strict=True)), strict=True):
            total.add(figures)
            print(f"  {command}: {fault} at {figures.runs} calls, {len(figures.violations)} violations", flush=True)
    return total


def main() -> int:
    """Run the soak that the arguments ask for and return 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calls", default=",".join(STRUCK), help="commands whose system calls are struck")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    print(f"{chosen.runs} runs, seed {chosen.seed}, {chosen.jobs} at a time", flush=True)
    total = Figures()
    start = time.monotonic()
    step = max(1, min(500, -(-chosen.runs // chosen.jobs)))
    parts = [range(first, min(first + step, chosen.runs)) for first in range(0, chosen.runs, step)]
    with ProcessPoolExecutor(chosen.jobs, mp_context=get_context("spawn")) as pool:
        for figures in pool.map(soak, [chosen.seed] * len(parts), parts):
            total.add(figures)
            print(
                f"  {total.runs} runs, {time.monotonic() - start:.0f} s, {len(total.violations)} violations", flush=True
            )
    commands = [name for name in chosen.calls.split(",") if name]
    calls = Figures()
    if commands and not (why_not := strace()[1]):
        print(f"each system call of {', '.join(commands)} that touches the store, {', '.join(FAULTS)}", flush=True)
        calls = strike_all(commands, chosen.jobs)
        total.violations += calls.violations
    elif commands:
        print(f"no system call was struck: {why_not}")
    for line in table(total.counts + calls.counts):
        print(line)
    print(f"runs                                    {total.runs}")
    print(f"commands, with those repeated           {total.processes}")
    print(f"runs in which the fault struck          {total.counts.total()}")
    print(f"system calls struck                     {calls.counts.total()}")
    print(f"seconds                                 {time.monotonic() - start:.0f}")
    print(f"most bytes fetched again for one break  {total.fetched_again}")
    print(f"bad blobs accepted                      {sum(': I1' in line for line in total.violations)}")
    print(f"repeats that needed a clean-up          {sum(': I5' in line for line in total.violations)}")
    print(f"promises broken                         {len(total.violations)}")
    for line in total.violations[:20]:
        print(f"  {line}")
    return 1 if total.violations else 0


if __name__ == "__main__":
    sys.exit(main())
