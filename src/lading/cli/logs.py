"""`lading logs`."""

from __future__ import annotations

import sys

import click

from lading.cli.app import App, common


@click.command(short_help="Show a server's log.")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on as the log grows, until the server ends.")
@common
def command(app: App, name: str, *, follow: bool) -> None:
    """Show the log of a server in the background, also of one that has died."""
    from lading.api.serve import servers_folder  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.server import logs  # noqa: PLC0415 - as above

    out = sys.stdout.buffer
    with app.session() as session:
        for piece in logs(servers_folder(session), name, follow=follow):
            out.write(piece)
            out.flush()
