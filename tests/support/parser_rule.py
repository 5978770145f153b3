"""What gguf-parser (v0.25) would say of a model's cache and compute buffers, for comparison: its rules, written anew.

Only what depends on the model is here: neither its weights, which are the file's, nor the fixed sums that it adds. Where the
tool reads a list of heads for each layer as its first element, or as zero, the rule is given the largest: better than it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lading.hparams import Hparams

_WINDOWS = {"llama4": (4, 8192), "gemma2": (2, 4096), "gemma3": (6, 0), "cohere2": (4, 0)}
_RECURRENT = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
_HYBRID = {"jamba", "falcon-h1", "granitehybrid"}
_PADDING = 256  # with flash attention
_UBATCH = 512


def _padded(count: int) -> int:
    return -(-count // _PADDING) * _PADDING


def _heads(hparams: Hparams) -> tuple[int, int, int, int]:
    """Return the heads of queries and of keys, and the elements of one head's keys and values."""
    count = max(hparams.per_layer("attention.head_count"), default=0)
    own = max(hparams.per_layer("attention.head_count_kv", count), default=0)
    usual = hparams.number("embedding_length") // count if count else 0
    mla = hparams.number("attention.key_length_mla") and hparams.number("attention.value_length_mla")
    end = "_mla" if mla else ""
    key = hparams.number(f"attention.key_length{end}", usual)
    return count, own, key, hparams.number(f"attention.value_length{end}", usual)


def parser_cache(hparams: Hparams, context: int, parallel: int = 1) -> int:
    """Return its bytes of keys, values and states, in F16 and F32."""
    kind, layers = hparams.architecture or "", hparams.layers
    if kind == "bert":
        return 0
    total = layers * _state(hparams) * parallel if kind in _RECURRENT | _HYBRID else 0
    if kind in _RECURRENT:
        return total
    _, own, key, value = _heads(hparams)
    if kind.startswith("lfm2"):
        own = 0  # its list is not loaded
    cells = _padded(context)
    period, usual = _WINDOWS.get(kind, (0, 0))
    window = hparams.number("attention.sliding_window", usual) if period else 0
    near = min(cells, _padded(window * parallel + min(cells, _UBATCH))) if window else cells
    rows = sum(near if period and index % period else cells for index in range(layers))
    return total + 2 * own * (key + value) * rows


def _state(hparams: Hparams) -> int:
    if head := hparams.number("wkv.head_size"):
        width = hparams.number("embedding_length")
        return 4 * (hparams.number("token_shift_count", 2) + head) * width
    inner, state = hparams.number("ssm.inner_size"), hparams.number("ssm.state_size")
    convolved = inner + 2 * hparams.number("ssm.group_count") * state
    return 4 * (max(0, hparams.number("ssm.conv_kernel") - 1) * convolved + state * inner)


def parser_compute(hparams: Hparams, context: int) -> int:
    """Return its bytes of a whole model's buffers on one device, with flash attention."""
    cells = _padded(context)
    tokens = min(cells, _UBATCH)
    width = hparams.number("embedding_length")
    _, own, key, value = _heads(hparams)
    given = tokens * 4 * (width + 1 + cells)
    kept = 2 * own * (key + value) * cells
    last = f"blk.{hparams.layers - 1}."
    queries = sum(one.size for one in hparams.tensors if one.name.startswith((f"{last}attn_q.", f"{last}attn_qkv.")))
    attention = 2 * cells * tokens + 4 * width * tokens + queries + kept
    norms = sum(one.name in {f"{last}attn_norm.weight", f"{last}ffn_norm.weight"} for one in hparams.tensors)
    inner = sum(
        one.shape[1] for one in hparams.tensors if one.name in {f"{last}ffn_gate.weight", f"{last}ffn_up.weight"}
    )
    forward = 4 * tokens * (norms * width + inner)
    if experts := hparams.number("expert_count"):
        forward += 4 * (experts * (width + tokens) + width * hparams.number("expert_used_count") * tokens)
    output = 4 * (width + hparams.vocabulary * tokens)
    return given + max(attention, forward, output)
