"""`lading pack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading.cli.app import App, Pair, common, json_option, print_json
from lading.cli.forms import lines
from lading.text import clean, settings, size, table

if TYPE_CHECKING:
    from lading.api.results import PackResult


_FILE = click.Path(path_type=Path)


@click.command("pack", short_help="Make a model of a file or folder.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("-t", "--tag", "name", metavar="NAME", required=True, help="Name the model this.")
@click.option(
    "--format",
    "format_name",
    default="docker",
    show_default=True,
    metavar="LIST",
    help="Write it so: docker, modelpack, image, or several with commas; both = docker,modelpack.",
)
@click.option("--template", type=_FILE, metavar="FILE", help="Chat with this template, in Jinja's language.")
@click.option(
    "--license",
    "--licence",
    "licences",
    multiple=True,
    metavar="FILE|SPDX",
    help="Add a licence's text, or say its name, as in Apache-2.0. Repeatable.",
)
@click.option("--param", "params", type=Pair(), multiple=True, help="Serve it so, as in ctx-size=8192. Repeatable.")
@click.option("--mmproj", type=_FILE, metavar="FILE", help="Let it see with this projector.")
@click.option("--adapter", "adapters", type=_FILE, multiple=True, metavar="FILE", help="Add an adapter. Repeatable.")
@click.option("--name", "title", metavar="TEXT", help="Call it this, not what its header says.")
@click.option("--annotation", "annotations", type=Pair(), multiple=True, help="Annotate the manifest. Repeatable.")
@click.option("--copy", is_flag=True, help="Give the store bytes of its own, never a link to the file.")
@click.option("--dry-run", is_flag=True, help="Read the headers and tell what would be packed.")
@json_option
@common
def command(
    app: App, path: Path, *, name: str, format_name: str, copy: bool, dry_run: bool, as_json: bool, **said: Any
) -> None:
    """Make a model artifact of PATH and name it in the store.

    PATH is a .gguf or .safetensors file, one shard of several, or a folder. What each file is follows from its name
    and header; what is said here goes before that. Files are not copied where the file system can share them; one
    that is changed afterwards is noticed and never served.
    """
    from lading.api import given, pack  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.api.documents import pack_document  # noqa: PLC0415 - as above

    with app.session() as session:
        more = given(name=said.pop("title"), **said)
        result = pack(session, path.expanduser(), name, format_name=format_name, given=more, copy=copy, dry_run=dry_run)
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
    for line in lines(result.forms):
        click.echo(line)


def _plan(result: PackResult) -> str:
    rows = [(f"  {file.role.value}", clean(file.name), size(file.size)) for file in result.files]
    rows += [("  settings", settings(result.facts.settings), "")] if result.facts.settings else []
    return f"would pack  {result.name}   {result.format}\n{table(rows, right=frozenset({2}))}"
