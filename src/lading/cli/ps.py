"""`lading ps`."""

from __future__ import annotations

import click

from lading.cli.app import App, common, json_option, print_json
from lading.text import table


@click.command("ps", short_help="Show what is being served.")
@json_option
@common
def command(app: App, *, as_json: bool) -> None:
    """Show the servers in the background."""
    from lading.api import servers  # noqa: PLC0415 - as above
    from lading.api.clock import ago  # noqa: PLC0415 - the library is loaded when the command runs

    with app.session() as session:
        running = servers(session)
    if as_json:
        print_json(running)
        return
    if not running:
        app.say("nothing is being served: `lading serve --detach` begins")
        return
    rows = [("NAME", "MODEL", "URL", "RUNTIME", "PID", "STARTED")]
    rows += [
        (one.name, one.reference, one.url, f"{one.runtime} {one.runtime_version}", str(one.pid), ago(one.started))
        for one in running
    ]
    click.echo(table(rows))
