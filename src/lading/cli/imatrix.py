"""`lading imatrix`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lading.cli.app import App, common
from lading.text import clean, size


@click.command("imatrix", short_help="Find out which weights matter to a text.")
@click.argument("model", metavar="MODEL.gguf", type=click.Path(path_type=Path))
@click.argument("text", metavar="TEXT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the matrix here, in GGUF.",
)
@click.option("-c", "--ctx-size", type=click.IntRange(min=1), default=512, show_default=True, help="Tokens of a chunk.")
@click.option("--chunks", type=click.IntRange(min=1), help="Chunks to take; all of the text if not given.")
@click.option("--process-output", is_flag=True, help="Include output.weight.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; all usable cores if not given.")
@click.option("-ngl", "--n-gpu-layers", type=click.IntRange(min=0), help="Layers to keep on the GPU.")
@common
def command(app: App, model: Path, text: Path, target: Path, **chosen: Any) -> None:
    """Run MODEL.gguf over the file TEXT and write its importance matrix, for `lading quantize --imatrix`.

    llama-imatrix is looked for on the PATH.
    """
    from lading.api import imatrix  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.build.imatrix import ImatrixOptions  # noqa: PLC0415 - as above
    from lading.cli.serving import environment  # noqa: PLC0415 - as above

    options = ImatrixOptions(**chosen)
    with app.session() as session:
        files = (model.expanduser(), text.expanduser(), target.expanduser())
        made = imatrix(session, *files, options=options, environment=environment())
    click.echo(f"weighed  {clean(str(made))}   {size(made.stat().st_size)}")
