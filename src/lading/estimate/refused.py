"""Caches that llama.cpp does not run a model with: it refuses some, and over others it ends itself.

Read in its source (llama_init_from_model and graph_max_nodes in src/llama-context.cpp, ggml_hash_find in
ggml/src/ggml-impl.h) and compared with what it did for models on both sides of each border (tests/estimate/oracle.json).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lading.errors import UsageError
from lading.estimate.layers import head_widths, is_mla
from lading.estimate.settings import PLAIN_TYPES, block_of
from lading.text import clean

if TYPE_CHECKING:
    from lading.estimate.settings import EstimateSettings
    from lading.hparams import Hparams

# A graph's tensors go into a hash table of one of these sizes, the next one to eight for each tensor of the model.
_TABLES = (1031, 2053, 4099, 8209, 16411)
_SMALLEST = 1024
_FOR_EACH = 8
# Where heads are turned before they are quantized, that is too few for phi3, whose layers have six large tensors only.
_TURNED = 64
_IN_A_LAYER = 49
_FOR_SLOTS = 2
_FOR_FLASH = 2
_AROUND = 24


def refusal(hparams: Hparams, settings: EstimateSettings, name: str = "") -> UsageError | None:
    """Return the error for a cache that llama.cpp does not run a model with; None where nothing is known against it.

    `name` is what the user calls the model.
    """
    called = f"{clean(name)}: " if name else ""
    if hparams.format != "gguf":
        return None
    keys, values = settings.cache_type_k, settings.cache_type_v
    if settings.flash:
        for what, kind, widths in zip(("keys", "values"), (keys, values), _head_widths(hparams), strict=True):
            if odd := next((width for width in widths if width % block_of(kind)), 0):
                msg = f"{called}llama.cpp does not keep {what} of {odd} elements a head as {kind}"
                return UsageError(msg, hint=f"--cache-type-{what[0]} f16: {kind} takes {block_of(kind)} at a time")
    if is_mla(hparams) and keys != values:
        msg = f"{called}llama.cpp keeps its keys and values together, not as {keys} and {values}"
        return UsageError(msg, hint=f"--cache-type-k {keys} --cache-type-v {keys}")
    if _overflows(hparams, settings):
        slots = f" with {settings.parallel} slots" if settings.parallel > 1 else ""
        msg = f"{called}llama.cpp breaks off over a cache of {keys} and {values}{slots}"
        one = "" if _overflows(hparams, replace(settings, parallel=1)) else ", or --parallel 1"
        return UsageError(msg, hint=f"--cache-type-k f16{one}")
    return None


def _head_widths(hparams: Hparams) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the elements of a head's keys and of its values, in layers with a window too."""
    key, value = head_widths(hparams)
    return (
        (key, hparams.number("attention.key_length_swa", key)),
        (value, hparams.number("attention.value_length_swa", value)),
    )


def _overflows(hparams: Hparams, settings: EstimateSettings) -> bool:
    """Tell whether a graph has more tensors than its hash table has places (ggml_hash_find)."""
    values_too = settings.cache_type_v not in PLAIN_TYPES
    turned = not any(width % _TURNED for widths in _head_widths(hparams) for width in widths)
    if hparams.architecture != "phi3" or not turned or settings.cache_type_k in PLAIN_TYPES:
        return False
    if settings.flash and not values_too:
        return False
    in_a_layer = _IN_A_LAYER - (0 if settings.flash else _FOR_FLASH)
    if settings.parallel > 1 and not settings.unified:
        in_a_layer += _FOR_SLOTS
    places = next((size for size in _TABLES if size >= max(_SMALLEST, _FOR_EACH * len(hparams.tensors))), _TABLES[-1])
    return in_a_layer * hparams.layers + _AROUND > places
