"""`lading push`."""

from __future__ import annotations

import click

from lading.cli.app import App, common
from lading.cli.forms import Delivery, delivering


@click.command("push", short_help="Write a model to a registry or a layout.")
@click.argument("name")
@click.argument("destination", metavar="[DEST]", required=False)
@delivering
@common
def command(app: App, name: str, destination: str | None, *, how: Delivery) -> None:
    """Write the model NAME of the store to where its name says, or to DEST.

    \b
    DEST  host/repository[:tag]   a registry
          oci-layout:DIR[:tag]    an OCI image layout
          oci-archive:FILE[:tag]  one in a tar, which is replaced

    Blobs that are there already are not sent again. Without --format the model goes as it is; with several formats it
    becomes one index, and each format has a tag of its own too: NAME:q4-docker, NAME:q4-image.
    """  # noqa: D301 - click takes a real backspace as its mark for lines to leave as they are
    from lading.api import push  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.api.documents import push_document  # noqa: PLC0415 - as above

    with how.session(app, destination) as session:
        result = push(session, name, destination, how.wish, parallel=how.parallel, pace=how.pace)
    how.tell("pushed", result, push_document(result))
