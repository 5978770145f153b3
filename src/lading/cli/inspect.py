"""`lading inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lading.cli.app import App, common, json_option, networked, print_json
from lading.text import clean, parameters, size, table

if TYPE_CHECKING:
    from lading.api.documents import PartDocument
    from lading.api.results import Inspection


@click.command("inspect", short_help="Show what a model is, without fetching its weights.")
@click.argument("reference", metavar="REF")
@json_option
@networked
@common
def command(app: App, reference: str, *, as_json: bool, offline: bool, insecure: bool) -> None:
    """Show what REF is: a model of the store, a file or folder, or a remote model.

    Of remote weights only the headers are read.
    """
    from lading.api import inspect  # noqa: PLC0415 - the library is loaded when the command runs

    with app.session(offline=offline, insecure=insecure) as session:
        found = inspect(session, reference)
    if as_json:
        print_json(found.document)
    else:
        click.echo(page(found))


def page(found: Inspection) -> str:
    """Lay out an inspection for people."""
    document = found.document
    lines = [_title(found), f"  model      {_summary(found)}"]
    rows = [
        (part.role, clean(part.name), size(part.size), part.digest[:19] if part.digest else "", _remark(found, part))
        for part in document.parts
    ]
    layout = table(rows, right=frozenset({2})).split("\n")
    lines += [f"  {'parts' if index == 0 else '':<10} {row}" for index, row in enumerate(layout)]
    if document.model.licence:
        lines.append(f"  licence    {clean(document.model.licence)}")
    if document.format == "gguf" or found.facts.format == "gguf":
        lines.append("  runs with  llama.cpp")
    return "\n".join(line.rstrip() for line in lines)


def _title(found: Inspection) -> str:
    document = found.document
    words = [clean(document.reference)]
    if document.digest:
        words.append(document.digest[:19])
    words.append(document.format)
    if document.stored:
        words.append("in the store")
    elif found.requests:
        words.append(f"not in the store ({found.requests} requests, {size(found.bytes_read)} read)")
    return "   ".join(words)


def _summary(found: Inspection) -> str:
    facts = found.document.model
    words = [facts.name or "unnamed"]
    if facts.architecture:
        words.append(facts.architecture)
    if facts.parameters:
        words.append(f"{parameters(facts.parameters)} parameters")
    if facts.file_type:
        bits = f" ({facts.bits_per_weight:.2f} bits per weight)" if facts.bits_per_weight else ""
        words.append(f"{facts.file_type}{bits}")
    if facts.context_length:
        words.append(f"trained for {facts.context_length:,} tokens")
    return clean(", ".join(words))


def _remark(found: Inspection, part: PartDocument) -> str:
    inside = found.facts.chat_template
    if part.role != "template" or found.template is None or inside is None or found.facts.format != "gguf":
        return ""
    same = found.template.strip() == inside.strip()
    return "the same as inside the weights" if same else "differs from the one inside the weights"
