from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lading.estimate import EstimateSettings, estimate
from lading.estimate.inverse import fits, largest_context, most_layers

if TYPE_CHECKING:
    from shapes import Models

GIBIBYTE = 1024**3


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Gemma-3-27B", "Granite-4.0-H-Micro"])
def test_the_largest_context_fits_and_the_next_does_not(name: str, model: Models) -> None:
    hparams, settings = model(name), EstimateSettings(devices=1)
    floor = estimate(hparams, replace(settings, ctx_size=256)).devices[0].total
    rooms = (64 * GIBIBYTE, [floor + GIBIBYTE // 2])
    context = largest_context(hparams, settings, *rooms)
    assert context is not None
    assert context % 256 == 0
    assert fits(estimate(hparams, replace(settings, ctx_size=context)), *rooms)
    assert not fits(estimate(hparams, replace(settings, ctx_size=context + 256)), *rooms)


def test_the_largest_context_stops_at_what_the_model_was_trained_for(model: Models) -> None:
    assert largest_context(model("Llama-3.1-8B"), EstimateSettings(), 2**50, []) == 131072
    assert largest_context(model("Llama-3.1-8B"), EstimateSettings(), 2**50, [], most=10_000) == 10_000


def test_there_is_no_context_where_the_weights_alone_are_too_much(model: Models) -> None:
    assert largest_context(model("Llama-3.1-70B"), EstimateSettings(), GIBIBYTE, []) is None


def test_the_most_layers_fit_and_one_more_does_not(model: Models) -> None:
    hparams, settings = model("Llama-3.1-70B"), EstimateSettings(ctx_size=8192)
    room = 24 * GIBIBYTE
    layers = most_layers(hparams, settings, 64 * GIBIBYTE, [room])
    assert layers is not None
    assert 0 < layers < 81

    def on_device(count: int) -> int:
        return estimate(hparams, replace(settings, devices=1, gpu_layers=count)).devices[0].total

    assert on_device(layers) <= room < on_device(layers + 1)


def test_all_layers_and_the_output_go_where_there_is_room(model: Models) -> None:
    assert most_layers(model("Llama-3.1-8B"), EstimateSettings(ctx_size=8192), 64 * GIBIBYTE, [24 * GIBIBYTE]) == 33


def test_layers_that_the_host_cannot_take_fit_nowhere(model: Models) -> None:
    assert most_layers(model("Llama-3.1-70B"), EstimateSettings(ctx_size=8192), GIBIBYTE, [24 * GIBIBYTE]) is None


def test_a_device_too_small_for_anything_takes_no_layer(model: Models) -> None:
    assert most_layers(model("Llama-3.1-8B"), EstimateSettings(ctx_size=512), 64 * GIBIBYTE, [GIBIBYTE // 64]) == 0


@pytest.mark.parametrize("name", ["llama", "gemma3", "granitehybrid", "deepseek2", "qwen3moe"])
@pytest.mark.parametrize("spare", [0, 3_000_000, 20_000_000])
def test_what_a_search_finds_is_what_trying_everything_finds(name: str, spare: int, model: Models) -> None:
    hparams, settings = model(name), EstimateSettings(devices=1, ubatch=128)
    room = estimate(hparams, replace(settings, ctx_size=256)).devices[0].total + spare
    rooms = (GIBIBYTE, [room])
    contexts = range(256, 32768 + 1, 256)
    fitting = [one for one in contexts if fits(estimate(hparams, replace(settings, ctx_size=one)), *rooms)]
    assert largest_context(hparams, settings, *rooms) == max(fitting, default=None)
    short = replace(settings, ctx_size=2048)
    layers = [
        count
        for count in range(hparams.layers + 2)
        if fits(estimate(hparams, replace(short, gpu_layers=count)), GIBIBYTE, [room - spare // 2])
    ]
    assert most_layers(hparams, short, GIBIBYTE, [room - spare // 2]) == max(layers, default=None)
