"""No error without a case: each sentence that the language can end with is found in the code, and said by a case."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "src/lading/recipe"
SAID = [
    path.read_text(encoding="utf-8").split("\n")[0] for path in sorted((ROOT / "tests/recipes").glob("*/error.txt"))
]
ERRORS = {"ExpansionError", "FormatError", "UsageError"}
"""What is raised by its class; everything else is made by a function called `error`, which knows the place."""

IN_TEST_LIMITS = {
    re.escape("the recipe is longer than ") + ".*" + re.escape(" characters"),
    re.escape("the recipe has more than ") + ".*" + re.escape(" stages"),
    re.escape("the recipe names more than ") + ".*" + re.escape(" variables"),
    re.escape("all variables together grow beyond ") + ".*" + re.escape(" characters"),
}
"""What takes recipes too large to be kept as files."""

OF_THE_COMMAND_LINE = {"`.*`" + re.escape(" names no image")}
"""What no recipe says, but --build-context; tests/build/test_executor.py has it."""


def sentences() -> dict[str, str]:
    """Return a pattern for each sentence, and where it stands."""
    found: dict[str, str] = {}
    for path in sorted(ROOM.rglob("*.py")):
        for function in functions(ast.parse(path.read_text(encoding="utf-8"))):
            for call in made_errors(function):
                for sentence in read(call, function):
                    found[sentence] = f"{path.relative_to(ROOT)}:{call.lineno}"
    return found


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def made_errors(function: ast.FunctionDef) -> list[ast.Call]:
    """The errors that a function raises, or returns for others to raise."""
    values = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise)]
    values += [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    return [value for value in values if isinstance(value, ast.Call) and name_of(value) in {"error", *ERRORS}]


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def read(call: ast.Call, function: ast.FunctionDef) -> list[str]:
    """Return the patterns of what an error may say; none where it says what another said."""
    told = call.args[0 if name_of(call) in ERRORS else 1]
    if isinstance(told, ast.Name):
        if told.id in {argument.arg for argument in function.args.args}:
            return []
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            and any(isinstance(to, ast.Name) and to.id == told.id for to in node.targets)
            # Of several in a function, the last one before.
            and node.lineno <= call.lineno
        ]
        told = values[-1]
    if isinstance(told, ast.Attribute) or (isinstance(told, ast.Call) and name_of(told) == "str"):
        return []
    return [pattern(told)]


def pattern(told: ast.expr) -> str:
    if isinstance(told, ast.Constant):
        return re.escape(str(told.value))
    assert isinstance(told, ast.JoinedStr), ast.dump(told)
    return "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*" for part in told.values)


def test_every_error_has_a_case() -> None:
    found = sentences()
    assert len(found) > 60
    missing = {
        sentence: place
        for sentence, place in found.items()
        if sentence not in IN_TEST_LIMITS | OF_THE_COMMAND_LINE
        and not any(re.fullmatch(rf"(?:\S+:\d+:\d+: error: )?{sentence}", one) for one in SAID)
    }
    assert missing == {}


def test_nothing_is_excused_that_is_not_there() -> None:
    assert set(sentences()) >= IN_TEST_LIMITS
