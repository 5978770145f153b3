"""`lading copy`."""

from __future__ import annotations

import click

from lading.cli.app import App, common
from lading.cli.forms import Delivery, delivering


@click.command("copy", short_help="Carry a model from one place to another, in any format.")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.option("--quant", metavar="NAME", help="Of a hub's repository take this quantization, as in Q4_K_M.")
@click.option("--keep", is_flag=True, help="Keep the model in the store, too, under SRC's name.")
@delivering
@common
def command(app: App, source: str, destination: str, *, quant: str | None, keep: bool, how: Delivery) -> None:
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
    from lading.api import Way, copy  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.api.documents import copy_document  # noqa: PLC0415 - as above

    with how.session(app, destination) as session:
        way = Way(how.parallel, how.pace)
        result = copy(session, source, destination, how.wish, quant=quant, keep=keep, way=way)
    how.tell("copied", result, copy_document(result))
