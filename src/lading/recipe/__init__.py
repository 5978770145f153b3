"""Recipes: models written down as Dockerfiles are, in the language of GGUFPackerfiles.

    parse(text)              the instructions as written, with their places
    plan(recipe, args, …)    the stages a build needs, every variable replaced, every value checked and typed
    lint(recipe, args, …)    what is doubtful

All is pure: nothing here opens a file, the network or a program. What is wrong in a recipe is a RecipeError, which
names the place.
"""

from __future__ import annotations

from lading.recipe.lint import RULES, Finding, Report, lint
from lading.recipe.nodes import Recipe
from lading.recipe.parser import parse
from lading.recipe.plan import Plan, Stage, Step, as_json, plan

__all__ = ["RULES", "Finding", "Plan", "Recipe", "Report", "Stage", "Step", "as_json", "lint", "parse", "plan"]
