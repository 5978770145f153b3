"""The language by example: each folder of tests/recipes is a recipe and what comes of it.

`error.txt` is the error that it raises, `plan.json` the plan, `lint.txt` what the linter says, of some both; `options.json`
holds what the caller gives: build_args, target, platform, contexts, what of models is `stored` for the linter, and `lint`
where an error is the linter's. Set LADING_UPDATE_RECIPES=1 to write what comes now, then read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lading import recipe
from lading.errors import LadingError, UsageError
from lading.recipe import ignore
from lading.runtime.settings import taken

CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "recipes").glob("*/Recipe"))
PLANNED = ("build_args", "target", "platform", "contexts")


def options(case: Path) -> dict[str, Any]:
    path = case / "options.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def hold(path: Path, text: str) -> None:
    if os.environ.get("LADING_UPDATE_RECIPES"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def planned(case: Path) -> recipe.Plan:
    read = recipe.parse((case / "Recipe").read_bytes().decode(), "Recipe")
    return recipe.plan(read, **{name: value for name, value in options(case).items() if name in PLANNED})


def linted(case: Path) -> str:
    read = recipe.parse((case / "Recipe").read_bytes().decode(), "Recipe")
    beside = case / "Recipe.dockerignore"
    ignored = ignore.read_ignore(beside.read_text(encoding="utf-8")) if beside.exists() else None
    stored = frozenset(options(case).get("stored", ()))
    report = recipe.lint(read, ignored=ignored, stored=stored.__contains__, taken=taken)
    lines = [
        f"{read.script.at(one.where)}: {one.level}: {one.message} [{one.rule}]\n{read.script.excerpt(one.where, one.hint)}\n"
        for one in report.findings
    ]
    return "".join(lines) + (f"violated: {', '.join(report.violated)}\n" if report.violated else "")


def test_each_case_says_what_comes_of_it() -> None:
    assert len(CASES) > 100
    for case in CASES:
        said = {path.name for path in case.iterdir()} & {"error.txt", "plan.json", "lint.txt"}
        assert len(said) == 1 or said == {"plan.json", "lint.txt"}, case


@pytest.mark.parametrize("case", [case for case in CASES if (case / "error.txt").exists()], ids=lambda case: case.name)
def test_an_error_names_the_place_and_the_remedy(case: Path) -> None:
    with pytest.raises(LadingError) as caught:
        (linted if options(case).get("lint") else planned)(case)
    error = caught.value
    assert error.exit_code == (2 if isinstance(error, UsageError) else 6)
    hold(case / "error.txt", f"{error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))


@pytest.mark.parametrize("case", [case for case in CASES if (case / "plan.json").exists()], ids=lambda case: case.name)
def test_a_plan_is_as_written(case: Path) -> None:
    plan = planned(case)
    hold(case / "plan.json", json.dumps(recipe.as_json(plan), indent=2, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("case", [case for case in CASES if (case / "lint.txt").exists()], ids=lambda case: case.name)
def test_the_linter_says_what_is_doubtful(case: Path) -> None:
    hold(case / "lint.txt", linted(case))
