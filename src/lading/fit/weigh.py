"""A candidate held against a machine: where its layers go, whether they fit there, and how long the context may be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lading.estimate import EstimateSettings, Estimator
from lading.estimate.companions import with_adapter, with_drafter, with_projector
from lading.estimate.refused import refusal
from lading.fit.row import DEFAULT_CONTEXT, Fits, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.estimate import Estimate
    from lading.fit.machine import Machine
    from lading.fit.row import Candidate

LEAST_CONTEXT = 2048
"""Tokens; a context is not shortened below this to make a model fit."""

_STEP = 256
_LONGEST = 2**24
_STRAIGHT = 6
_SMALL_CACHE = "q8_0"
_PLAIN = EstimateSettings()


def weigh(candidate: Candidate, machine: Machine, settings: EstimateSettings = _PLAIN) -> Row:
    """Return what a candidate needs on a machine when it is run as asked.

    Of `settings` the context, the layers on devices, the experts on the host and the split are chosen where they are None
    or 0; `devices` is the machine's. A model that does not fit on devices whole has as many layers there as fit, or of
    experts as few on the host as must be. What fits without the host's second copy of weights alone goes without it.
    Raises FormatError for a header that contradicts itself, UsageError for settings that contradict the machine, and for
    such as llama.cpp does not run this model with.
    """
    if refused := refusal(candidate.model, settings, candidate.name):
        raise refused
    scale = _Scale(candidate, machine)
    asked = _asked(candidate, machine, settings)
    found = scale.at(asked)
    if not found.known or candidate.model.format != "gguf":
        unfit = scale.spare(found) < 0
        return Row(candidate, Fits.NO if unfit else Fits.UNKNOWN, found, asked, notes=_notes(candidate, found))
    if scale.spare(found) >= 0:
        return scale.row(asked)
    least = replace(asked, repack=False)
    for way in (least, *scale.placements(asked, settings)):
        if scale.spare(scale.at(way)) >= 0:
            return scale.row(way)
    found = scale.at(least)
    return Row(candidate, Fits.NO, found, least, notes=_notes(candidate, found))


def settle(candidate: Candidate, machine: Machine, settings: EstimateSettings = _PLAIN, *, free_cache: bool) -> Row:
    """Return the row of the first settings that fit: as asked, with a cache of 8 bits, with a shorter context.

    The cache types are left as they are unless `free_cache`, the context where it was asked for. What the row says when
    nothing fits is that of the settings asked for.
    """
    asked = weigh(candidate, machine, settings)
    if asked.fits is not Fits.NO or not asked.found.known:
        return asked
    wanted = asked.settings.ctx_size or DEFAULT_CONTEXT
    smaller = free_cache and settings.flash and settings.cache_type_k == settings.cache_type_v == "f16"
    small = replace(settings, cache_type_k=_SMALL_CACHE, cache_type_v=_SMALL_CACHE)
    kinds = [small] if smaller and refusal(candidate.model, small) is None else []
    for kind in kinds:
        if (row := weigh(candidate, machine, replace(kind, ctx_size=wanted))).fits is not Fits.NO:
            return row
    if settings.ctx_size is None:
        for kind in (settings, *kinds):
            # A quarter of the usual context is a chat still.
            if (row := weigh(candidate, machine, replace(kind, ctx_size=min(wanted, LEAST_CONTEXT)))).fits != Fits.NO:
                longest = min(wanted, row.max_context or LEAST_CONTEXT)
                return weigh(candidate, machine, replace(kind, ctx_size=longest))
    return asked


def usual_context(candidate: Candidate) -> int:
    """Return the context that a model is given when nobody says: the usual one, or all that it was trained for if less."""
    trained = candidate.model.number("context_length")
    return min(trained, DEFAULT_CONTEXT) if trained else DEFAULT_CONTEXT


class _Scale:
    """Weighs one candidate on one machine; what does not depend on the context is computed once for each placement."""

    def __init__(self, candidate: Candidate, machine: Machine) -> None:
        self._candidate = candidate
        self._machine = machine
        self._estimators: dict[EstimateSettings, Estimator] = {}

    def at(self, settings: EstimateSettings) -> Estimate:
        """Return what the candidate needs, with all that comes with it."""
        one = self._candidate
        placement = replace(settings, ctx_size=None)
        if placement not in self._estimators:
            self._estimators[placement] = Estimator(one.model, placement)
        found = self._estimators[placement].at(settings.ctx_size)
        for drafter in one.drafters:
            found = with_drafter(found, drafter, settings)
        for adapter in one.adapters:
            found = with_adapter(found, adapter, one.model, settings)
        for projector in one.projectors:
            found = with_projector(found, projector, settings)
        return found

    def spare(self, found: Estimate) -> int:
        """Return the bytes that are left where there is least room; below zero it does not fit."""
        rooms = (self._machine.host, *self._machine.rooms)
        least = min(room - use.total for room, use in zip(rooms, found.uses, strict=False))
        return min(least, self._machine.host - found.total) if self._machine.shares else least

    def row(self, settings: EstimateSettings) -> Row:
        """Return the row of settings that fit, with the longest context that they leave room for."""
        found = self.at(settings)
        layers = settings.gpu_layers
        parted = settings.n_cpu_moe or (layers is not None and layers <= self._candidate.model.layers)
        fits = Fits.PARTLY if settings.devices and parted else Fits.WHOLE
        return Row(self._candidate, fits, found, settings, self._longest(settings), _notes(self._candidate, found))

    def placements(self, asked: EstimateSettings, given: EstimateSettings) -> list[EstimateSettings]:
        """Return the ways to put part of the model on devices, the better first; none where the user has said how."""
        if not asked.devices or given.gpu_layers is not None or given.n_cpu_moe or given.overrides:
            return []
        rooms, layers = self._machine.rooms, self._candidate.model.layers
        everything = self._machine.host + (0 if self._machine.shares else sum(rooms))
        if self._candidate.model.data_size > everything:
            return []
        ways = []
        if self._candidate.model.number("expert_count"):
            # The fewer layers' experts lie on the host, the faster: the least number with which the devices suffice.
            least = _last_above_zero(
                lambda few: self._spare_there(replace(asked, n_cpu_moe=layers - few)), 0, layers - 1
            )
            if least is not None:
                ways.append(replace(asked, n_cpu_moe=layers - least))
        most = _last_above_zero(lambda some: self._spare_there(replace(asked, gpu_layers=some)), 0, layers)
        if most is not None:
            ways.append(replace(asked, gpu_layers=most))
        return [one for way in ways for one in (way, replace(way, repack=False))]

    def _spare_there(self, settings: EstimateSettings) -> int:
        """Return the bytes that are left on the devices, where there is least room."""
        uses = self.at(settings).devices
        return min(room - use.total for use, room in zip(uses, self._machine.rooms, strict=True))

    def _longest(self, settings: EstimateSettings) -> int | None:
        """Return the longest context, in whole steps unless it is all that the model was trained for."""
        trained = self._candidate.model.number("context_length") or _LONGEST
        limit = max(trained, settings.ctx_size or 0)

        def spare(steps: int) -> int:
            return self.spare(self.at(replace(settings, ctx_size=min(limit, steps * _STEP))))

        steps = _last_above_zero(spare, max(1, (settings.ctx_size or _STEP) // _STEP), -(-limit // _STEP))
        return None if steps is None else min(limit, steps * _STEP)


def _asked(candidate: Candidate, machine: Machine, settings: EstimateSettings) -> EstimateSettings:
    count = len(machine.devices)
    split = settings.tensor_split
    if split is None and count > 1:
        # As llama.cpp does: each device gets layers by the memory that it has free.
        split = tuple(float(max(room, 1)) for room in machine.rooms)
    return replace(
        settings,
        ctx_size=settings.ctx_size or usual_context(candidate),
        devices=count,
        tensor_split=split if count else None,
        gpu_layers=settings.gpu_layers if count else None,
    )


def _notes(candidate: Candidate, found: Estimate) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*found.notes, *candidate.notes)))


def _last_above_zero(value: Callable[[int], int], first: int, last: int) -> int | None:
    """Return the last number at which a falling function is not below zero, from `first` on; None if it is at none.

    It falls in a few straight lines, so that the crossing of a line through two points is nearly always next to it.
    """
    low, above = first, value(first)
    if above < 0:
        return None
    high, below = last, value(last)
    if below >= 0:
        return last
    turn = 0
    while high - low > 1:
        turn += 1
        straight = low + (high - low) * above // (above - below)
        guess = (low + high) // 2 if turn > _STRAIGHT else min(max(straight, low + 1), high - 1)
        found = value(guess)
        if found >= 0:
            low, above = guess, found
        else:
            high, below = guess, found
    return low
