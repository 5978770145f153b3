"""docs/reliability.md names tests that exist, and every fault has its line."""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from chaos_proxy import KINDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text()
NAMED = re.findall(r"`(\w+/test_\w+\.py::[^`]+)`", PAGE)


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
    assert len(tests) > len(NAMED) > 20, done.stderr
    for name in NAMED:
        pattern = name.replace("[", "[[]")
        assert any(fnmatchcase(test, pattern) for test in tests), name


def test_every_kind_of_fault_has_a_line_on_the_page() -> None:
    for kind in KINDS:
        assert f"[{kind}-*]`" in PAGE, kind
