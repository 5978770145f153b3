"""What comes with a model and takes memory beside it: a drafter, adapters, a projector for images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lading.estimate import estimate
from lading.estimate.placement import layer_of, places_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.estimate.result import Estimate, Use
    from lading.estimate.settings import EstimateSettings
    from lading.hparams import Hparams

_KINDS = ("keys", "values", "state", "compute", "output", "weights", "mapped", "repacked")


def with_drafter(found: Estimate, drafter: Hparams, settings: EstimateSettings) -> Estimate:
    """Return the estimate with a second model beside the first, run with the same settings but counted without overhead.

    Its cache is of F16 whatever the first one's is: llama-server has flags of their own for a drafter's.
    """
    plain = replace(settings, cache_type_k="f16", cache_type_v="f16")
    other = estimate(drafter, replace(plain, overhead=(0, 0), overrides=(), n_cpu_moe=0))
    uses = tuple(_together(one, second) for one, second in zip(found.uses, other.uses, strict=True))
    notes = (*found.notes, *(f"drafter: {note}" for note in other.notes))
    return replace(found, uses=uses, known=found.known and other.known, notes=tuple(dict.fromkeys(notes)))


def with_adapter(found: Estimate, adapter: Hparams, model: Hparams, settings: EstimateSettings) -> Estimate:
    """Return the estimate with a LoRA adapter, whose tensors lie with the tensors that they change."""
    places = places_of(settings, model.layers)
    sizes: dict[int | None, int] = {}
    for tensor in adapter.tensors:
        layer = layer_of(tensor.name)
        if tensor.name.startswith("token_embd."):
            where = None
        else:
            where = places.layers[layer] if layer is not None and layer < len(places.layers) else places.output
        sizes[where] = sizes.get(where, 0) + tensor.size
    return replace(found, uses=_with_weights(found.uses, sizes))


def with_projector(found: Estimate, projector: Hparams, settings: EstimateSettings) -> Estimate:
    """Return the estimate with a projector's weights, which lie on the first device; what images take is not known."""
    note = "what the projector computes for an image is not counted"
    sizes: dict[int | None, int] = {0 if settings.devices and settings.gpu_layers != 0 else None: projector.data_size}
    return replace(found, uses=_with_weights(found.uses, sizes), notes=(*found.notes, note))


def _with_weights(uses: Sequence[Use], sizes: dict[int | None, int]) -> tuple[Use, ...]:
    places: tuple[int | None, ...] = (None, *range(len(uses) - 1))
    return tuple(
        use._replace(weights=use.weights + sizes.get(place, 0)) for use, place in zip(uses, places, strict=True)
    )


def _together(one: Use, other: Use) -> Use:
    sums = {kind: getattr(one, kind) + getattr(other, kind) for kind in _KINDS}
    return one._replace(**sums)
