"""The table of what struck what, printed at the end of a test run: fault kinds by commands, and the seed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

KEY = "faults"
SEED_KEY = "fault seed"


def table(counts: Counter[tuple[str, str, str]]) -> list[str]:
    """Lay out counts by (group, kind, command): for each group a table whose columns are its commands."""
    lines = []
    for group in sorted({group for group, _kind, _command in counts}):
        rows = sorted({kind for one, kind, _command in counts if one == group})
        columns = sorted({command for one, _kind, command in counts if one == group})
        lines.append(f"{group:<20}" + "".join(f"{column:>12}" for column in columns))
        for row in rows:
            cells = [counts[group, row, column] for column in columns]
            lines.append(f"  {row:<18}" + "".join(f"{cell or '-':>12}" for cell in cells))
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table once, wherever the tests themselves ran."""
    if getattr(terminalreporter, "fault_table_printed", False):
        return
    counts: Counter[tuple[str, str, str]] = Counter()
    seeds = set()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == KEY and report.when == "call":
                    group, kind, command, count = value
                    counts[group, kind, command] += count
                if key == SEED_KEY:
                    seeds.add(value)
    if counts:
        vars(terminalreporter)["fault_table_printed"] = True
        chosen = ", ".join(map(str, sorted(seeds)))
        terminalreporter.section(f"{counts.total()} faulty runs, seed {chosen}")
        for line in table(counts):
            terminalreporter.line(line)
