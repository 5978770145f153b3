"""What `fit` prints as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lading.estimate.rate import token_rate
from lading.fit import Fits

if TYPE_CHECKING:
    from lading.api._fit import Fitting, Weighed
    from lading.fit import Machine, Row


class FitDeviceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A graphics processor; `free_bytes` is null where nobody tells."""

    name: str
    memory_bytes: int | None
    free_bytes: int | None


class FitMachineDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that models were held against; `described` says that it is not this one but was told of."""

    memory_bytes: int | None
    available_bytes: int | None
    devices: tuple[FitDeviceDocument, ...]
    described: bool


class FitUseDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What one place is asked for: `host`, or `device 0` and so on; `layers` are those that lie there."""

    name: str
    layers: int
    total_bytes: int
    weights_bytes: int
    kv_bytes: int
    state_bytes: int
    compute_bytes: int
    output_bytes: int
    overhead_bytes: int


class FitRateDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens a second for one request, from what memory gives: with a full cache and much lost, and with an empty one."""

    low: float
    high: float


class FitRowDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One quantization or variant. `reference` is what was asked for, `select` what names this one there, "" where it is alone.

    `fits` is whole, partly, no or unknown; the bytes are of all devices and the host together. `context` is the one it was
    held against, `max_context` the longest that fits, null where none does or that is not known. `known` is false where
    weights alone are counted, `measured` says that llama.cpp was found to take as much. `tokens_per_second` is null where
    no bandwidth is known.
    """

    reference: str
    name: str
    select: str
    fits: str
    chosen: bool
    total_bytes: int
    weights_bytes: int
    kv_bytes: int
    state_bytes: int
    compute_bytes: int
    output_bytes: int
    overhead_bytes: int
    context: int
    max_context: int | None
    architecture: str | None
    quantization: str | None
    parameters: int | None
    known: bool
    measured: bool
    layers: int
    gpu_layers: int
    n_cpu_moe: int
    cache_type_k: str
    cache_type_v: str
    parallel: int
    repack: bool
    tokens_per_second: FitRateDocument | None
    uses: tuple[FitUseDocument, ...]
    notes: tuple[str, ...]


class ChoiceDocument(msgspec.Struct, frozen=True):
    """What was chosen under a reference, by the name of its row, null where nothing was; and why."""

    reference: str
    chosen: str | None
    why: str


class FitDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `fit` prints: the machine, and a row for each variant of each reference, best choice marked."""

    device: FitMachineDocument
    rows: tuple[FitRowDocument, ...]
    choices: tuple[ChoiceDocument, ...]


def fit_document(found: Fitting) -> FitDocument:
    """Write what was found."""
    rows = [_row(one, row, found.machine) for one in found.weighed for row in one.rows]
    choices = [ChoiceDocument(one.reference, _chosen(one), one.choice.why) for one in found.weighed]
    return FitDocument(device=_device(found.machine), rows=tuple(rows), choices=tuple(choices))


def _chosen(one: Weighed) -> str | None:
    return None if one.choice.row is None else one.choice.row.name


def _device(machine: Machine) -> FitMachineDocument:
    return FitMachineDocument(
        memory_bytes=machine.memory,
        available_bytes=machine.available,
        devices=tuple(
            FitDeviceDocument(name=device.name, memory_bytes=device.memory, free_bytes=device.free)
            for device in machine.devices
        ),
        described=machine.described,
    )


def rate(row: Row, machine: Machine) -> tuple[float, float] | None:
    """Return the band of tokens a second that a row may be written at, by the bandwidths that are known; None without."""
    if row.fits in {Fits.NO, Fits.UNKNOWN}:
        return None
    band = token_rate(row.candidate.model, row.found, (None, *(device.bandwidth for device in machine.devices)))
    return None if band is None else (round(band.low, 1), round(band.high, 1))


def _row(one: Weighed, row: Row, machine: Machine) -> FitRowDocument:
    settings = row.settings
    return FitRowDocument(
        reference=one.reference,
        name=row.name,
        select=row.candidate.select,
        fits=row.fits.value,
        chosen=one.choice.row is row,
        total_bytes=row.total,
        weights_bytes=row.weights,
        kv_bytes=row.kv,
        state_bytes=row.state,
        compute_bytes=row.compute,
        output_bytes=row.output,
        overhead_bytes=row.overhead,
        context=row.found.context,
        max_context=row.max_context,
        architecture=row.found.architecture,
        quantization=row.candidate.label or None,
        parameters=row.candidate.parameters or None,
        known=row.found.known,
        measured=row.found.measured,
        layers=row.layers,
        gpu_layers=row.gpu_layers,
        n_cpu_moe=settings.n_cpu_moe,
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        parallel=settings.parallel,
        repack=settings.repack,
        tokens_per_second=FitRateDocument(low=band[0], high=band[1]) if (band := rate(row, machine)) else None,
        uses=tuple(
            FitUseDocument(
                name=use.name,
                layers=use.layers,
                total_bytes=use.total,
                weights_bytes=use.weights + use.repacked,
                kv_bytes=use.kv,
                state_bytes=use.state,
                compute_bytes=use.compute,
                output_bytes=use.output,
                overhead_bytes=use.overhead,
            )
            for use in row.found.uses
        ),
        notes=row.notes,
    )
