"""`lading list`."""

from __future__ import annotations

import click

from lading.api.catalog import list_models
from lading.api.clock import ago
from lading.cli.app import App, common, json_option, print_json
from lading.text import clean, parameters, size, table

_HEAD = ("NAME", "FORMAT", "ARCH", "PARAMS", "QUANT", "SIZE", "OWN", "PULLED")


@click.command("list", short_help="Show the models of the store.")
@json_option
@common
def command(app: App, *, as_json: bool) -> None:
    """Show the models of the store.

    OWN is what removing the model and pruning would free: bytes that no other name needs.
    """
    with app.session() as session:
        models = list_models(session)
    if as_json:
        print_json(models)
        return
    if not models:
        app.say("no models yet: `lading pull` or `lading pack` brings one")
        return
    rows = [_HEAD]
    for model in models:
        facts = model.model
        rows.append(
            (
                clean(model.reference),
                "broken" if model.broken else model.format,
                clean(facts.architecture or "-"),
                parameters(facts.parameters) if facts.parameters else "-",
                clean(facts.file_type or "-"),
                size(model.size),
                size(model.own_size or 0),
                ago(model.pulled) if model.pulled else "-",
            )
        )
    click.echo(table(rows, right=frozenset({3, 5, 6})))
    for model in models:
        if model.broken:
            click.echo(f"warning: {clean(model.reference)}: {clean(model.broken)}", err=True)
