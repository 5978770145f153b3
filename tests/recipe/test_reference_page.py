"""The language page: every instruction, flag and rule has its row, and every row a case that uses it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from lading.recipe import RULES, lint, parse, plan
from lading.recipe.flags import FLAGS
from lading.recipe.parser import KEYWORDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "recipes.md").read_text(encoding="utf-8")


def test_the_tables_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "recipe_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_instruction_and_flag_has_a_row_and_a_case_that_plans_it() -> None:
    row = r"^\| (?:\*\*(\w+)\*\*|`(\w+) --([a-z-]+)[^`]*`) \|.*\| `([a-z-]+)` \|$"
    told = {(bold or keyword, flag): case for bold, keyword, flag, case in re.findall(row, PAGE, re.MULTILINE)}
    assert set(told) == {(keyword, "") for keyword in KEYWORDS} | {
        (keyword, rule.name) for keyword, rules in FLAGS.items() for rule in rules
    }
    for (keyword, flag), case in told.items():
        folder = ROOT / "tests" / "recipes" / case
        assert (folder / "plan.json").exists()
        nodes = [node for node in parse((folder / "Recipe").read_bytes().decode()).nodes if node.keyword == keyword]
        assert nodes
        assert not flag or any(one.name == flag for node in nodes for one in node.flags)


def test_every_rule_has_a_row_and_a_case_that_breaks_it() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| .* \| (?:warning|note) \| `([a-z-]+)` \|$", PAGE, re.MULTILINE))
    assert list(rows) == [rule.name for rule in RULES]
    for name, case in rows.items():
        assert f"[{name}]" in (ROOT / "tests" / "recipes" / case / "lint.txt").read_text(encoding="utf-8")


def test_the_recipe_of_the_page_is_one() -> None:
    text = re.findall(r"```dockerfile\n(.*?)```", PAGE, re.DOTALL)[0]
    assert [stage.name for stage in plan(parse(text)).stages] == ["f16", None]
    assert {finding.rule for finding in lint(parse(text)).findings} == {"source-unpinned", "template-missing"}
