"""Bytes of the buffers of one batch: what llama.cpp's worst graph needs at its peak.

There is no formula for it in llama.cpp: an allocator (ggml-alloc.c) lays out the graph and reuses what is free. The rules
here say which tensors lie side by side at each of the places where a peak can be, as its best fit puts them; the largest
counts. docs/fit-accuracy.md tells how far off they are, for models that the rules were made from and for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lading.estimate.architectures import CACHELESS, ENCODERS, HYBRID_BY_INTERVAL
from lading.estimate.layers import head_widths, is_mla
from lading.estimate.placement import kept_back, layer_of
from lading.estimate.settings import PLAIN_TYPES, padded, rows_of, window_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.estimate.layers import Layer
    from lading.estimate.placement import Places
    from lading.estimate.settings import Cells, EstimateSettings
    from lading.hparams import Hparams

_FLOAT = 4
_COPIES = 4
_CELLS = 256
# What lies beside the widest products of a dense layer, in widths of the model.
_RESIDUALS = {"cohere2": 6, "command-r": 6, "granitehybrid": 6}
_USUAL_RESIDUALS = 5
_SMALL = 9
# These compute no logits where embeddings are asked for (src/models/lfm2.cpp).
_EMBEDS_ALONE = frozenset({"lfm2", "lfm2moe"})


class _Graph(NamedTuple):
    """What a graph is built from. Its figures below are floats for each token computed at once."""

    hparams: Hparams
    layers: Sequence[Layer]
    settings: EstimateSettings
    cells: Cells
    tokens: int
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
    # graph_reserve in llama-context.cpp gives each sequence as many tokens.
    tokens = padded(cells.tokens, settings.parallel)
    graph = _Graph(hparams, layers, settings, cells, tokens, settings.flash)
    if not places.used:
        floats: dict[int | None, float] = {None: _masks(graph) + max(_peaks(graph))}
    elif settings.devices > 1 and places.whole and settings.kv_offload and not kept_back(hparams, settings, places):
        floats = _piped(graph, places)
    else:
        floats = _parted(graph, places)
    return {device: round(count * tokens * _FLOAT) for device, count in floats.items()}


def _piped(graph: _Graph, places: Places) -> dict[int | None, float]:
    """Return the needs of a whole model on several devices: a pipeline, with copies of what crosses from one to the next."""
    crossing, width = _COPIES * _masks(graph), graph.width
    recurrent, plain = _recurrent(graph), max(_feed_forward(graph, graph.rest), _attention(graph), _logits(graph))
    # What recurrent layers read from each other crosses too; encoders have another rhythm.
    encoder = graph.hparams.architecture in ENCODERS
    first, *others = places.used
    return {
        None: crossing + (11 if encoder else 10) * width,
        first: crossing + max(plain + (13 if encoder else 11) * width, recurrent and recurrent + 18 * width),
        **dict.fromkeys(
            others,
            crossing + max(plain + (0 if encoder and graph.flash else 6) * width, recurrent and recurrent + 21 * width),
        ),
    }


def _parted(graph: _Graph, places: Places) -> dict[int | None, float]:
    """Return the needs of a model on one device, or of one that lies partly on the host."""
    mixed = any(layer.keys for layer in graph.layers) and any(layer.convolution for layer in graph.layers)
    free = graph.settings.flash_attention == "auto" and graph.settings.cache_type_v in PLAIN_TYPES
    if free and _gives_up_flash(graph, places):
        graph = graph._replace(flash=False)
    masks, peak = _masks(graph), max(_peaks(graph))
    back = kept_back(graph.hparams, graph.settings, places)
    on_host = masks + (5 if graph.hparams.architecture in ENCODERS else 4) * graph.width
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


def _gives_up_flash(graph: _Graph, places: Places) -> bool:
    """Tell whether llama.cpp leaves flash attention to itself for no layer (resolve_fused_ops in llama-context.cpp).

    It does where one layer's attention would be computed elsewhere than the layer lies. That was seen to happen to the last
    layer on the host, if it has attention and a dense part, before a recurrent layer on a device.
    """
    index = next((index for index, place in enumerate(places.layers) if place is not None), 0) - 1
    if index < 0:
        return False
    last, following = graph.layers[index], graph.layers[index + 1]
    experts = any("_exps." in tensor.name and layer_of(tensor.name) == index for tensor in graph.hparams.tensors)
    return bool(last.keys and not last.convolution and following.convolution and not following.keys) and not experts


def _masks(graph: _Graph) -> float:
    """Return the inputs: the mask has a value for each cell, half as long with flash attention.

    Without it values lie transposed, and where each of them goes is an input too, of eight bytes (build_input_v_idxs in
    llama-kv-cache.cpp).
    """
    part = 0.5 if graph.flash else 1.0
    if graph.hparams.architecture in CACHELESS:
        return _SMALL + part * padded(graph.tokens, _CELLS)
    attending = [layer for layer in graph.layers if layer.keys]
    places = 0 if graph.flash else 2 * max((layer.values for layer in attending), default=0)
    masks = part * graph.cells.each + places if any(not layer.window for layer in attending) else 0.0
    windows = {layer.window for layer in attending if layer.window}
    near = (4 + places + part * window_cells(window, graph.settings, graph.cells) for window in windows)
    return masks + _SMALL + sum(near)


def _peaks(graph: _Graph) -> tuple[float, ...]:
    """Return what lies side by side at each place of the graph where a peak can be."""
    return (_feed_forward(graph, graph.rest), _attention(graph), _recurrent(graph), _logits(graph))


def _logits(graph: _Graph) -> float:
    kind, asked = graph.hparams.architecture, graph.settings.embeddings
    if kind in ENCODERS or (kind in _EMBEDS_ALONE and asked):
        return 0
    outputs = graph.tokens if asked else min(graph.tokens, graph.settings.parallel)
    return graph.hparams.vocabulary * outputs / graph.tokens + _USUAL_RESIDUALS * graph.width


def _feed_forward(graph: _Graph, rest: int) -> float:
    hparams = graph.hparams
    dense = max(hparams.per_layer("feed_forward_length"), default=0)
    if not hparams.number("expert_count"):
        names = {tensor.name.partition(".ffn_")[2] for tensor in hparams.tensors}
        # Without a gate the one product is changed in place, and may fit where queries, keys and values were.
        gated = bool(names & {"gate.weight", "gate_up.weight"}) or hparams.architecture == "phi3"
        # As narrow as the model itself, one of the three products fits where the norm's input was.
        beside = 2 if dense <= graph.width else 3
        return beside * dense + rest if gated else 6 * graph.width + (dense if dense > 3 * graph.width else 0)
    used = hparams.number("expert_used_count")
    # Some models name the experts' width only as the common one.
    expert = hparams.number("expert_feed_forward_length", dense)
    # What experts give fits where their two inner products were, unless it is wider than both.
    given = used * graph.width if graph.width > 2 * expert else 0
    return max(3 * expert * used + given + min(rest, _USUAL_RESIDUALS * graph.width), _leading(graph))


def _leading(graph: _Graph) -> float:
    """Return the same for the dense layers that come before those of experts."""
    dense = max(graph.hparams.per_layer("feed_forward_length"), default=0)
    return 3 * dense + graph.rest if graph.hparams.number("leading_dense_block_count") else 0


def _attention(graph: _Graph) -> float:
    hparams, width = graph.hparams, graph.width
    heads = max(hparams.per_layer("attention.head_count"), default=0)
    if hparams.architecture in CACHELESS:
        return _attention_without_cache(graph, heads)
    kept = max((layer.keys + layer.values for layer in graph.layers), default=0)
    if not kept:
        return 0
    key, _ = head_widths(hparams)
    queries = heads * key
    scores = _copied(graph) if graph.flash else heads * graph.cells.each
    if is_mla(hparams):
        rope, rank = hparams.number("rope.dimension_count"), hparams.number("attention.kv_lora_rank")
        before = heads * (hparams.number("attention.key_length_mla") + rope + rank + key)
        # Copies lie beside queries and results only, where what was before them has gone.
        return 5 * width + (max(before, heads * (key + rank) + scores) if graph.flash else before + scores)
    if hparams.architecture in HYBRID_BY_INTERVAL:
        # Queries come with a gate as wide, and are cut out, normed and turned one after the other.
        return 3 * width + 4 * queries + scores
    if graph.flash:
        return queries * (2 if any(layer.window for layer in graph.layers) else 1) + kept + 5 * width + scores
    # Queries no wider than the model take the place of the norm's output if they are cut out of a joint product.
    fused = any(".attn_qkv." in tensor.name for tensor in hparams.tensors)
    beside = 2 if queries > width else 0 if fused else 1
    return 5 * width + beside * queries + scores


def _copied(graph: _Graph) -> float:
    """Return the copy in F16 that flash attention makes of a cache of F32 (build_attn_mha in src/llama-graph.cpp)."""
    keys, values = (kind == "f32" for kind in (graph.settings.cache_type_k, graph.settings.cache_type_v))
    # Values that are kept within the keys are copied for themselves.
    within = graph.hparams.number("attention.kv_lora_rank") if is_mla(graph.hparams) else 0
    copies = (
        (keys * layer.keys + values * (layer.values or within)) * rows_of(layer.window, graph.settings, graph.cells)
        for layer in graph.layers
    )
    return max(copies, default=0) / 2 / graph.tokens


def _attention_without_cache(graph: _Graph, heads: int) -> float:
    """Return the same where keys and values are of this batch only, padded to whole cells."""
    cells = padded(graph.tokens, _CELLS)
    values = graph.width * cells / graph.tokens
    if graph.flash:
        return (6 * graph.width + 1.5 * values) if cells != graph.tokens else 7 * graph.width
    return 6 * graph.width + (2 if cells != graph.tokens else 1) * values + heads * cells


def _recurrent(graph: _Graph) -> float:
    """Return the same for layers with a state; all sequences' states are read and written at once."""
    hparams, tokens, width = graph.hparams, graph.tokens, graph.width
    sequences = min(tokens, graph.settings.parallel)
    if head := hparams.number("wkv.head_size"):
        state = width * head * sequences / tokens
        fits = state + 2 * width * sequences / tokens <= width
        return 20 * width + (state if fits else 2 * state)
    inner, size = hparams.number("ssm.inner_size"), hparams.number("ssm.state_size")
    if not inner:
        return 0
    kernel, groups = hparams.number("ssm.conv_kernel"), hparams.number("ssm.group_count")
    convolved = inner + 2 * groups * size
    state = inner * size * sequences / tokens
    if hparams.architecture in HYBRID_BY_INTERVAL:
        return 5 * width + convolved + 3 * inner + 2 * state
    joined = convolved * (tokens + max(0, kernel - 1) * sequences) / tokens
    scanned, others = inner + state, state * (sequences - 1) / sequences
    projected = 2 * inner + (2 * groups * size + hparams.number("ssm.time_step_rank") if groups else 0)
    beside = 5 * width + projected + joined + convolved
    if groups and scanned <= joined:
        return beside + max(inner, others)
    return beside + scanned + (others if others > joined else 0)
