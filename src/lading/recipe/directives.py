"""The head of a recipe: `# syntax=`, `# escape=` and `# check=`, before any comment, blank line or instruction."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lading.recipe.nodes import Directives
from lading.recipe.place import Range

if TYPE_CHECKING:
    from lading.errors import RecipeError
    from lading.recipe.place import Script

_DIRECTIVE = re.compile(r"[ \t]*#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(\S.*?)[ \t\r]*$")
_SLASHES = re.compile(r"[ \t]*//[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(\S.*?)[ \t\r]*$")
_KNOWN = ("syntax", "escape", "check")
_OURS = re.compile(r"(?:.*/)?(?:gguf-packer|gguf-packer-go|lading)(?:[:@].*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Check:
    """What `# check=` asks of the linter: rules to leave out, `all` among them or not, and whether findings fail."""

    skip: frozenset[str] = frozenset()
    error: bool = False


def read_directives(script: Script) -> Directives:
    """Read the directives; raises RecipeError for one that is given twice, or an escape that is none."""
    found = Directives()
    seen: set[str] = set()
    for number, line in enumerate(script.lines, 1):
        match = _DIRECTIVE.match(line)
        name = match[1].lower() if match else ""
        if match is None or name not in _KNOWN:
            break
        where = Range(number, match.start(1) + 1, number, match.end(2) + 1)
        if name in seen:
            raise script.error(where, f"only one `{name}` directive can be used")
        seen.add(name)
        if name == "escape" and match[2] not in ("\\", "`"):
            raise script.error(where, f"the escape `{match[2]}` is neither \\ nor `")
        found = replace(found, **{name: match[2]})
    return found


def read_check(value: str | None, script: Script) -> Check:
    """Read `skip=Rule1,Rule2;error=true`; raises RecipeError, at the head of `script`, for anything else."""
    words = value.split() if value else []
    if not words:
        return Check()
    skip: frozenset[str] = frozenset()
    error = False
    for option in words[0].split(";"):
        key, equals, rest = option.partition("=")
        if key.strip().lower() == "skip" and equals:
            skip = frozenset(folded(name) for name in rest.split(",") if name.strip())
        elif key.strip().lower() == "error" and rest.strip().lower() in ("true", "false"):
            error = rest.strip().lower() == "true"
        else:
            raise _bad_check(option, script)
    return Check(skip, error)


def folded(rule: str) -> str:
    """Write a rule's name so that StageNameCasing and stage-name-casing are one."""
    return rule.strip().replace("-", "").lower()


def names_a_recipe(text: str) -> bool:
    """Say whether a file's syntax line, in any of the ways BuildKit reads it, names GGUF Packer or lading.

    A first line that begins with `#!` is passed over; `// syntax=` and a JSON object with a key `syntax` count too.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    if lines[0].startswith("#!"):
        lines = lines[1:]
    for line in lines:
        match = _DIRECTIVE.match(line) or _SLASHES.match(line)
        if match is None:
            break
        if match[1].lower() == "syntax":
            return _names_ours(match[2])
    if lines and lines[0].lstrip().startswith("{"):
        try:
            whole = json.loads("\n".join(lines))
        except (ValueError, RecursionError):
            return False
        value = whole.get("syntax") if isinstance(whole, dict) else None
        return isinstance(value, str) and _names_ours(value)
    return False


def _names_ours(value: str) -> bool:
    words = value.split()
    return bool(words) and _OURS.fullmatch(words[0]) is not None


def _bad_check(option: str, script: Script) -> RecipeError:
    number = next((n for n, line in enumerate(script.lines, 1) if "check" in line.lower()), 1)
    line = script.lines[number - 1]
    start = max(0, line.find(option))
    where = Range(number, start + 1, number, start + 1 + len(option))
    return script.error(where, f"`{option}` is no check option", note="like skip=Rule1,Rule2;error=true")
