"""Bytes of what a model keeps between tokens: keys and values of attention, and the state of recurrent layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lading.estimate.settings import row_bytes, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.estimate.layers import Layer
    from lading.estimate.settings import Cells, EstimateSettings

_FLOAT = 4


class Kept(NamedTuple):
    """Bytes that one layer keeps."""

    keys: int
    values: int
    state: int


def kept_by(layers: Sequence[Layer], settings: EstimateSettings, cells: Cells) -> tuple[Kept, ...]:
    """Return the bytes of each layer. Keys and values grow with the context, the state with the slots only."""
    # Without flash attention values lie transposed, and all layers' rows are as wide as the widest.
    widest = 0 if settings.flash else max((layer.values for layer in layers), default=0)
    return tuple(_kept(layer, widest, settings, cells) for layer in layers)


def _kept(layer: Layer, widest: int, settings: EstimateSettings, cells: Cells) -> Kept:
    rows = rows_of(layer.window, settings, cells)
    values = max(layer.values, widest) if layer.keys and layer.values else layer.values
    return Kept(
        keys=row_bytes(settings.cache_type_k, layer.keys) * rows,
        values=row_bytes(settings.cache_type_v, values) * rows,
        state=_FLOAT * (layer.convolution + layer.state) * settings.parallel,
    )
