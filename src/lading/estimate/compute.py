"""Bytes of the buffers of one batch: what llama.cpp's worst graph needs at its peak.

There is no formula for it in llama.cpp: an allocator lays out the graph and reuses what is free. The rules here were made
by comparing the peaks of 32 models (scripts/oracle.sh) and say which tensors lie side by side at each of the places where
a peak can be; the largest counts. docs/reference/estimate.md tells how far off they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lading.estimate.architectures import CACHELESS, ENCODERS
from lading.estimate.layers import head_widths, is_mla
from lading.estimate.placement import kept_back
from lading.estimate.settings import PLAIN_TYPES, window_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.estimate.layers import Layer
    from lading.estimate.placement import Places
    from lading.estimate.settings import Cells, EstimateSettings
    from lading.hparams import Hparams

_FLOAT = 4
_COPIES = 4
_RESIDUALS = {"cohere2": 6, "command-r": 6, "granitehybrid": 6}
_USUAL_RESIDUALS = 5
_SMALL = 9
# These compute no logits where embeddings are asked for (src/models/lfm2.cpp).
_EMBEDS_ALONE = frozenset({"lfm2", "lfm2moe"})
# Seen to give up flash attention, where they are free to, when their layers lie on both sides.
_GIVE_UP_FLASH = frozenset({"granitehybrid", "jamba"})


class _Graph(NamedTuple):
    """What a graph is built from. Its figures below are floats for each token computed at once."""

    hparams: Hparams
    layers: Sequence[Layer]
    settings: EstimateSettings
    cells: Cells
    flash: bool

    @property
    def width(self) -> int:
        return self.hparams.number("embedding_length")

    @property
    def rest(self) -> int:
        """What lies beside the widest products: the input, its norm and what is added up."""
        return _RESIDUALS.get(self.hparams.architecture or "", _USUAL_RESIDUALS) * self.width


def compute_of(
    hparams: Hparams, layers: Sequence[Layer], settings: EstimateSettings, cells: Cells, places: Places
) -> dict[int | None, int]:
    """Return the bytes of compute buffers by device, the host (None) among them."""
    graph = _Graph(hparams, layers, settings, cells, settings.flash)
    if not places.used:
        floats: dict[int | None, float] = {None: _masks(graph) + max(_peaks(graph))}
    elif len(places.used) > 1 and places.whole and settings.kv_offload and not kept_back(hparams, settings, places):
        floats = _piped(graph, places)
    else:
        floats = _parted(graph, places)
    return {device: round(count * cells.tokens * _FLOAT) for device, count in floats.items()}


def _piped(graph: _Graph, places: Places) -> dict[int | None, float]:
    """Return the needs of a whole model on several devices: a pipeline, with copies of what crosses from one to the next."""
    crossing = _COPIES * _masks(graph)
    peak = max(_peaks(graph)) * (2 if any(layer.state for layer in graph.layers) else 1)
    first, *others = places.used
    return {
        None: crossing + 10 * graph.width,
        first: crossing + peak + 11 * graph.width,
        **dict.fromkeys(others, crossing + peak + 6 * graph.width),
    }


def _parted(graph: _Graph, places: Places) -> dict[int | None, float]:
    """Return the needs of a model on one device, or of one that lies partly on the host."""
    mixed = any(layer.keys for layer in graph.layers) and any(layer.convolution for layer in graph.layers)
    free = graph.settings.flash_attention == "auto" and graph.settings.cache_type_v in PLAIN_TYPES
    if free and not places.whole and graph.hparams.architecture in _GIVE_UP_FLASH:
        graph = graph._replace(flash=False)
    masks, peak = _masks(graph), max(_peaks(graph))
    back = kept_back(graph.hparams, graph.settings, places)
    on_host = masks + 4 * graph.width + (0 if graph.flash else _rows(graph.layers))
    if not places.whole:
        on_host = masks + peak
    elif "experts" in back or "some experts" in back:
        on_host = masks + _feed_forward(graph, graph.width)
    elif back:
        on_host = max(on_host, masks + max(back.values()) + graph.width)
    if not graph.settings.kv_offload:
        computed = graph._replace(flash=graph.flash and not (free and mixed))
        on_host = max(on_host, _masks(computed) + (max(_peaks(computed)) if mixed else _recurrent(graph)))
    experts = graph.hparams.number("expert_count")
    on_device = masks + peak
    if "experts" in back:
        used = graph.hparams.number("expert_used_count")
        on_device = masks + max(_attention(graph), _recurrent(graph), _leading(graph), (used + 4) * graph.width)
    elif graph.settings.kv_offload and (places.whole or not experts):
        on_device -= graph.width if places.whole else 3 * graph.width
    return {None: on_host, **dict.fromkeys(places.used, on_device)}


def _rows(layers: Sequence[Layer]) -> int:
    rows = max((layer.keys + layer.values for layer in layers), default=0)
    return rows * (2 if any(layer.window for layer in layers) else 1)


def _masks(graph: _Graph) -> float:
    """Return the inputs: the mask has a value for each cell, half as long with flash attention."""
    part = 0.5 if graph.flash else 1.0
    if graph.hparams.architecture in CACHELESS:
        return _SMALL + part * graph.cells.tokens
    attending = [layer for layer in graph.layers if layer.keys]
    masks = part * graph.cells.each if any(not layer.window for layer in attending) else 0.0
    windows = {layer.window for layer in attending if layer.window}
    near = (4 + part * window_cells(window, graph.settings, graph.cells) for window in windows)
    return masks + _SMALL + sum(near)


def _peaks(graph: _Graph) -> tuple[float, ...]:
    """Return what lies side by side at each place of the graph where a peak can be."""
    outputs = graph.cells.tokens if graph.settings.embeddings else min(graph.cells.tokens, graph.settings.parallel)
    logits = graph.hparams.vocabulary * outputs / graph.cells.tokens + graph.rest
    kind = graph.hparams.architecture
    if kind in ENCODERS or (kind in _EMBEDS_ALONE and graph.settings.embeddings):
        logits = 0.0
    return (_feed_forward(graph, graph.rest), _attention(graph), _recurrent(graph), logits)


def _feed_forward(graph: _Graph, rest: int) -> float:
    hparams = graph.hparams
    dense = max(hparams.per_layer("feed_forward_length"), default=0)
    if not hparams.number("expert_count"):
        names = {tensor.name.partition(".ffn_")[2] for tensor in hparams.tensors}
        # Without a gate one product less lies beside.
        gated = bool(names & {"gate.weight", "gate_up.weight"}) or hparams.architecture == "phi3"
        return 3 * dense + rest if gated else 2 * dense + 3 * graph.width
    used = hparams.number("expert_used_count")
    # Some models name the experts' width only as the common one.
    expert = hparams.number("expert_feed_forward_length", dense)
    return max(3 * expert * used + rest, 2 * used * graph.width + 6 * graph.width, _leading(graph))


def _leading(graph: _Graph) -> float:
    """Return the same for the dense layers that come before those of experts."""
    dense = max(graph.hparams.per_layer("feed_forward_length"), default=0)
    return 3 * dense + graph.rest if graph.hparams.number("leading_dense_block_count") else 0


def _attention(graph: _Graph) -> float:
    hparams = graph.hparams
    heads = max(hparams.per_layer("attention.head_count"), default=0)
    if hparams.architecture in CACHELESS:
        return 7 * graph.width + (0 if graph.flash else heads * graph.cells.tokens)
    kept = max((layer.keys + layer.values for layer in graph.layers), default=0)
    if not kept:
        return 0
    key, _ = head_widths(hparams)
    if is_mla(hparams):
        rope, rank = hparams.number("rope.dimension_count"), hparams.number("attention.kv_lora_rank")
        side = heads * (hparams.number("attention.key_length_mla") + rope + rank + key) + 5 * graph.width
    else:
        side = heads * key * (2 if any(layer.window for layer in graph.layers) else 1) + kept + 5 * graph.width
    return side if graph.flash else side + heads * graph.cells.each


def _recurrent(graph: _Graph) -> float:
    hparams, tokens = graph.hparams, graph.cells.tokens
    if head := hparams.number("wkv.head_size"):
        return 20 * graph.width + graph.width * head / tokens
    inner, state = hparams.number("ssm.inner_size"), hparams.number("ssm.state_size")
    if not inner:
        return 0
    kernel, groups = hparams.number("ssm.conv_kernel"), hparams.number("ssm.group_count")
    convolved = (inner + 2 * groups * state) * (tokens + max(0, kernel - 1)) / tokens
    projected = 2 * inner + 2 * groups * state + hparams.number("ssm.time_step_rank")
    scanned = inner + state * inner / tokens
    return 2 * convolved + projected + scanned + 5 * graph.width
