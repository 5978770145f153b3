"""Start-up: `lading --version` beside `ramalama version` (the nearest Python peer) and a bare interpreter."""

from __future__ import annotations

import sys

from lib import peers
from lib.measure import Contender, asked_runs, beside, rounds
from lib.places import LADING
from lib.report import Report

ABOUT = """How long a command takes that does nothing: what each call in a script costs."""


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__, 11)
    report = Report("start-up", "start-up", ABOUT, peers={"RamaLama": peers.RAMALAMA})
    seen = rounds(
        [
            Contender("lading --version", [LADING, "--version"]),
            Contender("ramalama version", [peers.ramalama(), "version"]),
            Contender("python -c pass", [sys.executable, "-c", "pass"]),
        ],
        runs,
    )
    medians = report.took(seen)
    report.figure(medians["lading --version"].cpu * 1e3, " ms of CPU", 60)
    report.figure(beside(seen["lading --version"], seen["ramalama version"]), "x ramalama version", 0.4)
    report.finish()


if __name__ == "__main__":
    main()
