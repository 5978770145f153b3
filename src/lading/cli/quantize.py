"""`lading quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lading.cli.app import App, Pair, common
from lading.text import clean, size


@click.command("quantize", short_help="Make a smaller GGUF file of a GGUF file.")
@click.argument("source", metavar="IN.gguf", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT.gguf", type=click.Path(path_type=Path))
@click.option("--type", default="Q5_K_M", show_default=True, metavar="TYPE", help="Any type of llama-quantize.")
@click.option("--pure", is_flag=True, help="Give every tensor the same type.")
@click.option("--imatrix", metavar="FILE", type=click.Path(path_type=Path), help="Weigh errors by this matrix.")
@click.option("--include-weights", metavar="NAME", multiple=True, help="Use the matrix for these tensors only.")
@click.option("--exclude-weights", metavar="NAME", multiple=True, help="Do not use the matrix for these tensors.")
@click.option("--leave-output-tensor", is_flag=True, help="Keep output.weight as it is.")
@click.option("--output-tensor-type", metavar="TYPE", help="Type of output.weight.")
@click.option("--token-embedding-type", metavar="TYPE", help="Type of the token embeddings.")
@click.option(
    "--tensor-type",
    "tensor_types",
    type=Pair(),
    metavar="NAME=TYPE",
    multiple=True,
    help="Type of the tensors whose names match.",
)
@click.option(
    "--override-kv",
    "overrides",
    metavar="KEY=TYPE:VALUE",
    multiple=True,
    help="Set a key of the metadata; TYPE is int, float, bool or str.",
)
@click.option("--keep-split", is_flag=True, help="Write as many shards as the source has.")
@click.option("--allow-requantize", is_flag=True, help="Accept a source that is quantized already.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; all usable cores if not given.")
@common
def command(app: App, source: Path, target: Path, **chosen: Any) -> None:
    """Quantize IN.gguf to OUT.gguf, with llama.cpp.

    llama-quantize on the PATH is used, else the package of `pip install 'lading[quantize]'`, which cannot do
    --imatrix, --tensor-type and --override-kv. Both write the same bytes, with any number of threads. Of a model in
    several files IN.gguf is the first.
    """
    from lading.api import quantize  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.build.quantize import QuantizeOptions  # noqa: PLC0415 - as above
    from lading.cli.serving import environment  # noqa: PLC0415 - as above

    for name in ("type", "output_tensor_type", "token_embedding_type"):
        chosen[name] = chosen[name] and chosen[name].upper()
    chosen["tensor_types"] = tuple((name, kind.upper()) for name, kind in chosen["tensor_types"])
    if chosen["imatrix"] is not None:
        chosen["imatrix"] = chosen["imatrix"].expanduser()
    options = QuantizeOptions(**chosen)
    with app.session() as session:
        made = quantize(session, source.expanduser(), target.expanduser(), options, environment())
    total = sum(path.stat().st_size for path in made)
    click.echo(f"quantized  {clean(str(made[0]))}   {options.type}   {size(total)}")
