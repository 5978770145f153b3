"""`lading rm`."""

from __future__ import annotations

import click

from lading.api import catalog
from lading.cli.app import App, common


@click.command("rm", short_help="Drop names of models.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@common
def command(app: App, names: tuple[str, ...]) -> None:
    """Drop names from the store.

    What a name pointed at stays on disk until `lading prune`, and as long as another name needs it.
    """
    with app.session() as session:
        removed = catalog.remove(session, names)
    for name in removed:
        click.echo(f"removed  {name}")
