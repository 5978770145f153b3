"""`lading load`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lading.cli.app import App, common, json_option, print_json
from lading.errors import StoppedError
from lading.text import size

if TYPE_CHECKING:
    from lading.api.results import Pulled

_STDIN = 0


@click.command("load", short_help="Take in models that were saved to a file.")
@click.argument("place", metavar="FILE")
@click.option("-t", "--tag", "name", metavar="NAME", help="Name the model this in the store.")
@json_option
@common
def command(app: App, place: str, *, name: str | None, as_json: bool) -> None:
    """Take in the models of FILE and keep them in the store under the names they have there.

    \b
    FILE  a tar   of an OCI image layout (`lading save`, podman, skopeo), or of `docker save`
          a tar that is compressed with gzip or zstd
          a folder that is an OCI image layout
          `-`     such a tar on standard input

    Every byte is held to its digest. Names are given when all models are here, whole; after a failure, none is.
    """  # noqa: D301 - click takes a real backspace as its mark for lines to leave as they are
    from lading.api import load  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.api.documents import pull_document  # noqa: PLC0415 - as above
    from lading.api.lookup import tag_name  # noqa: PLC0415 - as above

    stream = io.FileIO(_STDIN, closefd=False) if place == "-" else None
    if stream and stream.isatty():
        msg = "an archive is not read from a terminal; name a file, or pipe one in"
        raise click.UsageError(msg)
    try:
        with app.session() as session:
            results = load(session, stream or Path(place).expanduser(), name=tag_name(name) if name else None)
    except KeyboardInterrupt:
        msg = "interrupted: nothing was loaded"
        raise StoppedError(msg) from None
    if as_json:
        print_json([pull_document(result) for result in results])
        return
    for result in results:
        click.echo(_line(result))


def _line(result: Pulled) -> str:
    if result.up_to_date:
        return f"up to date  {result.name}   {result.digest.short}"
    was = f", was {result.replaced.short}" if result.replaced else ""
    figures = f"{size(result.total_bytes)}, {size(result.new_bytes)} new"
    return f"loaded  {result.name}   {result.digest.short}{was}   {figures}"
