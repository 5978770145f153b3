"""`lading tag`."""

from __future__ import annotations

import click

from lading.api import catalog
from lading.api.lookup import tag_name
from lading.cli.app import App, common


@click.command("tag", short_help="Give a model a second name.")
@click.argument("name")
@click.argument("new_name")
@common
def command(app: App, name: str, new_name: str) -> None:
    """Give the model NAME of the store a second name, NEW_NAME; no byte is copied."""
    with app.session() as session:
        new_name = tag_name(new_name)
        digest = catalog.tag(session, name, new_name)
    click.echo(f"tagged  {new_name}   {digest.short}")
