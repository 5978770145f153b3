"""`lading save`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lading.cli.app import App, common, json_option, print_json
from lading.errors import StoppedError
from lading.text import count, size


@click.command("save", short_help="Write models to one file, to carry them elsewhere.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE", required=True, help="The file to write; `-` is standard output.")
@json_option
@common
def command(app: App, names: tuple[str, ...], *, output: str, as_json: bool) -> None:
    """Write the models NAME of the store to one file, an OCI image layout in a tar.

    `lading load` reads it, and so do skopeo, podman and, where a model is an image, docker. What models share is written
    once, every byte is held to its digest on the way, and the same models make the same file anywhere. A file of that
    name is replaced once the new one is whole.
    """
    from lading.api import save  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.api.documents import save_document  # noqa: PLC0415 - as above

    stream = sys.stdout.buffer if output == "-" else None
    if stream and as_json:
        msg = "--json and `-o -` both want standard output"
        raise click.UsageError(msg)
    if stream and stream.isatty():
        msg = "an archive is not written to a terminal; name a file, or pipe it on"
        raise click.UsageError(msg)
    try:
        with app.session() as session:
            result = save(session, names, stream or Path(output).expanduser())
    except KeyboardInterrupt:
        msg = "interrupted: nothing was saved"
        raise StoppedError(msg) from None
    if as_json:
        print_json(save_document(output, result))
        return
    place = "standard output" if stream else output
    line = f"saved  {place}   {count(len(result.models), 'model')}, {size(result.size)}"
    if stream:
        app.say(line)
    else:
        click.echo(line)
