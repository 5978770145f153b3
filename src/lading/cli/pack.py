"""`lading pack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lading.cli.app import App, common, json_option, print_json
from lading.text import clean, size, table

if TYPE_CHECKING:
    from lading.api.results import PackResult


@click.command("pack", short_help="Make a model of a file or folder.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("-t", "--tag", "name", metavar="NAME", required=True, help="Name the model this.")
@click.option(
    "--format",
    "format_name",
    default="docker",
    show_default=True,
    metavar="FORMAT",
    help="How it is written: docker or modelpack.",
)
@click.option("--copy", is_flag=True, help="Give the store bytes of its own, never a link to the file.")
@click.option("--dry-run", is_flag=True, help="Read the headers and tell what would be packed.")
@json_option
@common
def command(app: App, path: Path, *, name: str, format_name: str, copy: bool, dry_run: bool, as_json: bool) -> None:
    """Make a model artifact of PATH and name it in the store.

    PATH is a .gguf or .safetensors file, one shard of several, or a folder. Files are not copied where the
    file system can share them; one that is changed afterwards is noticed and never served.
    """
    from lading.api import pack  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.api.documents import pack_document  # noqa: PLC0415 - as above

    with app.session() as session:
        result = pack(session, path.expanduser(), name, format_name=format_name, copy=copy, dry_run=dry_run)
    if as_json:
        print_json(pack_document(result))
        return
    if dry_run:
        click.echo(_plan(result))
        return
    total = sum(file.size for file in result.files)
    how = ", ".join(dict.fromkeys(file.how for file in result.files))
    digest = result.digest.short if result.digest else ""
    click.echo(f"packed  {result.name}   {digest}   {size(total)} {how}   {result.format}")


def _plan(result: PackResult) -> str:
    rows = [(f"  {file.role.value}", clean(file.name), size(file.size)) for file in result.files]
    return f"would pack  {result.name}   {result.format}\n{table(rows, right=frozenset({2}))}"
