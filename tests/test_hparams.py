from __future__ import annotations

import json
from typing import Any

import pytest
from made_weights import gguf, safetensors

from lading.errors import FormatError
from lading.estimate import EstimateSettings, estimate
from lading.formats import safetensors as st
from lading.formats.gguf import read_header
from lading.hparams import Hparams, config_hparams, gguf_hparams
from lading.ranges import BytesRanges

LLAMA = {
    "model_type": "llama", "num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 2048, "vocab_size": 1000, "intermediate_size": 512,
}  # fmt: skip


def of_gguf(**metadata: Any) -> Hparams:
    reader = BytesRanges(gguf({"general.architecture": "llama"} | metadata), "a.gguf")
    return gguf_hparams([read_header(reader)], reader)


def of_config(config: Any) -> Hparams:
    header = st.read_header(BytesRanges(safetensors(), "a.safetensors"))
    return config_hparams([header], config if isinstance(config, bytes) else json.dumps(config).encode())


def test_keys_lose_the_name_of_the_architecture_and_lists_are_read() -> None:
    found = of_gguf(**{"llama.block_count": 3, "llama.attention.head_count_kv": [4, 0, 2], "other.block_count": 9})
    assert (found.architecture, found.layers) == ("llama", 3)
    assert found.per_layer("attention.head_count_kv") == (4, 0, 2)
    assert found.number("attention.head_count_kv") == 4
    assert found.per_layer("attention.head_count", 7) == (7, 7, 7)
    assert "other.block_count" not in found.said


def test_the_vocabulary_is_the_tokens_or_else_what_is_embedded() -> None:
    assert of_gguf(**{"tokenizer.ggml.tokens": ["a", "b", "c"]}).vocabulary == 3
    assert of_gguf().vocabulary == 0


@pytest.mark.parametrize("value", ["8", -1, True, 1.5, 2**41])
def test_a_number_that_is_none_is_not_taken_for_one(value: Any) -> None:
    assert Hparams("gguf", "llama", {"a": value}, ()).number("a", 3) == 3


def test_a_list_of_the_wrong_length_is_an_error() -> None:
    with pytest.raises(FormatError, match="head_count_kv is a list of 2 values"):
        of_gguf(**{"llama.block_count": 3, "llama.attention.head_count_kv": [4, 2]}).per_layer(
            "attention.head_count_kv"
        )


def test_a_clear_config_gives_keys_and_values_to_the_byte() -> None:
    found = estimate(of_config(LLAMA), EstimateSettings(ctx_size=1024))
    assert found.known
    assert not found.measured
    assert found.host.kv == 1024 * 4 * 2 * 2 * 32 * 2
    assert (found.host.compute, found.host.output) == (0, 0)
    assert "safetensors" in found.notes[0]


@pytest.mark.parametrize("config", [b"", b"{", b"[]", {"model_type": "chimera"}, {"model_type": 3}, {"hidden_size": 8}])
def test_of_any_other_config_only_the_weights_are_known(config: Any) -> None:
    found = estimate(of_config(config))
    assert not found.known
    assert found.host.weights == 32
    assert found.host.kv == 0
