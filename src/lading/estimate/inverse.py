"""The estimate asked the other way round: what is the most that fits into the memory there is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lading.estimate import estimate
from lading.estimate.settings import EstimateSettings, padded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lading.estimate.result import Estimate
    from lading.hparams import Hparams

_STEP = 256
_LONGEST = 2**24


def fits(found: Estimate, host: int, devices: Sequence[int]) -> bool:
    """Tell whether an estimate stays within so many bytes on the host and on each device."""
    rooms = (host, *devices)
    return len(found.uses) <= len(rooms) and all(
        use.total <= room for use, room in zip(found.uses, rooms, strict=False)
    )


def largest_context(
    hparams: Hparams, settings: EstimateSettings, host: int, devices: Sequence[int], *, most: int | None = None
) -> int | None:
    """Return the longest context, a multiple of 256, with which the model fits; None if it does with none.

    `most` is where to stop, by default what the model was trained for. Of an unknown architecture nothing can be said: None.
    """
    limit = most or hparams.number("context_length") or _LONGEST
    if not estimate(hparams, settings).known:
        return None

    def room(steps: int) -> bool:
        asked = replace(settings, ctx_size=min(limit, steps * _STEP))
        return fits(estimate(hparams, asked), host, devices)

    steps = _most(room, 1, padded(min(limit, _LONGEST), _STEP) // _STEP)
    return None if steps is None else min(limit, steps * _STEP)


def most_layers(hparams: Hparams, settings: EstimateSettings, host: int, devices: Sequence[int]) -> int | None:
    """Return the most layers, the output counted as one more, that devices can take; None if not even none fits.

    The rest must fit on the host; where fewer layers on devices would not help the host, none is tried.
    """

    def room(layers: int) -> bool:
        found = estimate(hparams, replace(settings, gpu_layers=layers, devices=len(devices)))
        return all(use.total <= size for use, size in zip(found.devices, devices, strict=True))

    layers = _most(room, 0, hparams.layers + 1)
    if layers is None:
        return None
    found = estimate(hparams, replace(settings, gpu_layers=layers, devices=len(devices)))
    return layers if found.host.total <= host else None


def _most(room: Callable[[int], bool], least: int, limit: int) -> int | None:
    """Return the largest number for which there is room, within bounds; more never fits where less does not."""
    if not room(least):
        return None
    while least < limit:
        middle = (least + limit + 1) // 2
        if room(middle):
            least = middle
        else:
            limit = middle - 1
    return least
