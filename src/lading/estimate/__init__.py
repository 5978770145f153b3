"""Estimate: how many bytes a model needs where, from its header and the settings alone; nothing is opened or asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lading.estimate.architectures import KNOWN, MEASURED
from lading.estimate.cache import kept_by
from lading.estimate.compute import compute_of
from lading.estimate.layers import layers_of
from lading.estimate.placement import places_of, weights_of
from lading.estimate.result import HOST, Estimate, Use
from lading.estimate.settings import CACHE_TYPES, EstimateSettings, Override, cells_of

if TYPE_CHECKING:
    from lading.hparams import Hparams

__all__ = ["CACHE_TYPES", "Estimate", "EstimateSettings", "Estimator", "Override", "Use", "estimate"]

_FLOAT = 4
# llama-server 0.7.0 grew by some 300 bytes for each token of vocabularies of 32,000 to 262,000.
_TOKEN = 320


def estimate(hparams: Hparams, settings: EstimateSettings | None = None) -> Estimate:
    """Return what llama.cpp would take for a model; of an unknown architecture the weights alone.

    Weights, keys, values, state and output are exact where `measured`; compute and overhead are not, see
    docs/reference/estimate.md. Raises FormatError for a header that contradicts itself.
    """
    asked = settings or EstimateSettings()
    return Estimator(hparams, asked).at(asked.ctx_size)


class Estimator:
    """One model, run one way, to be estimated for several contexts: what does not depend on these is computed once."""

    __slots__ = ("_held", "_hparams", "_known", "_layers", "_places", "_settings")

    def __init__(self, hparams: Hparams, settings: EstimateSettings) -> None:
        self._hparams = hparams
        self._settings = settings
        self._places = places_of(settings, hparams.layers)
        self._held = weights_of(hparams, settings, self._places)
        self._known = hparams.architecture in KNOWN and hparams.layers > 0
        self._layers = layers_of(hparams) if self._known else ()

    def at(self, ctx_size: int | None) -> Estimate:
        """Return the estimate for a context in tokens, None for what the model was trained for; `estimate` tells more."""
        hparams, places, known = self._hparams, self._places, self._known
        asked = replace(self._settings, ctx_size=ctx_size)
        cells = cells_of(asked, hparams)
        computed = hparams.format == "gguf" and known
        kept = kept_by(self._layers, asked, cells)
        compute = compute_of(hparams, self._layers, asked, cells, places) if computed else {}
        uses = []
        for device in (None, *range(asked.devices)):
            mine = [
                one
                for one, place in zip(kept, places.layers, strict=False)
                if (place if asked.kv_offload else None) == device
            ]
            weights = self._held[device].weights
            on_host = device is None
            used = on_host or device in places.used
            uses.append(
                Use(
                    name=HOST if on_host else f"device {device}",
                    layers=sum(place == device for place in places.layers),
                    weights=weights,
                    mapped=weights if on_host and asked.mmap else 0,
                    repacked=self._held[device].repacked if on_host and asked.mmap and asked.repack else 0,
                    keys=sum(one.keys for one in mine),
                    values=sum(one.values for one in mine),
                    state=sum(one.state for one in mine),
                    compute=compute.get(device, 0),
                    output=_output(hparams, asked) if on_host and computed else 0,
                    overhead=_overhead(hparams, asked, device) if used else 0,
                )
            )
        return Estimate(
            architecture=hparams.architecture,
            known=known,
            measured=computed and hparams.architecture in MEASURED,
            context=cells.context,
            uses=tuple(uses),
            notes=tuple(_notes(hparams, asked, known=known, repacked=any(use.repacked for use in uses))),
        )


def _output(hparams: Hparams, settings: EstimateSettings) -> int:
    """Return the bytes of logits, and of embeddings if those are asked for: a row for each slot."""
    row = hparams.vocabulary
    if settings.embeddings:
        row += hparams.number("embedding_length_out", hparams.number("embedding_length"))
    return _FLOAT * row * settings.parallel


def _overhead(hparams: Hparams, settings: EstimateSettings, device: int | None) -> int:
    return settings.overhead[1] if device is not None else settings.overhead[0] + _TOKEN * hparams.vocabulary


def _notes(hparams: Hparams, settings: EstimateSettings, *, known: bool, repacked: bool) -> list[str]:
    notes = []
    if not known:
        notes.append(
            f"nothing is known of the memory of architecture {hparams.architecture or '(none named)'}: only weights are counted"
        )
    elif hparams.format != "gguf":
        notes.append("of safetensors only weights, keys and values are counted")
    elif hparams.architecture not in MEASURED:
        notes.append(f"the rules for {hparams.architecture} were read in llama.cpp's source, not measured")
    if repacked:
        notes.append("the second copy of some weights depends on the processor; --no-repack avoids it")
    if settings.embeddings:
        notes.append("with embeddings the output grows with the longest request")
    if hparams.number("nextn_predict_layers"):
        notes.append("layers that only draft tokens are counted as weights, and keep nothing")
    return notes
