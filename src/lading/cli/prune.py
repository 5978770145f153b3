"""`lading prune`."""

from __future__ import annotations

import click

from lading.api import catalog
from lading.api.documents import PruneDocument
from lading.cli.app import App, common, json_option, print_json
from lading.text import count, size


@click.command("prune", short_help="Free what no name needs.")
@click.option("--dry-run", is_flag=True, help="Tell what would be freed, and free nothing.")
@click.option("--build-cache", is_flag=True, help="Free what steps of builds made, too.")
@json_option
@common
def command(app: App, *, dry_run: bool, build_cache: bool, as_json: bool) -> None:
    """Free at once all blobs that no name reaches and no running command uses.

    What interrupted downloads left behind is freed too. What steps of builds made stays, so that the next build need
    not make it again, unless --build-cache is given.
    """
    with app.session() as session:
        freed = catalog.prune(session, dry_run=dry_run, build_cache=build_cache)
    if as_json:
        print_json(
            PruneDocument(dry_run=dry_run, blobs=freed.blobs, bytes=freed.bytes, partial_bytes=freed.partial_bytes)
        )
        return
    partial = f", {size(freed.partial_bytes)} of unfinished downloads" if freed.partial_bytes else ""
    verb = "would free" if dry_run else "freed"
    click.echo(f"{verb}  {size(freed.bytes)} in {count(freed.blobs, 'blob')}{partial}")
