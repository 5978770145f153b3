"""Hyperparameters: what a model's own header says of its shape, and the sizes of its tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lading.errors import FormatError
from lading.formats.gguf import ArrayRef, read_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lading.content import RangeReader
    from lading.formats.gguf import GgufHeader, Scalar
    from lading.formats.safetensors import SafetensorsHeader
    from lading.formats.tensor import Tensor

MAX_LAYERS = 512
"""What llama.cpp takes (LLAMA_MAX_LAYERS); models have up to 130."""

MAX_TENSORS = 8192
"""Of all shards together; models have up to 2,000."""

_MOST_LISTED = 64 * 1024
_MOST = 2**40
_DAMAGED = "the header is damaged, or made to cost time: no model is like this"


@dataclass(frozen=True, slots=True)
class Hparams:
    """The shape of one model. `said` has the keys of its architecture without the architecture's name before them.

    Values of `said` are numbers, truth values, text, or a list of numbers where the model says a value for each layer.
    `format` is gguf or safetensors. `tensors` are those of all shards in order; their `size` is in bytes.
    """

    format: str
    architecture: str | None
    said: Mapping[str, Scalar | tuple[Scalar, ...]] = field(repr=False)
    tensors: tuple[Tensor, ...] = field(repr=False)
    vocabulary: int = 0

    def number(self, key: str, default: int = 0) -> int:
        """Return a whole number from 0 to 2**40, the first of a list; `default` where it is not said or is no such number."""
        value = self.said.get(key)
        if isinstance(value, tuple):
            value = value[0] if value else None
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST else default

    def per_layer(self, key: str, default: int = 0) -> tuple[int, ...]:
        """Return a whole number for each of `layers`; one that is said once holds for all of them.

        Raises FormatError for a list of another length, or one that holds anything else.
        """
        value = self.said.get(key)
        if not isinstance(value, tuple):
            return (self.number(key, default),) * self.layers
        if len(value) < self.layers or any(not isinstance(one, int) or not 0 <= one <= _MOST for one in value):
            msg = f"{key} is a list of {len(value)} values, not of a whole number for each of {self.layers} layers"
            raise FormatError(msg, hint="the header is damaged, or was written by a broken converter")
        return tuple(int(one) for one in value[: self.layers])

    @property
    def layers(self) -> int:
        """The number of blocks; raises FormatError for one that no model has."""
        count = self.number("block_count")
        if count > MAX_LAYERS:
            msg = f"the header claims {count} layers, and llama.cpp takes {MAX_LAYERS}"
            raise FormatError(msg, hint="the header is damaged")
        return count

    @property
    def data_size(self) -> int:
        """Bytes of all tensors, without padding."""
        return sum(tensor.size for tensor in self.tensors)


def gguf_hparams(headers: Sequence[GgufHeader], reader: RangeReader) -> Hparams:
    """Return the hyperparameters of a GGUF model from its shards' headers, the first one first.

    `reader` is the first shard's: lists of a value for each layer are read from it. Raises FormatError.
    """
    first = headers[0]
    architecture = first.metadata.get("general.architecture")
    prefix = f"{architecture}."
    said: dict[str, Scalar | tuple[Scalar, ...]] = {}
    left = _MOST_LISTED
    for key, value in first.metadata.items():
        if not key.startswith(prefix):
            continue
        if not isinstance(value, ArrayRef):
            said[key.removeprefix(prefix)] = value
        elif value.type != "STRING":
            left -= value.length
            if left < 0:
                msg = f"{reader.name} lists more than {_MOST_LISTED:,} values for its layers"
                raise FormatError(msg, hint=_DAMAGED)
            said[key.removeprefix(prefix)] = tuple(read_array(reader, first, key))
    tokens = first.metadata.get("tokenizer.ggml.tokens")
    if (count := sum(len(header.tensors) for header in headers)) > MAX_TENSORS:
        msg = f"{reader.name} has {count:,} tensors, and models have at most {MAX_TENSORS:,}"
        raise FormatError(msg, hint=_DAMAGED)
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    return Hparams(
        format="gguf",
        architecture=architecture if isinstance(architecture, str) else None,
        said=said,
        tensors=tensors,
        vocabulary=tokens.length if isinstance(tokens, ArrayRef) else _embedded(tensors),
    )


def _embedded(tensors: Sequence[Tensor]) -> int:
    shape = next((tensor.shape for tensor in tensors if tensor.name == "token_embd.weight"), ())
    return shape[1] if len(shape) > 1 else 0


# Decoders whose config.json says all that a cache of keys and values depends on.
_PLAIN = frozenset({"gemma", "granite", "llama", "mistral", "olmo", "qwen2", "qwen3", "smollm3", "starcoder2"})
_PLAIN_MOE = frozenset({"granitemoe", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe"})
_NAMES = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "max_position_embeddings": "context_length",
    "num_experts": "expert_count",
    "num_local_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}


def config_hparams(headers: Sequence[SafetensorsHeader], config: bytes | None) -> Hparams:
    """Return the hyperparameters of a safetensors model from its shards' headers and its config.json.

    Only decoders whose config.json is clear have an architecture (llama's, as the names in `said` are); of others only
    the tensors are known.
    """
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    try:
        tree = json.loads(config) if config else {}
    except (ValueError, RecursionError):
        tree = {}
    kind = tree.get("model_type") if isinstance(tree, dict) else None
    if not isinstance(kind, str) or kind not in _PLAIN | _PLAIN_MOE:
        return Hparams("safetensors", kind if isinstance(kind, str) else None, {}, tensors)
    said: dict[str, Scalar | tuple[Scalar, ...]] = {
        ours: value for theirs, ours in _NAMES.items() if isinstance(value := tree.get(theirs), int)
    }
    if isinstance(width := tree.get("head_dim"), int):
        said |= {"attention.key_length": width, "attention.value_length": width}
    vocabulary = tree.get("vocab_size")
    return Hparams("safetensors", "llama", said, tensors, vocabulary if isinstance(vocabulary, int) else 0)
