"""`lading inspect`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from lading.cli.app import App, common, json_option, networked, print_json
from lading.text import clean, memory, parameters, settings, size, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.api import Node
    from lading.api.documents import NeedDocument, PartDocument, VariantDocument
    from lading.api.results import Inspection

_WORD = 60


@click.command("inspect", short_help="Show what a model is, without fetching its weights.")
@click.argument("reference", metavar="REF")
@click.option("--manifest", is_flag=True, help="Print the manifest or index, byte for byte.")
@click.option("--config", is_flag=True, help="Print the config, byte for byte.")
@click.option("--platform", metavar="OS/ARCH", help="Of images for several, show that for this; as in linux/arm64.")
@click.option("--tree", "as_tree", is_flag=True, help="Show what it is made of, down to the blobs.")
@json_option
@networked
@common
def command(app: App, reference: str, *, platform: str | None, offline: bool, insecure: bool, **shown: bool) -> None:
    """Show what REF is: a model of the store, a file or folder, or a remote model.

    Of remote weights only the headers are read. A repository without a tag is shown with its tags.
    """
    from lading.api import config_bytes, inspect, manifest_bytes, tree  # noqa: PLC0415 - loaded when the command runs

    if sum(shown.values()) > 1:
        msg = "--manifest, --config, --tree and --json are shown one at a time"
        raise click.UsageError(msg)
    with app.session(offline=offline, insecure=insecure) as session:
        if shown["manifest"] or shown["config"]:
            raw = (manifest_bytes if shown["manifest"] else config_bytes)(session, reference)
            click.echo(raw, nl=False)
        elif shown["as_tree"]:
            click.echo(tree_page(clean(reference), tree(session, reference)))
        else:
            found = inspect(session, reference, platform=platform)
            if shown["as_json"]:
                print_json(found.document)
            else:
                click.echo(page(found))


def tree_page(reference: str, root: Node) -> str:
    """Lay out what an artifact is made of."""
    return f"{reference}\n{table(list(_branches(root, '', '')), right=frozenset({3}))}"


def _branches(node: Node, mark: str, margin: str) -> Iterator[tuple[str, str, str, str, str]]:
    told = "not here" if node.size is None else size(node.size)
    yield f"{mark}{node.kind}", clean(node.name), node.digest.short, told, "shared" if node.shared else ""
    for number, below in enumerate(node.below, 1):
        last = number == len(node.below)
        yield from _branches(below, f"{margin}{'└─ ' if last else '├─ '}", f"{margin}{'   ' if last else '│  '}")


def page(found: Inspection) -> str:
    """Lay out an inspection for people."""
    from lading.artifact.layers import LOOK  # noqa: PLC0415 - loaded by then

    document = found.document
    lines = [_title(found)]
    if document.parts:
        lines.append(f"  model      {_summary(found)}")
    parts = [
        (part.role, clean(part.name), size(part.size), part.digest[:19] if part.digest else "", _remark(found, part))
        for part in document.parts
    ]
    lines += _section("parts", parts)
    if document.partly_read:
        seen = f"the first {size(LOOK)} of {_layers(len(document.partly_read))} were looked at; there may be more files"
        lines.append(f"  in part    {seen}")
    if document.model.licence:
        lines.append(f"  licence    {clean(document.model.licence)}")
    if document.settings:
        lines.append(f"  settings   {settings(document.settings)}")
    if document.command:
        words = (word if len(word) <= _WORD else f"{word[:_WORD]}…" for word in document.command)
        lines.append(f"  command    {clean(shlex.join(words))}")
    lines += _section("variants", [_variant(one) for one in document.variants])
    if document.own_size is not None and document.shared_size is not None:
        lines.append(
            f"  bytes      {size(document.own_size)} own, {size(document.shared_size)} shared with other names"
        )
    if document.tags is not None:
        lines.append(f"  tags       {', '.join(document.tags)}")
    if document.format == "gguf" or found.facts.format == "gguf":
        lines.append(f"  runs with  llama.cpp{_needs(document.fit)}")
    return "\n".join(line.rstrip() for line in lines)


def _needs(fit: NeedDocument | None) -> str:
    if fit is None or fit.total_bytes is None:
        return ""
    figures = f"; {memory(fit.total_bytes)} with a context of {fit.context:,}"
    if fit.fits == "no":
        free = "" if fit.free_bytes is None else f", and {memory(fit.free_bytes)} are free"
        return f"{figures}, which does not fit here{free}"
    where = ", partly on the device" if fit.fits == "partly" else ""
    longest = fit.max_context if fit.max_context and fit.max_context > (fit.context or 0) else None
    return f"{figures}{where}" + (f"; {longest:,} would fit" if longest else "")


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


def _section(title: str, rows: list[tuple[str, str, str, str, str]]) -> Iterator[str]:
    for index, row in enumerate(table(rows, right=frozenset({2})).split("\n") if rows else ()):
        yield f"  {'' if index else title:<10} {row}"


def _variant(one: VariantDocument) -> tuple[str, str, str, str, str]:
    return (
        clean(one.format),
        one.platform or "",
        "not here" if one.size is None else size(one.size),
        one.digest[:19],
        "",
    )


def _layers(count: int) -> str:
    return "a compressed layer" if count == 1 else f"each of {count} compressed layers"


def _remark(found: Inspection, part: PartDocument) -> str:
    words = (f"in layer {part.layer.partition(':')[2][:12]}" if part.layer else "", _comparison(found, part))
    return ", ".join(filter(None, words))


def _comparison(found: Inspection, part: PartDocument) -> str:
    inside = found.facts.chat_template
    if part.role != "template" or found.template is None or inside is None or found.facts.format != "gguf":
        return ""
    same = found.template.strip() == inside.strip()
    return "the same as inside the weights" if same else "differs from the one inside the weights"
