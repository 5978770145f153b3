"""`lading info`."""

from __future__ import annotations

import click

from lading.cli.app import App, common, json_option, print_json
from lading.text import count, size


@click.command("info", short_help="Show settings, store and runtimes.")
@json_option
@common
def command(app: App, *, as_json: bool) -> None:
    """Show the settings in force, the store and the runtimes that are here."""
    from lading.api import info  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.cli.serving import environment  # noqa: PLC0415 - as above

    with app.session() as session:
        found = info(session, environment())
    if as_json:
        print_json(found)
        return
    held = f"{size(found.store_bytes)}, {size(found.store_free_bytes)} free"
    rows = [
        ("lading", f"{found.version} (Python {found.python}, {found.platform})"),
        ("store", f"{found.store}   {count(found.store_models, 'model')}, {held}"),
        ("servers", found.state),
        ("config", found.config),
        ("logins", ", ".join(found.auth_files)),
        ("formats", ", ".join(found.formats)),
    ]
    rows += [("runtime", f"{one.name} {one.version or '(not here)'}") for one in found.runtimes]
    for word, text in rows:
        click.echo(f"{word:<9} {text}")
