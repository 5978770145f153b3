"""`lading version`."""

from __future__ import annotations

import click

from lading import __version__
from lading.cli.app import App, common, json_option, print_json


@click.command("version", short_help="Show the version.")
@json_option
@common
def command(_app: App, *, as_json: bool) -> None:
    """Show lading's version and Python's."""
    import platform  # noqa: PLC0415 - for this verb only

    from lading.api.documents import VersionDocument  # noqa: PLC0415 - as above

    if as_json:
        print_json(VersionDocument(version=__version__, python=platform.python_version()))
    else:
        click.echo(f"lading {__version__} (Python {platform.python_version()})")
