"""`lading build`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading import ui
from lading.cli.app import App, Pair, common, json_option, networked, print_json
from lading.cli.forms import lines
from lading.errors import StoppedError
from lading.text import clean, count, size

if TYPE_CHECKING:
    from lading.api import Built, Linted
    from lading.events import Reporter

_KEPT = "interrupted: what whole steps made is kept; the same command goes on there"


@click.command("build", short_help="Build a model from a recipe.")
@click.argument("context", metavar="[CONTEXT]", default=".", type=click.Path(path_type=Path))
@click.option("-t", "--tag", "names", metavar="NAME", multiple=True, help="Name the model this. Repeatable.")
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The recipe, - for standard input; CONTEXT/GGUFPackerfile if not given.",
)
@click.option(
    "--build-arg", "build_args", type=Pair(), metavar="NAME=VALUE", multiple=True, help="Give an ARG this value."
)
@click.option("--target", metavar="STAGE", help="Build this stage, not the last one.")
@click.option(
    "--build-context",
    "contexts",
    type=Pair(),
    metavar="NAME=PLACE",
    multiple=True,
    help="A further folder, URL, repository or model (oci-layout://…, docker-image://…), for --from=NAME. Repeatable.",
)
@click.option("--platform", metavar="OS/ARCH", help="Only for this platform, as in linux/arm64.")
@click.option(
    "--format",
    "formats",
    default="image",
    show_default=True,
    metavar="LIST",
    help="Write it so: docker, modelpack, image, or several with commas; both = docker,modelpack.",
)
@click.option("--push", is_flag=True, help="Push it to where its names say.")
@click.option("--load", type=click.Choice(["podman", "docker"]), help="Give it to this engine, too.")
@click.option("-o", "--output", metavar="PLACE", help="Write it to oci-layout:DIR or FILE.tar, too.")
@click.option("--no-cache", is_flag=True, help="Make every step anew.")
@click.option("--allow-pickle", is_flag=True, help="Let CONVERT read weights in .bin files, which can run code.")
@click.option("--dry-run", is_flag=True, help="Read the recipe, tell what is doubtful in it, and build nothing.")
@json_option
@networked
@common
def command(app: App, context: Path, *, names: tuple[str, ...], as_json: bool, **said: Any) -> None:
    """Build a model from the recipe in the folder CONTEXT and name it in the store.

    A recipe is a GGUFPackerfile: a Dockerfile for models, with CONVERT, QUANTIZE and CAT. What each step makes is kept,
    and a step is made again only if something that it reads has changed; interrupted, the same command goes on at the
    step. The same recipe and sources give the same digest anywhere.
    """
    from lading.api import Recipe, build  # noqa: PLC0415 - loaded when the command runs
    from lading.api.documents import build_document  # noqa: PLC0415 - as above
    from lading.cli.serving import environment  # noqa: PLC0415 - as above

    if said["push"] and not names:
        msg = "--push sends the model to where its names say; give one with -t"
        raise click.UsageError(msg)
    piped = said["file"] == Path("-")
    wanted = Recipe(
        file=Path("<stdin>") if piped else said["file"] and said["file"].expanduser(),
        stream=sys.stdin.buffer if piped else None,
        build_args=dict(said["build_args"]),
        target=said["target"],
        contexts=dict(said["contexts"]),
        platform=said["platform"],
        formats=said["formats"],
        fresh=said["no_cache"],
        allow_pickle=said["allow_pickle"],
    )
    dry_run = said["dry_run"]
    if said["output"] is not None or said["load"] or said["push"]:
        from lading.api import check_wishes  # noqa: PLC0415 - as above

        check_wishes(names, wanted.formats, output=said["output"], engine=said["load"], push=said["push"])
    try:
        with app.session(offline=said["offline"], insecure=said["insecure"]) as session:
            result = build(
                session,
                context.expanduser(),
                names,
                wanted,
                environment(),
                heard=lambda found: _tell(session.reporter, found),
                dry_run=dry_run,
            )
            ui.settle(session.reporter)
            results = [] if as_json else _lines(result, dry_run=dry_run)
            if said["output"] and not dry_run:
                from lading.api import write_out  # noqa: PLC0415 - an unchanged build goes nowhere

                done = write_out(session, result, said["output"])
                results.append(f"written  {clean(done.destination)}")
            if said["push"] and not dry_run:
                from lading.api import push  # noqa: PLC0415 - as above

                for name in result.names:
                    pushed = push(session, name)
                    figures = f"{size(pushed.total_bytes)}, {size(pushed.new_bytes)} sent"
                    results.append(f"pushed  {pushed.destination}   {pushed.digest.short}   {figures}")
            if said["load"] and not dry_run:
                from lading.api import hand_over  # noqa: PLC0415 - as above

                hand_over(session, result, said["load"], environment())
                results.append(f"loaded  {result.names[0]}   into {said['load']}")
    except KeyboardInterrupt:
        raise StoppedError(_KEPT) from None
    if as_json:
        print_json(build_document(result))
        return
    click.echo("\n".join(results))


def _tell(reporter: Reporter, found: Linted) -> None:
    """Show the warnings; the notes are for `lading lint`."""
    for finding, text in zip(found.document.findings, found.text, strict=False):
        if finding.level == "warning":
            ui.show(reporter, text)


def _lines(result: Built, *, dry_run: bool) -> list[str]:
    name = ", ".join(result.names) or "no name"
    if dry_run:
        return [f"would build  {name}   {count(result.steps, 'step')}   {result.format}"]
    digest = result.digest.short if result.digest else ""
    how = f"in {_time(result.seconds)} ({result.cached} of {count(result.steps, 'step')} cached)"
    return [f"built  {name}   {digest}   {size(result.size)}   {result.format}   {how}", *lines(result.forms)]


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f} min {rest:.0f} s" if minutes else f"{rest:.1f} s"
