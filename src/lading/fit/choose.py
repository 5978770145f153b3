"""Which of several rows to take on a machine, and why, in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lading.fit.row import Fits
from lading.text import count, memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.fit.machine import Machine
    from lading.fit.row import Row

SEVERAL = "these are different models: one must be named"
"""Why nothing is chosen of different models."""

LOSSLESS = 12.0
"""Bits per weight; a model that has more is twice as large as one of 8 bits, and no better that anybody has shown."""

ENOUGH = 4.0
"""Bits per weight below which models are seen to get worse."""

_ALIKE = 1.1


class Choice(NamedTuple):
    """The row to take, None where none can be, and the reason, a phrase that follows its name: `best of 6 that fit`."""

    row: Row | None
    why: str


def choose(rows: Sequence[Row], machine: Machine) -> Choice:
    """Choose one of the rows of one model.

    What fits whole comes first, and of that the one with the most bits, quantized before unquantized. Where only part
    fits on devices it is the smallest of `ENOUGH` bits or more, else the largest. Nothing is chosen of different models,
    nor of what is not known or fits nowhere; then `why` is a sentence of its own.
    """
    if not rows:
        return Choice(None, "there is nothing to choose from")
    if _differ(rows):
        return Choice(None, SEVERAL)
    choice = _whole(rows, machine) or _partly(rows, machine)
    if choice is not None:
        return Choice(None, SEVERAL) if _has_twin(choice.row, rows) else choice
    if any(row.fits is Fits.UNKNOWN for row in rows):
        unknown = next(row for row in rows if row.fits is Fits.UNKNOWN)
        kind = unknown.found.architecture or "none named"
        return Choice(None, f"whether it fits is not known: of its memory ({kind}) only the weights are")
    least = min(rows, key=lambda row: row.total)
    return Choice(None, f"{_of(rows, 'it does not', f'none of {len(rows)} does')} fit: {memory(least.total)} at least")


def _whole(rows: Sequence[Row], machine: Machine) -> Choice | None:
    whole = [row for row in rows if row.fits is Fits.WHOLE]
    if not whole:
        return None
    best = max(whole, key=lambda row: (_bits(row) <= LOSSLESS, _bits(row), row.weights))
    where = f"fits whole in {_room(machine)}"
    return Choice(best, _of(rows, where, f"best of {len(rows)} that {where}"))


def _partly(rows: Sequence[Row], machine: Machine) -> Choice | None:
    partly = [row for row in rows if row.fits is Fits.PARTLY]
    if not partly:
        return None
    enough = [row for row in partly if _bits(row) >= ENOUGH]
    best = min(enough, key=_bits) if enough else max(partly, key=_bits)
    placed = "fits partly on devices, the rest in memory" if best.gpu_layers else "fits in memory, no layer on a device"
    return Choice(best, _of(rows, placed, f"none of {len(rows)} fits whole in {_room(machine)}; this one {placed}"))


def _of(rows: Sequence[Row], alone: str, among: str) -> str:
    return alone if len(rows) == 1 else among


def _room(machine: Machine) -> str:
    if machine.devices:
        held = memory(sum(machine.rooms))
        return (
            f"{held} of {count(len(machine.devices), 'device')}"
            if len(machine.devices) > 1
            else f"{held} of the device"
        )
    left = machine.memory if machine.available is None else machine.available
    return "memory" if left is None else f"{memory(left)} of memory"


def _bits(row: Row) -> float:
    return row.candidate.bits or 0.0


def _differ(rows: Sequence[Row]) -> bool:
    counts = [row.candidate.parameters for row in rows if row.candidate.parameters]
    kinds = {row.found.architecture for row in rows if row.candidate.model.format == "gguf"}
    return len(kinds) > 1 or (bool(counts) and max(counts) > _ALIKE * min(counts))


def _has_twin(best: Row | None, rows: Sequence[Row]) -> bool:
    """Say whether the best one is one of several that no quantization tells apart: two models, however much alike."""
    return best is not None and best.candidate.of_file and sum(row.candidate.of_file for row in rows) > 1
