"""The outline in artifacts: short, and as good as the header."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import REAL, TOYS

from lading.errors import FormatError
from lading.estimate import EstimateSettings, Override, estimate
from lading.formats.tensor import Tensor
from lading.hparams import Hparams
from lading.outline import MAX_OUTLINE, outline_of, read_outline

if TYPE_CHECKING:
    from shapes import Models

WAYS = (
    EstimateSettings(),
    EstimateSettings(ctx_size=4096, parallel=3, cache_type_k="q8_0", embeddings=True, batch=512),
    EstimateSettings(devices=2, gpu_layers=5, n_cpu_moe=2),
    EstimateSettings(devices=1, overrides=(Override(r"ffn_down"),)),
)


@pytest.mark.parametrize("name", [*TOYS, *REAL])
def test_an_outline_gives_the_estimate_that_the_header_gives(name: str, model: Models) -> None:
    hparams = model(name)
    again = read_outline(outline_of(hparams))
    for way in WAYS:
        assert estimate(again, way) == estimate(hparams, way)
    assert sorted(tensor[:3] for tensor in again.tensors) == sorted(tensor[:3] for tensor in hparams.tensors)
    assert again.data_size == hparams.data_size


@pytest.mark.parametrize("name", [*TOYS, *REAL])
def test_an_outline_takes_two_kilobytes_and_is_the_same_when_written_again(name: str, model: Models) -> None:
    text = outline_of(model(name))
    assert len(text) < 2100
    assert outline_of(read_outline(text)) == text


def test_of_mixed_quantizations_each_layer_keeps_its_type() -> None:
    kinds = ["Q6_K" if layer in (0, 1, 2, 5, 7) else "Q4_K" for layer in range(8)]
    tensors = [
        Tensor(f"blk.{layer}.ffn_down.weight", (256, 256), kind, 0, 210 * 256 if kind == "Q6_K" else 144 * 256)
        for layer, kind in enumerate(kinds)
    ]
    text = outline_of(Hparams("gguf", "llama", {"block_count": 8}, tuple(tensors)))
    assert '"0-2,5,7"' in text
    assert sorted(read_outline(text).tensors) == sorted(tensors)


def test_of_safetensors_the_bytes_of_each_type_are_kept() -> None:
    tensors = (Tensor("a", (3, 5), "BF16", 0, 30), Tensor("b", (8,), "F32", 32, 32), Tensor("c", (32,), "BF16", 64, 64))
    hparams = Hparams("safetensors", "llama", {"block_count": 1, "embedding_length": 8}, tensors, 10)
    again = read_outline(outline_of(hparams))
    assert {tensor.type: tensor.size for tensor in again.tensors} == {"BF16": 96, "F32": 32}
    assert estimate(again).host.weights == estimate(hparams).host.weights


def changed(**more: Any) -> str:
    said = {"format": "gguf", "architecture": "llama", "keys": {"block_count": 2}}
    return json.dumps(said | more)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"architecture":"llama"}', "x" * (MAX_OUTLINE + 1), "[" * 20_000,
        changed(tensors={"a": [["Q9_X", [256]]]}),
        changed(tensors={"a": [["F16", [2**40, 2**40]]]}),
        changed(tensors={"a": [["F16", [-4]]]}),
        changed(tensors={"a": [["F16", [1] * 9]]}),
        changed(tensors={"blk.*.a": [["F16", [4], "0-99999"]]}),
        changed(tensors={"blk.*.a": [["F16", [4], "3-1"]]}),
        changed(tensors={"blk.*.a": [["F16", [4], "1,1"]]}),
        changed(tensors={"blk.*.a": [["F16", [4], "one"]]}),
        changed(tensors={f"blk.*.{index}": [["F16", [4], "0-511"]] for index in range(17)}),
        changed(format="safetensors", bytes={"BF16": -1}),
    ],
)  # fmt: skip
def test_what_is_no_outline_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="outline"):
        read_outline(text)


@given(st.text(max_size=200) | st.recursive(st.integers() | st.text(), st.lists, max_leaves=9))
def test_any_text_is_an_outline_or_an_error(thing: Any) -> None:
    text = thing if isinstance(thing, str) else changed(tensors={"blk.*.a": thing})
    with suppress(FormatError):
        assert read_outline(text).format in text
