"""Processes of their own that run a few lines of code, for tests of what happens between processes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Worker:
    """One process; code that waits for work to be over reads its standard input to the end."""

    process: subprocess.Popen[str]

    def line(self) -> str:
        """Return the next line it prints, without the newline; empty when it is over."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        """Close its standard input without waiting for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def kill(self) -> None:
        """End it as a power cut would, without any clean-up of its own."""
        self.process.kill()
        self.process.wait()

    def end(self) -> str:
        """Close its standard input, wait for its end and return what else it printed."""
        return self.process.communicate(timeout=60)[0]


class Start(Protocol):
    def __call__(self, code: str, *arguments: object, powerless: bool = False) -> Worker:
        """Start one; `powerless` takes from root the power to go past the modes of files."""


@contextmanager
def workers() -> Iterator[Start]:
    """Give a function that starts workers, and end all of them afterwards."""
    started: list[Worker] = []

    def start(code: str, *arguments: object, powerless: bool = False) -> Worker:
        prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if powerless and os.getuid() == 0 else []
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(Worker(process))
        return started[-1]

    try:
        yield start
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.communicate()
