"""docs/interop.md has a line for each row that is tried, and no other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from interop_table import BEGIN, PAGE, Row, page

ROOT = Path(__file__).parents[2]


def without_versions(text: str) -> str:
    return re.sub(r"^(## .*) \S+$", r"\1", text, flags=re.MULTILINE)


def test_the_page_has_exactly_the_rows_of_the_tests(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/interop"]
    environment = {**os.environ, "LADING_LIST_INTEROP": str(tmp_path / "rows.json")}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    rows = [Row(**said) for said in json.loads((tmp_path / "rows.json").read_text())]
    assert len(rows) == len(set(rows)) > 60
    said = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2]
    assert without_versions(said).strip() == without_versions(page(dict.fromkeys(rows, "0"))).strip()
    assert "0" not in {line.rpartition(" ")[2] for line in said.splitlines() if line.startswith("## ")}
