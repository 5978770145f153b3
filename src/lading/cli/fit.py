"""`lading fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lading.cli.app import App, common, json_option, networked, print_json
from lading.text import clean, count, memory, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.api._fit import Fitting, Weighed
    from lading.api.session import Session
    from lading.estimate import EstimateSettings, Override
    from lading.fit import Machine, Row

_WORDS = {"whole": "fits", "partly": "partly", "no": "too big", "unknown": "not known"}
_COLOURS = {"whole": "green", "partly": "yellow", "no": "red", "unknown": None}
_DEFAULTS = (
    "note: counted are as many slots as --parallel says, and no prompts seen before: `lading serve` takes for these what --cache-ram "
    "allows of the memory left; llama-server by itself has 4 slots and keeps up to 8 GiB of prompts"
)


class Rule(click.ParamType[tuple[str, str]]):
    """A pattern and a place: `ffn_.*_exps=CPU`, or a device's number."""

    name = "rule"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return both; the pattern may hold equal signs."""
        if isinstance(value, tuple):
            return value
        pattern, sign, place = str(value).rpartition("=")
        if not (sign and pattern and (place.upper() == "CPU" or (place.isascii() and place.isdigit()))):
            self.fail(
                f"{value!r} is no rule; one is written like PATTERN=CPU, or PATTERN=0 for the first device", param, ctx
            )
        return pattern, place


class Shares(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between: 3,1."""

    name = "shares"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} are no shares; they are written like 3,1", param, ctx)


@click.command("fit", short_help="Tell whether models run here, and which quantization to take.")
@click.argument("references", metavar="REF...", nargs=-1, required=True)
@click.option(
    "-c", "--ctx-size", type=click.IntRange(1, 2**31 - 1), help="Context in tokens; 8192, or the model's if less."
)
@click.option(
    "-np", "--parallel", type=click.IntRange(1, 256), default=1, show_default=True, help="Slots to serve at once."
)
@click.option(
    "-ctk", "--cache-type-k", default="f16", show_default=True, metavar="TYPE", help="Keep keys so: f16, q8_0, q4_0…"
)
@click.option(
    "-ctv", "--cache-type-v", default="f16", show_default=True, metavar="TYPE", help="Keep values so; likewise."
)
@click.option(
    "-fa",
    "--flash-attn",
    "flash_attention",
    type=click.Choice(["on", "off", "auto"]),
    default="auto",
    show_default=True,
    help="Flash attention.",
)
@click.option(
    "-ngl",
    "--n-gpu-layers",
    "gpu_layers",
    type=click.IntRange(0, 2**31 - 1),
    help="Layers on devices; what fits if not given.",
)
@click.option(
    "-ncmoe",
    "--n-cpu-moe",
    type=click.IntRange(0, 4096),
    default=0,
    help="Keep the experts of so many layers in memory.",
)
@click.option(
    "-ts",
    "--tensor-split",
    type=Shares(),
    metavar="LIST",
    help="Shares of the devices, as in 3,1; by their free memory if not given.",
)
@click.option(
    "-ot",
    "--override-tensor",
    "rules",
    type=Rule(),
    multiple=True,
    metavar="RULE",
    help="Put tensors elsewhere, as in ffn_.*_exps=CPU.",
)
@click.option(
    "-b",
    "--batch-size",
    "batch",
    type=click.IntRange(1, 2**31 - 1),
    default=2048,
    show_default=True,
    help="Tokens of a batch.",
)
@click.option(
    "-ub",
    "--ubatch-size",
    "ubatch",
    type=click.IntRange(1, 2**31 - 1),
    default=512,
    show_default=True,
    help="Tokens computed at once.",
)
@click.option("--kv-unified", "unified", is_flag=True, help="One cache for all slots.")
@click.option("--swa-full", is_flag=True, help="Keep all of the context in layers with a window, too.")
@click.option("--no-kv-offload", is_flag=True, help="Keep the cache in memory.")
@click.option("--no-repack", is_flag=True, help="Keep no second copy of weights for the processor.")
@click.option("--embeddings", is_flag=True, help="Serve embeddings.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="SIZE",
    help="Instead of this machine's: a device of 24GiB. Repeatable.",
)
@click.option("--ram", metavar="SIZE", help="Instead of this machine's: memory of 64GiB.")
@click.option("--on", "profile", metavar="NAME", help="Instead of this machine's devices: those of h100, rtx4090x2…")
@click.option("--detail", is_flag=True, help="Show what each place holds, and what is not counted.")
@json_option
@networked
@common
def command(
    app: App,
    references: tuple[str, ...],
    *,
    rules: tuple[tuple[str, str], ...],
    devices: tuple[str, ...],
    ram: str | None,
    profile: str | None,
    detail: bool,
    as_json: bool,
    offline: bool,
    insecure: bool,
    no_kv_offload: bool,
    no_repack: bool,
    **chosen: Any,
) -> None:
    """Tell whether the models REF... run on this machine, and how long a context each leaves room for.

    Only headers are read, wherever the models are. Of a repository or an index each quantization has a row, the one that
    `pull` and `run` would take is marked. Exits with 0 also where nothing fits.
    """
    from lading.api import fit  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.estimate import EstimateSettings  # noqa: PLC0415 - as above

    if profile and devices:
        msg = "--on and --device both say which devices there are; give one"
        raise click.UsageError(msg)
    with app.session(offline=offline, insecure=insecure) as session:
        machine = _machine(session, devices, ram, profile)
        settings = EstimateSettings(
            **chosen,
            kv_offload=not no_kv_offload,
            repack=not no_repack,
            # The machine is known to the library alone; its devices are counted there.
            devices=_counted(rules, chosen["tensor_split"]),
            overrides=tuple(_override(rule) for rule in rules),
        )
        found = fit(session, references, settings, machine)
    if as_json:
        print_json(found.document)
    else:
        click.echo(page(found, settings, detail=detail), color=app.colour)


def _machine(session: Session, devices: tuple[str, ...], ram: str | None, profile: str | None) -> Machine | None:
    if not (devices or ram or profile):
        return None
    from lading.api._fit import machine_said  # noqa: PLC0415 - for those who describe a machine
    from lading.hardware.profiles import device_of, machine, size  # noqa: PLC0415 - as above

    there = machine(profile) if profile else tuple(device_of(one) for one in devices)
    return machine_said(session, there, size(ram) if ram else None)


def _override(rule: tuple[str, str]) -> Override:
    from lading.estimate import Override  # noqa: PLC0415 - for those who give one

    pattern, place = rule
    return Override(pattern, None if place.upper() == "CPU" else int(place))


def _counted(rules: tuple[tuple[str, str], ...], split: tuple[float, ...] | None) -> int:
    named = [int(place) + 1 for _, place in rules if place.isdigit()]
    return min(max([len(split or ()), *named]), 16)


def page(found: Fitting, settings: EstimateSettings, *, detail: bool) -> str:
    """Lay out what was found for people."""
    from lading.fit import told  # noqa: PLC0415 - loaded by then

    lines = [_title(found, settings, told(found.machine))]
    for one in found.weighed:
        if len(found.weighed) > 1:
            lines.append(clean(one.shown))
        lines += _rows(one, found.machine)
        lines += _below(one, found.machine)
        if detail:
            lines += _details(one, found.machine)
    if detail:
        lines.append(_DEFAULTS)
    return "\n".join(lines)


def _title(found: Fitting, settings: EstimateSettings, machine: str) -> str:
    contexts = sorted({row.found.context for one in found.weighed for row in one.rows})
    context = f"{contexts[0]:,}" if len(contexts) == 1 else f"up to {contexts[-1]:,}" if contexts else ""
    kinds = dict.fromkeys((settings.cache_type_k, settings.cache_type_v))
    slots = f" · {count(settings.parallel, 'slot')}" if settings.parallel > 1 else ""
    return f"{machine} · context {context} · cache {'/'.join(kinds)}{slots}"


def _rows(one: Weighed, machine: Machine) -> Iterator[str]:
    devices = bool(machine.devices)
    state = any(row.state for row in one.rows)
    head = ["", "NAME", "WEIGHTS", "KV", *(["STATE"] if state else []), "TOTAL", *(["ON GPU"] if devices else [])]
    cells = [[*head, "MAX CONTEXT", ""]]
    cells += [
        [
            "▸" if one.choice.row is row else "",
            clean(row.name),
            memory(row.weights),
            memory(row.kv) if row.found.known else "",
            *([memory(row.state) if row.state else ""] if state else []),
            memory(row.total) if row.found.known else "",
            *([_placed(row)] if devices else []),
            "" if row.max_context is None else f"{row.max_context:,}",
            _WORDS[row.fits.value],
        ]
        for row in one.rows
    ]
    right = frozenset(range(2, len(cells[0]) - 1))
    first, *lines = table(cells, right=right).split("\n")
    yield first
    for line, row in zip(lines, one.rows, strict=True):
        # Colour repeats what the last word says.
        colour = _COLOURS[row.fits.value]
        yield click.style(line, fg=colour, bold=one.choice.row is row or None) if colour else line


def _placed(row: Row) -> str:
    if row.fits.value in {"no", "unknown"}:
        return ""
    if row.gpu_layers == row.layers:
        return f"experts of {row.settings.n_cpu_moe} not" if row.settings.n_cpu_moe else "all"
    return f"{row.gpu_layers} of {row.layers}"


def _below(one: Weighed, machine: Machine) -> Iterator[str]:
    from lading.fit import remedies  # noqa: PLC0415 - loaded by then

    chosen = one.choice.row
    yield f"{clean(chosen.name)}: {one.choice.why}" if chosen else one.choice.why
    if chosen is None and all(row.fits.value == "no" for row in one.rows):
        least = min(one.rows, key=lambda row: row.total)
        for remedy in remedies(least, machine):
            yield f"{clean(least.name)} would fit with {remedy.what}: {memory(remedy.row.total)}"
    if chosen is not None and not chosen.settings.repack and any(use.weights for use in chosen.found.uses[:1]):
        yield "without a second copy of weights for the processor (--no-repack), which would not fit"
    shown = (chosen,) if chosen else one.rows
    for note in dict.fromkeys(note for row in shown for note in row.notes):
        yield f"note: {clean(note)}"
    if any(map(_kept_twice, one.rows)) and not any(map(_kept_twice, shown)):
        yield "note: WEIGHTS has the second copy that the processor keeps of some types; --no-repack avoids it"


def _kept_twice(row: Row) -> bool:
    return any(use.repacked for use in row.found.uses)


def _details(one: Weighed, machine: Machine) -> Iterator[str]:
    from lading.api._fit_document import rate  # noqa: PLC0415 - loaded by then

    for row in one.rows:
        band = rate(row, machine)
        speed = f", perhaps {band[0]:g} to {band[1]:g} tokens a second" if band else ""
        measured = "" if row.found.measured else ", not measured"
        yield f"{clean(row.name)}   {clean(row.found.architecture or 'no architecture')}{measured}{speed}"
        cells: list[tuple[str, ...]] = [
            ("", "PLACE", "LAYERS", "WEIGHTS", "TWICE", "KV", "STATE", "COMPUTE", "OUTPUT", "OVERHEAD", "TOTAL")
        ]
        for use in row.found.uses:
            sizes = (use.weights, use.repacked, use.kv, use.state, use.compute, use.output, use.overhead, use.total)
            cells.append(("", use.name, str(use.layers), *map(memory, sizes)))
        yield from table(cells, right=frozenset(range(2, 11))).split("\n")
