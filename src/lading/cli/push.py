"""`lading push`."""

from __future__ import annotations

import click

from lading.cli.app import App, common, formatted, json_option, paced, print_json
from lading.cli.forms import lines, word
from lading.errors import StoppedError
from lading.text import size


@click.command("push", short_help="Write a model to a registry or a layout.")
@click.argument("name")
@click.argument("destination", metavar="[DEST]", required=False)
@click.option("--insecure", is_flag=True, help="Accept plain http and any certificate from the registry.")
@click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="Blobs sent at a time.")
@formatted
@paced
@json_option
@common
def command(
    app: App,
    name: str,
    destination: str | None,
    *,
    insecure: bool,
    parallel: int,
    limit_rate: int | None,
    as_json: bool,
    formats: str | None,
    platform: str | None,
    base: str | None,
) -> None:
    """Write the model NAME of the store to where its name says, or to DEST.

    \b
    DEST  host/repository[:tag]   a registry
          oci-layout:DIR[:tag]    an OCI image layout
          oci-archive:FILE[:tag]  one in a tar, which is replaced

    Blobs that are there already are not sent again. Without --format the model goes as it is; with several formats it
    becomes one index, and each format has a tag of its own too: NAME:q4-docker, NAME:q4-image.
    """  # noqa: D301 - click takes a real backspace as its mark for lines to leave as they are
    from lading.api import Wish, push  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.api.documents import push_document  # noqa: PLC0415 - as above
    from lading.pace import Pace  # noqa: PLC0415 - as above

    pace = Pace(limit_rate) if limit_rate else None
    try:
        with app.session(insecure=insecure) as session:
            wish = Wish.of(formats, platform, base)
            result = push(session, name, destination, wish, parallel=parallel, pace=pace)
    except KeyboardInterrupt:
        msg = "interrupted: blobs that were sent whole stay there; the same command sends the rest"
        raise StoppedError(msg) from None
    if as_json:
        print_json(push_document(result))
        return
    figures = f"{size(result.total_bytes)}, {size(result.new_bytes)} sent"
    click.echo(f"pushed  {result.destination}   {result.digest.short}   {figures}{word(result.forms)}")
    for line in lines(result.forms):
        click.echo(line)
