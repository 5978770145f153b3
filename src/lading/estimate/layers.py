"""What each layer of a model keeps between tokens, in elements, whatever the context and the cache types."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lading.errors import FormatError
from lading.estimate.architectures import (
    CACHELESS,
    HYBRID_BY_HEADS,
    HYBRID_BY_INTERVAL,
    HYBRID_IN_EACH,
    RECURRENT,
    WINDOWS,
)

if TYPE_CHECKING:
    from lading.hparams import Hparams

_WIDEST = 2**24
_EXAONE4_LARGE = 64  # layers; of exaone4 only this size has windows


class Layer(NamedTuple):
    """One layer's memory, in elements: of keys and of values for each token, of its state for each sequence.

    `window` is how many tokens it looks back, 0 for all of them.
    """

    keys: int = 0
    values: int = 0
    window: int = 0
    convolution: int = 0
    state: int = 0


def layers_of(hparams: Hparams) -> tuple[Layer, ...]:
    """Return the layers of a model of a known architecture; raises FormatError where its header is not to be believed."""
    kind = hparams.architecture or ""
    if kind in CACHELESS:
        return (Layer(),) * hparams.layers
    convolution, state = _state(hparams)
    recurrent = _recurrent(hparams)
    attention = _attention(hparams)
    # What only drafts tokens (multi-token prediction) is the last layers, and keeps nothing unless it is used.
    trunk = hparams.layers - min(hparams.layers, hparams.number("nextn_predict_layers"))
    layers = []
    for index, layer in enumerate(attention):
        if index >= trunk:
            layers.append(Layer())
        elif kind in HYBRID_IN_EACH:
            layers.append(layer._replace(convolution=convolution, state=state))
        elif recurrent[index]:
            layers.append(Layer(convolution=convolution, state=state))
        else:
            layers.append(layer)
    return tuple(layers)


def is_mla(hparams: Hparams) -> bool:
    """Tell whether keys and values are kept compressed, in one row (DeepSeek's multi-head latent attention)."""
    return bool(hparams.number("attention.key_length_mla") and hparams.number("attention.value_length_mla"))


def head_widths(hparams: Hparams) -> tuple[int, int]:
    """Return the elements of one head's keys and values."""
    heads = hparams.number("attention.head_count")
    usual = hparams.number("embedding_length") // heads if heads else 0
    return hparams.number("attention.key_length", usual), hparams.number("attention.value_length", usual)


def _attention(hparams: Hparams) -> list[Layer]:
    key, value = head_widths(hparams)
    key_near = hparams.number("attention.key_length_swa", key)
    value_near = hparams.number("attention.value_length_swa", value)
    heads = hparams.per_layer("attention.head_count")
    kv_heads = hparams.per_layer("attention.head_count_kv") if "attention.head_count_kv" in hparams.said else heads
    windows = _windows(hparams)
    shared = _sharing_from(hparams)
    mla = is_mla(hparams)
    layers = []
    for index, count in enumerate(kv_heads):
        window = windows[index]
        keys = count * (key_near if window else key)
        values = 0 if mla else count * (value_near if window else value)
        if max(keys, values) > _WIDEST:
            msg = f"layer {index} would keep {max(keys, values)} values for each token"
            raise FormatError(msg, hint="the header is damaged")
        layers.append(Layer() if index >= shared else Layer(keys, values, window))
    return layers


def _sharing_from(hparams: Hparams) -> int:
    """Return the first layer that looks at another's keys and values instead of its own."""
    if hparams.architecture == "gemma3n":
        return 20
    shared = hparams.number("attention.shared_kv_layers") if hparams.architecture == "gemma4" else 0
    return hparams.layers - min(hparams.layers, shared)


def _windows(hparams: Hparams) -> tuple[int, ...]:
    count = hparams.layers
    kind = hparams.architecture or ""
    size = hparams.number("attention.sliding_window")
    if kind == "lfm2":
        return (size,) * count
    rule = WINDOWS.get(kind)
    if rule is None or (kind == "smallthinker" and not size) or (kind == "exaone4" and count != _EXAONE4_LARGE):
        return (0,) * count
    if rule.fixed:
        size = 0 if "attention.sliding_window" in hparams.said and not size else rule.size
    size = size or (0 if rule.fixed else rule.size)
    pattern = hparams.said.get("attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        near = [bool(one) for one in pattern[:count]]
        return tuple(size if one else 0 for one in (*near, *[False] * (count - len(near))))
    period = pattern if type(pattern) is int else rule.period
    if not period:
        if rule.period == 0 and pattern is None:
            msg = f"a {kind} model must list its layers with a window, and this one does not"
            raise FormatError(msg, hint="no llama.cpp would load it")
        return (size,) * count
    if rule.dense_first:
        return tuple(size if index % period else 0 for index in range(count))
    return tuple(size if index % period < period - 1 else 0 for index in range(count))


def _recurrent(hparams: Hparams) -> tuple[bool, ...]:
    kind = hparams.architecture or ""
    count = hparams.layers
    if kind in RECURRENT:
        return (True,) * count
    if kind in HYBRID_BY_HEADS:
        without = [not heads for heads in hparams.per_layer("attention.head_count_kv")]
        if kind.startswith("nemotron_h"):
            return tuple(
                one and not width for one, width in zip(without, hparams.per_layer("feed_forward_length"), strict=True)
            )
        return tuple(without)
    if kind in HYBRID_BY_INTERVAL:
        listed = hparams.said.get("attention.recurrent_layers")
        if isinstance(listed, tuple) and len(listed) >= count:
            return tuple(bool(one) for one in listed[:count])
        interval = hparams.number("full_attention_interval", 4) or 4
        return tuple((index + 1) % interval != 0 for index in range(count))
    return (False,) * count


def _state(hparams: Hparams) -> tuple[int, int]:
    """Return the elements of a recurrent layer's state for one sequence: of its convolution, and of its memory."""
    width = hparams.number("embedding_length")
    if head := hparams.number("wkv.head_size"):
        return hparams.number("token_shift_count", 2) * width, width * head
    if cache := hparams.number("shortconv.l_cache"):
        return width * (cache - 1), 0
    kernel = hparams.number("ssm.conv_kernel")
    if head := hparams.number("kda.head_dim"):
        heads = hparams.number("attention.head_count")
        return 3 * (kernel - 1 if kernel else 3) * heads * head, head * head * heads
    state, inner = hparams.number("ssm.state_size"), hparams.number("ssm.inner_size")
    groups = hparams.number("ssm.group_count")
    return max(0, kernel - 1) * (inner + 2 * groups * state), state * inner
