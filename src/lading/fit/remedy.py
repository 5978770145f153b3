"""What would fit where a model does not: a shorter context, a smaller cache, another quantization."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from lading.errors import UnfitError
from lading.estimate.refused import refusal
from lading.fit.row import Fits
from lading.fit.weigh import LEAST_CONTEXT, weigh
from lading.text import clean, memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.estimate import EstimateSettings
    from lading.fit.machine import Machine
    from lading.fit.row import Row

_CONTEXTS = (32768, 16384, 8192, 4096, LEAST_CONTEXT)
_SMALL_CACHE = "q8_0"
_OTHERS = 2


class Remedy(NamedTuple):
    """A way that fits: `what` is a flag or the name of another row, `row` what it needs."""

    what: str
    row: Row


def remedies(unfit: Row, machine: Machine, others: Sequence[Row] = ()) -> tuple[Remedy, ...]:
    """Return what would fit instead of a row that does not: flags first, then the best of the other rows of the model."""
    asked = unfit.settings
    found = [
        *_with_flags(unfit, machine, asked),
        *(
            Remedy(row.candidate.select or row.name, row)
            for row in sorted(others, key=lambda row: -row.weights)
            if row.fits in {Fits.WHOLE, Fits.PARTLY} and row.candidate != unfit.candidate
        ),
    ]
    flags = [one for one in found if one.row.candidate == unfit.candidate]
    rows = [one for one in found if one.row.candidate != unfit.candidate]
    return (*flags, *rows[:_OTHERS])


def unfit_error(name: str, unfit: Row, machine: Machine, others: Sequence[Row] = ()) -> UnfitError:
    """Return the error for a model that fits nowhere on a machine; its hint says what would fit.

    `name` is what the user calls the model.
    """
    at_context = f" with a context of {unfit.found.context:,}" if unfit.found.known else ""
    msg = f"{clean(name)} needs {memory(unfit.total)}{at_context}, and {_free(machine)}"
    found = remedies(unfit, machine, others)
    words = [f"{one.what} needs {memory(one.row.total)}" for one in found]
    hint = "; ".join(words) if words else "neither a shorter context nor a smaller cache would do: take a smaller model"
    return UnfitError(msg, hint=hint)


def _with_flags(unfit: Row, machine: Machine, asked: EstimateSettings) -> list[Remedy]:
    if not unfit.found.known or unfit.candidate.model.format != "gguf":
        return []
    placed = replace(asked, tensor_split=None, gpu_layers=None, devices=0)
    smaller = replace(placed, cache_type_k=_SMALL_CACHE, cache_type_v=_SMALL_CACHE)
    plain = asked.cache_type_k == asked.cache_type_v == "f16" and asked.flash
    offered = plain and refusal(unfit.candidate.model, smaller) is None
    found = []
    if offered and (row := weigh(unfit.candidate, machine, smaller)).fits is not Fits.NO:
        found.append(Remedy(f"--cache-type-k {_SMALL_CACHE} --cache-type-v {_SMALL_CACHE}", row))
    for context in _CONTEXTS:
        if context < (asked.ctx_size or 0):
            row = weigh(unfit.candidate, machine, replace(placed, ctx_size=context))
            if row.fits is not Fits.NO:
                return [*found, Remedy(f"--ctx-size {context}", row)]
    return found


def _free(machine: Machine) -> str:
    left = machine.memory if machine.available is None else machine.available
    of = f" (of {memory(machine.memory)})" if machine.available is not None and machine.memory is not None else ""
    host = "nobody tells how much is free" if left is None else f"{memory(left)} are free{of}"
    if not machine.devices:
        return host
    rooms = ", ".join(memory(room) for room in machine.rooms)
    return f"{host}, on devices {rooms}"
