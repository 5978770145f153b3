"""`lading copy`."""

from __future__ import annotations

import click

from lading.cli.app import App, common, formatted, json_option, paced, print_json
from lading.cli.forms import lines, word
from lading.errors import StoppedError
from lading.text import size


@click.command("copy", short_help="Carry a model from one place to another, in any format.")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.option("--quant", metavar="NAME", help="Of a hub's repository take this quantization, as in Q4_K_M.")
@click.option("--keep", is_flag=True, help="Keep the model in the store, too, under SRC's name.")
@click.option("--insecure", is_flag=True, help="Accept plain http and any certificate from either side.")
@click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="Blobs moved at a time.")
@formatted
@paced
@json_option
@common
def command(
    app: App,
    source: str,
    destination: str,
    *,
    quant: str | None,
    keep: bool,
    insecure: bool,
    parallel: int,
    limit_rate: int | None,
    as_json: bool,
    formats: str | None,
    platform: str | None,
    base: str | None,
) -> None:
    """Write the model SRC to DST, without keeping it here.

    \b
    SRC  a name in the store, a file or folder, or whatever `lading pull` takes
    DST  host/repository[:tag]   a registry
         name                    a name in the store
         oci-layout:DIR[:tag]    an OCI image layout
         oci-archive:FILE[:tag]  one in a tar, which is replaced

    Without --format a manifest is copied byte for byte, with all it names; files and hubs, which have none, become a
    ModelPack. Converting moves no weights that DST has: most formats share them. With several formats DST is one index
    of them, and each has a tag of its own too: DST-docker, DST-image. Interrupted, the same command resumes.
    """  # noqa: D301 - click takes a real backspace as its mark for lines to leave as they are
    from lading.api import Way, Wish, copy  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.api.documents import copy_document  # noqa: PLC0415 - as above
    from lading.pace import Pace  # noqa: PLC0415 - as above

    way = Way(parallel, Pace(limit_rate) if limit_rate else None)
    try:
        with app.session(insecure=insecure) as session:
            wish = Wish.of(formats, platform, base)
            result = copy(session, source, destination, wish, quant=quant, keep=keep, way=way)
    except KeyboardInterrupt:
        msg = "interrupted: blobs that were sent whole stay there; the same command sends the rest"
        raise StoppedError(msg) from None
    if as_json:
        print_json(copy_document(result))
        return
    figures = f"{size(result.total_bytes)}, {size(result.new_bytes)} sent"
    click.echo(f"copied  {result.destination}   {result.digest.short}   {figures}{word(result.forms)}")
    for line in lines(result.forms):
        click.echo(line)
