"""The table of which tool reads and writes what, printed at the end of a test run and kept in docs/interop.md.

A test has one row, its parameter `row`; what it asserts is what the row says.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KEY = "interop"
PAGE = Path(__file__).parents[2] / "docs/interop.md"
UPDATE = "LADING_UPDATE_INTEROP"
READS, WRITES = "reads what lading wrote", "writes what lading reads"
BEGIN = "<!-- made by the tests: LADING_UPDATE_INTEROP=1 make test TESTS=tests/interop -->"
_YES = "yes"
_PAGE_TEST = "interop/test_page.py"


@dataclass(frozen=True, order=True)
class Row:
    """What a tool does with a form, through what; `cannot` is a part of the error's words, `note` what a yes leaves out."""

    peer: str
    does: str
    form: str
    through: str
    cannot: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """The name of the row's test."""
        words = ("reads" if self.does == READS else "writes", self.form, self.through)
        return "-".join(words).replace(" ", "-").replace(",", "")

    @property
    def result(self) -> str:
        """What stands in the table's last column."""
        if self.cannot:
            return f"no: `{self.cannot}`"
        return f"{_YES}, {self.note}" if self.note else _YES

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of its tool's table."""
        return (self.does, self.form, self.through, self.result)


def rows(*listed: Row) -> pytest.MarkDecorator:
    """Run a test once for each row."""
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in listed])


def record(row: Row, version: str) -> tuple[str, dict[str, str]]:
    """Return what a test's report says of its row, for `record_property`."""
    return KEY, {**asdict(row), "version": version}


def rows_of(items: Iterable[pytest.Item]) -> list[Row]:
    """Return the rows of collected tests."""
    found = (getattr(item, "callspec", None) for item in items)
    return sorted(row for spec in found if spec and isinstance(row := spec.params.get("row"), Row))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table once, wherever the tests themselves ran; write the page where that is asked for."""
    if getattr(terminalreporter, "interop_table_printed", False):
        return
    versions = _passed(terminalreporter.stats.get("passed", ()))
    skipped = {
        report.nodeid.rpartition("::")[2]: str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
        if "interop/" in report.nodeid
    }
    if not versions:
        return
    vars(terminalreporter)["interop_table_printed"] = True
    terminalreporter.section(f"{len(versions)} ways between lading and other tools")
    for line in text(versions):
        terminalreporter.line(line)
    for name, why in sorted(skipped.items()):
        terminalreporter.line(f"not tried: {name}: {why}")
    if os.environ.get(UPDATE):
        if skipped or not _whole(terminalreporter):
            terminalreporter.line(f"{PAGE.name} was left as it is: not every row was tried")
            return
        before = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
        PAGE.write_text(before + BEGIN + "\n" + page(versions), encoding="utf-8")


def _whole(terminalreporter: pytest.TerminalReporter) -> bool:
    """Say whether all of tests/interop ran, and nothing failed but the test of the page, which is to be written."""
    stats = terminalreporter.stats
    failed = [report.nodeid for report in (*stats.get("failed", ()), *stats.get("error", ()))]
    seen = [*failed, *(report.nodeid for report in stats.get("passed", ()))]
    others = [node for node in failed if _PAGE_TEST not in node]
    return not others and not stats.get("deselected") and any(_PAGE_TEST in node for node in seen)


def _passed(reports: Iterable[pytest.TestReport]) -> dict[Row, str]:
    versions = {}
    for report in reports:
        said = dict(report.user_properties).get(KEY) if report.when == "call" else None
        if isinstance(said, dict):
            version = said.pop("version")
            versions[Row(**said)] = version
    return versions


def text(versions: dict[Row, str]) -> Sequence[str]:
    """Lay out the table for a terminal."""
    heads = {row: f"{row.peer} {version}" for row, version in versions.items()}
    columns = [(heads[row], *row.cells) for row in sorted(versions)]
    widths = [max(len(cells[index]) for cells in columns) for index in range(len(columns[0]) - 1)]
    return ["  ".join([*map(str.ljust, cells, widths), cells[-1]]) for cells in columns]


def page(versions: dict[Row, str]) -> str:
    """Lay out the table for docs/interop.md, a section for each tool."""
    lines = []
    for peer, group in groupby(sorted(versions), key=lambda row: row.peer):
        listed = list(group)
        lines += ["", f"## {peer} {versions[listed[0]]}", "", "| | Form | Through | |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row.cells)} |" for row in listed]
    return "\n".join(lines) + "\n"
