"""`lading lint`."""

from __future__ import annotations

from pathlib import Path

import click

from lading.cli.app import App, Pair, common, json_option, print_json
from lading.text import clean, count


@click.command("lint", short_help="Find what is doubtful in a recipe.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--build-arg", "build_args", type=Pair(), metavar="NAME=VALUE", multiple=True, help="Give an ARG this value."
)
@click.option("--target", metavar="STAGE", help="Take this stage for the result, not the last one.")
@click.option(
    "--build-context",
    "contexts",
    type=Pair(),
    metavar="NAME=PLACE",
    multiple=True,
    help="A further context, as for `build`; it is not looked into. Repeatable.",
)
@json_option
@common
def command(
    app: App,
    file: Path,
    build_args: tuple[tuple[str, str], ...],
    target: str | None,
    contexts: tuple[tuple[str, str], ...],
    *,
    as_json: bool,
) -> None:
    """Read the recipe FILE as `build` would, fetch and run nothing, and tell what is doubtful in it.

    Exits with 0 if the recipe can be built as far as that shows, with 6 if not, or if it says `# check=error=true`
    and there is a warning. A rule is left out with `# check=skip=RULE,RULE` at the head of the recipe.
    """
    from lading.api import lint  # noqa: PLC0415 - the library is loaded when the command runs

    with app.session() as session:
        found = lint(file, dict(build_args), target, contexts=dict(contexts), session=session)
    if as_json:
        print_json(found.document)
    else:
        for text in found.text:
            click.echo("\n".join(clean(line) for line in text.split("\n")))
    if found.error is not None:
        raise found.error
    if not found.document.findings:
        app.say(f"nothing to find fault with in {clean(str(file))}")
    elif not as_json:
        warnings = sum(one.level == "warning" for one in found.document.findings)
        notes = len(found.document.findings) - warnings
        app.say(", ".join(count(number, word) for number, word in ((warnings, "warning"), (notes, "note")) if number))
