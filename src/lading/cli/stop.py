"""`lading stop`."""

from __future__ import annotations

import click

from lading.cli.app import App, common


@click.command(short_help="Stop serving.")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Stop all servers in the background.")
@common
def command(app: App, names: tuple[str, ...], *, everything: bool) -> None:
    """Stop servers in the background."""
    from lading.api.serve import servers, servers_folder  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.server import find, stop  # noqa: PLC0415 - as above

    if bool(names) == everything:
        msg = "name the servers to stop, or --all"
        raise click.UsageError(msg)
    with app.session() as session:
        folder = servers_folder(session)
        wanted = [one.name for one in servers(session)] if everything else [find(folder, name).name for name in names]
        for name in wanted:
            stop(folder, name)
            click.echo(f"stopped  {name}")
        if everything and not wanted:
            app.say("nothing is being served")
