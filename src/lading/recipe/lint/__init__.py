"""What is doubtful in a recipe: rules, each a row of data, held against its stages. Nothing is run or fetched."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from lading.recipe.contents import contents_of
from lading.recipe.directives import folded, read_check
from lading.recipe.lint import language, models
from lading.recipe.lint.subject import Finding, Level, Report, Rule, Subject
from lading.recipe.plan import begin

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from lading.recipe.ignore import IgnoreRules
    from lading.recipe.nodes import Recipe

__all__ = ["RULES", "Finding", "Level", "Report", "Rule", "lint"]

_MOST_FINDINGS = 200
"""Of one rule: nobody reads more."""

RULES: tuple[Rule, ...] = (*language.RULES, *models.RULES)
"""Every rule, in the order of the language page."""


def lint(
    recipe: Recipe,
    build_args: Mapping[str, str] | None = None,
    target: str | None = None,
    platform: str = "linux/amd64",
    *,
    contexts: Collection[str] = (),
    ignored: IgnoreRules | None = None,
    stored: Callable[[str], bool] = lambda _name: False,
    taken: Callable[[str, object], str] = lambda _name, _value: "",
) -> Report:
    """Hold a recipe, all its stages, against the rules that its `# check=` leaves in force.

    `ignored` are the patterns of the context's ignore file. `stored` tells whether a name is that of a model at hand;
    `taken` what values of an argument of CMD are heeded, where the one that it has is not, and else nothing. Raises RecipeError for a recipe that cannot be meant.
    """
    check = read_check(recipe.directives.check, recipe.script)
    draft = begin(recipe, build_args or {}, platform, platform, contexts, lenient=True)
    final = draft.outline.target(target)
    stages = tuple(draft.read(section, draft.base(section)) for section in draft.outline.sections)
    subject = Subject(recipe, draft, stages, stages[final.index], contents_of(stages), ignored, stored, taken)
    if "all" in check.skip:
        return Report((), check.error)
    found = [
        finding
        for rule in RULES
        if folded(rule.name) not in check.skip
        for finding in islice(rule.findings(subject), _MOST_FINDINGS)
    ]
    found.sort(key=lambda one: (one.where, one.rule))
    return Report(tuple(found), check.error)
