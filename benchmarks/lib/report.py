"""What a benchmark found: a line for people now, and a file from which docs/performance.md is written."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lading import __version__
from lib.machine import WORK, describe
from lib.measure import median

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lib.measure import Run


@dataclass(frozen=True)
class Figure:
    """A number, what it counts ("x the machine's limit", " MiB at most"), and the bar it is held to, None for none."""

    value: float
    unit: str
    bar: float | None = None

    def __str__(self) -> str:
        digits = 2 if self.value < 10 else 1 if self.value < 100 else 0  # noqa: PLR2004 - three digits that mean something
        text = f"{self.value:.{digits}f}{self.unit}"
        if self.bar is None:
            return text
        return f"{text} (bar {self.bar:g}{'' if self.value <= self.bar else ', OVER'})"


@dataclass
class Report:
    """The findings of one benchmark; `about` tells readers of the page what was measured, and how."""

    name: str
    title: str
    about: str
    figures: list[Figure] = field(default_factory=list)
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    peers: dict[str, str] = field(default_factory=dict)
    load: list[float] = field(default_factory=lambda: [os.getloadavg()[0]])

    def took(self, seen: Mapping[str, Sequence[Run]]) -> dict[str, Run]:
        """Print the medians of the contenders, keep them as rows, and return them."""
        medians = {name: median(runs) for name, runs in seen.items()}
        print(self.title)
        for name, run in medians.items():
            self.rows[name] = asdict(run) | {"runs": len(seen[name])}
            print(
                f"  {name:<34} wall {run.wall * 1e3:8.0f} ms   CPU {run.cpu * 1e3:8.0f} ms   peak {run.peak:6.1f} MiB"
            )
        return medians

    def figure(self, value: float, unit: str, bar: float | None = None) -> None:
        """Add a figure."""
        self.figures.append(Figure(value, unit, bar))

    def finish(self) -> None:
        """Print the figures in one line and write the file."""
        self.load.append(os.getloadavg()[0])
        print(f"  {self.title}: {', '.join(map(str, self.figures))}")
        document = asdict(self) | {
            "day": time.strftime("%Y-%m-%d"),
            "lading": __version__,
            "machine": describe(),
        }
        WORK.mkdir(parents=True, exist_ok=True)
        (WORK / f"{self.name}.json").write_text(json.dumps(document) + "\n")
