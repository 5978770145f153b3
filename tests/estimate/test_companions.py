from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lading.estimate import EstimateSettings, estimate
from lading.estimate.companions import with_adapter, with_drafter, with_projector
from lading.formats.tensor import Tensor
from lading.hparams import Hparams

if TYPE_CHECKING:
    from shapes import Models

SETTINGS = EstimateSettings(ctx_size=4096, devices=1)


def test_a_drafter_adds_its_own_weights_and_cache_but_no_second_overhead(model: Models) -> None:
    alone = estimate(model("Llama-3.1-8B"), SETTINGS)
    drafter = estimate(model("llama"), SETTINGS)
    both = with_drafter(alone, model("llama"), SETTINGS)
    for one, second, sum_ in zip(alone.uses, drafter.uses, both.uses, strict=True):
        assert sum_.total == one.total + second.total - second.overhead


def test_a_drafters_cache_is_not_quantized_with_the_models(model: Models) -> None:
    small = replace(SETTINGS, cache_type_k="q8_0", cache_type_v="q8_0")
    both = with_drafter(estimate(model("Llama-3.1-8B"), small), model("llama"), small)
    added = both.devices[0].kv - estimate(model("Llama-3.1-8B"), small).devices[0].kv
    assert added == estimate(model("llama"), SETTINGS).devices[0].kv


def test_an_adapter_lies_with_the_layers_that_it_changes(model: Models) -> None:
    adapter = Hparams(
        "gguf",
        "llama",
        {},
        (
            Tensor("blk.0.attn_q.weight.lora_a", (256, 8), "F32", 0, 8192),
            Tensor("blk.11.attn_q.weight.lora_b", (8, 256), "F32", 0, 4096),
            Tensor("token_embd.weight.lora_a", (256, 1), "F32", 0, 1024),
        ),
    )
    half = EstimateSettings(ctx_size=512, devices=1, gpu_layers=4)
    alone = estimate(model("llama"), half)
    both = with_adapter(alone, adapter, model("llama"), half)
    assert both.host.weights - alone.host.weights == 8192 + 1024
    assert both.devices[0].weights - alone.devices[0].weights == 4096


def test_a_projector_goes_to_the_first_device_and_what_it_computes_is_said_to_be_missing(model: Models) -> None:
    projector = Hparams("gguf", "clip", {}, (Tensor("v.patch_embd.weight", (64, 64), "F16", 0, 8192),))
    alone = estimate(model("llama"), SETTINGS)
    both = with_projector(alone, projector, SETTINGS)
    assert both.devices[0].weights - alone.devices[0].weights == 8192
    assert "projector" in both.notes[-1]
    host = EstimateSettings(ctx_size=512)
    assert with_projector(estimate(model("llama"), host), projector, host).host.weights > alone.host.weights
