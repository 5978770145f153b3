"""docs/security.md names tests that exist, and every item of the list has one that says so."""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
NAMED = re.findall(r"`((?:\w+/)?test_\w+\.py::[^`]+)`", PAGE)
ITEMS = ("S01", "S02", "S03", "S04", "S05", "S06", "S10", "S11", "S12", "S13", "S14", "S15", "S27")


def test_every_test_named_on_the_page_exists() -> None:
    files = sorted({f"tests/{name.partition('::')[0]}" for name in NAMED})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    tests = [line.removeprefix("tests/") for line in done.stdout.splitlines() if "::" in line]
    assert len(tests) > len(NAMED) > 30, done.stderr
    for name in NAMED:
        pattern = name.replace("[", "[[]")
        assert any(fnmatchcase(test, pattern) for test in tests), name


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_has_a_line_on_the_page_and_a_test_that_names_it(item: str) -> None:
    (line, *_) = [line for line in PAGE.splitlines() if f"({item})" in line]
    assert "`" in line
    sources = {ROOT / "tests" / name.partition("::")[0] for name in NAMED}
    assert any(re.search(rf'"""[^"]*{item}\b', path.read_text()) for path in sources)
