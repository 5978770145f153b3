"""`lading logs`."""

from __future__ import annotations

import sys

import click

from lading.cli.app import App, common


@click.command("logs", short_help="Show a server's log.")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on as the log grows, until the server ends.")
@common
def command(app: App, name: str, *, follow: bool) -> None:
    """Show the log of a server in the background, also of one that has died."""
    from lading.api import server_logs  # noqa: PLC0415 - the library is loaded when the command runs

    out = sys.stdout.buffer
    with app.session() as session:
        for piece in server_logs(session, name, follow=follow):
            out.write(piece)
            out.flush()
