"""`lading pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lading import ui
from lading.cli.app import App, common, json_option, networked, paced, print_json
from lading.cli.messages import tell
from lading.errors import LadingError, StoppedError
from lading.text import size

if TYPE_CHECKING:
    from lading.api.results import Pulled


@click.command("pull", short_help="Fetch models into the store, verified.")
@click.argument("references", metavar="REF...", nargs=-1, required=True)
@click.option("-t", "--tag", "name", metavar="NAME", help="Name the model this in the store.")
@click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="Connections at a time.")
@click.option("--no-resume", is_flag=True, help="Begin anew instead of taking up what an interrupted pull left.")
@click.option("--quant", metavar="NAME", help="Of several quantizations, take this one, as in Q4_K_M.")
@click.option("--platform", metavar="OS/ARCH", help="Of images for several, take that for this; as in linux/arm64.")
@paced
@json_option
@networked
@common
def command(
    app: App,
    references: tuple[str, ...],
    *,
    name: str | None,
    parallel: int,
    no_resume: bool,
    quant: str | None,
    platform: str | None,
    limit_rate: int | None,
    as_json: bool,
    offline: bool,
    insecure: bool,
) -> None:
    """Fetch the models that REF names and keep them in the store.

    \b
    REF   host/repository[:tag|@digest]   a registry
          hf://owner/repo[:QUANT]         Hugging Face; ms:// ModelScope
          ollama://[ns/]name[:tag]        an Ollama registry
          oci-layout:DIR[:tag]            an OCI image layout; oci-archive:FILE one in a tar
          https://host/file.gguf          one file
          name                            what a short name or an earlier pull says

    Only what is missing is fetched; every byte is held to its digest. Interrupted, the same command resumes.
    Of several, those that can be had are fetched; the first failure decides the exit code.
    """  # noqa: D301 - click takes a real backspace as its mark for lines to leave as they are
    from lading.api import Selection, Way, pull  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.api.documents import pull_document  # noqa: PLC0415 - as above
    from lading.api.lookup import tag_name  # noqa: PLC0415 - as above
    from lading.pace import Pace  # noqa: PLC0415 - as above

    if name and len(references) > 1:
        msg = "--tag names one model; several were given"
        raise click.UsageError(msg)
    way = Way(parallel, Pace(limit_rate) if limit_rate else None, resume=not no_resume)
    selection = Selection(quant, platform)
    given = tag_name(name) if name else None
    results = []
    code = 0
    try:
        with app.session(offline=offline, insecure=insecure) as session:
            for reference in references:
                try:
                    result = pull(session, reference, name=given, way=way, selection=selection)
                except StoppedError:
                    raise
                except LadingError as error:
                    # What is wrong with one is no reason to leave the others.
                    if len(references) == 1:
                        raise
                    ui.settle(session.reporter)
                    tell(error.message, error.hint, code=error.exit_code)
                    code = code or error.exit_code
                    continue
                results.append(result)
                if not as_json:
                    ui.settle(session.reporter)
                    click.echo(_line(result))
    except KeyboardInterrupt:
        msg = "interrupted: what was fetched is kept; the same command resumes"
        raise StoppedError(msg) from None
    if as_json:
        print_json([pull_document(result) for result in results])
    click.get_current_context().exit(code)


def _line(result: Pulled) -> str:
    if result.up_to_date:
        return f"up to date  {result.name}   {result.digest.short}"
    was = f", was {result.replaced.short}" if result.replaced else ""
    figures = f"{size(result.total_bytes)}, {size(result.new_bytes)} new"
    return f"pulled  {result.name}   {result.digest.short}{was}   {figures}"
