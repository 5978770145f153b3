"""`lading logout`."""

from __future__ import annotations

import click

from lading.cli.app import App, common


@click.command("logout", short_help="Forget a registry's credentials.")
@click.argument("host", metavar="REGISTRY")
@common
def command(app: App, host: str) -> None:
    """Forget the credentials of REGISTRY."""
    from lading.api import logout  # noqa: PLC0415 - the library is loaded when the command runs

    with app.session() as session:
        places = logout(session, host)
    if places:
        click.echo(f"logged out  {host}   removed from {', '.join(places)}")
    else:
        app.say(f"no credentials are kept for {host}")
