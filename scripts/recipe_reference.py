"""Writes the tables of docs/reference/recipes.md from the language itself; with --check only says whether they are up to date.

Every instruction, flag and rule has a row, and every row a case of tests/recipes that uses it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lading.recipe import RULES, parse
from lading.recipe.flags import ABOUT, FLAGS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "recipes.md"
CASES = ROOT / "tests" / "recipes"
KINDS = {"value": "", "list": "; several times", "switch": "; a switch"}


def used() -> dict[tuple[str, str], str]:
    """Return the case that plans each (instruction, flag); "" is the instruction itself."""
    found: dict[tuple[str, str], str] = {}
    for case in sorted(CASES.glob("plan-*")):
        for node in parse((case / "Recipe").read_bytes().decode()).nodes:
            for name in ("", *(flag.name for flag in node.flags)):
                found.setdefault((node.keyword, name), case.name)
    return found


def instructions() -> str:
    """Return the table of instructions and flags; raises LookupError for one that no case uses."""
    cases = used()
    rows = ["| Written | Does | Case |", "|---|---|---|"]
    for keyword, flags in FLAGS.items():
        rows.append(f"| **{keyword}** | {ABOUT[keyword]} | `{_case(cases, keyword, '')}` |")
        rows += [
            f"| `{keyword} {flag.example}` | {flag.about}{KINDS[flag.kind]} | `{_case(cases, keyword, flag.name)}` |"
            for flag in flags
        ]
    return "\n".join(rows)


def _case(cases: dict[tuple[str, str], str], keyword: str, flag: str) -> str:
    if (keyword, flag) not in cases:
        msg = f"no case of {CASES.name} plans {keyword}{' --' if flag else ''}{flag}"
        raise LookupError(msg)
    return cases[keyword, flag]


def rules() -> str:
    """Return the table of the linter's rules; raises LookupError for one that no case breaks."""
    said = {path.parent.name: path.read_text(encoding="utf-8") for path in sorted(CASES.glob("*/lint.txt"))}
    rows = ["| Rule | Wants | Kind | Case |", "|---|---|---|---|"]
    for rule in RULES:
        case = next((name for name, text in said.items() if f"[{rule.name}]" in text), None)
        if case is None:
            msg = f"no case of {CASES.name} breaks the rule {rule.name}"
            raise LookupError(msg)
        rows.append(f"| `{rule.name}` | {rule.about} | {rule.level} | `{case}` |")
    return "\n".join(rows)


def page(text: str) -> str:
    """Return the page with its tables as they should be."""
    for name, table in (("instructions", instructions()), ("rules", rules())):
        head, mark, rest = text.partition(f"<!-- {name}: written by `make reference` -->\n")
        _old, end, tail = rest.partition("<!-- end -->")
        if not mark or not end:
            msg = f"{PAGE.name} has no place for its table of {name}"
            raise LookupError(msg)
        text = f"{head}{mark}\n{table}\n\n{end}{tail}"
    return text


def main() -> int:
    """Write the page, or with --check compare it; 1 if it is stale."""
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in sys.argv[1:]:
        if old != new:
            print(f"{PAGE.name} is not up to date; `make reference` writes it", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
