"""`lading stop`."""

from __future__ import annotations

import click

from lading.cli.app import App, common


@click.command("stop", short_help="Stop serving.")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Stop all servers in the background.")
@common
def command(app: App, names: tuple[str, ...], *, everything: bool) -> None:
    """Stop servers in the background."""
    from lading.api import servers, stop_server  # noqa: PLC0415 - the library is loaded when the command runs

    if bool(names) == everything:
        msg = "name the servers to stop, or --all"
        raise click.UsageError(msg)
    with app.session() as session:
        wanted = tuple(one.name for one in servers(session)) if everything else names
        for name in wanted:
            click.echo(f"stopped  {stop_server(session, name).name}")
        if not wanted:
            app.say("nothing is being served")
