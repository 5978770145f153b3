from __future__ import annotations

from typing import TYPE_CHECKING

from lading.estimate import EstimateSettings, estimate
from lading.estimate.rate import token_rate

if TYPE_CHECKING:
    from shapes import Models

FAST, SLOW = 1.0e12, 5.0e10


def test_a_band_is_what_memory_allows_and_less_with_a_full_cache(model: Models) -> None:
    hparams = model("Llama-3.1-8B")
    found = estimate(hparams, EstimateSettings(ctx_size=32768, devices=1))
    band = token_rate(hparams, found, [SLOW, FAST])
    assert band is not None
    read = found.devices[0].weights
    assert band.high <= FAST / read
    assert 0 < band.low < band.high / 2


def test_a_model_of_experts_reads_only_those_it_uses(model: Models) -> None:
    many = model("Qwen3-30B-A3B")
    dense = model("Mistral-Small-24B")
    bands = [
        token_rate(one, estimate(one, EstimateSettings(ctx_size=4096, devices=1)), [SLOW, FAST])
        for one in (many, dense)
    ]
    assert bands[0] is not None
    assert bands[1] is not None
    assert bands[0].high > 4 * bands[1].high


def test_layers_on_the_host_slow_everything_down(model: Models) -> None:
    hparams = model("Llama-3.1-8B")
    whole, half = (
        token_rate(
            hparams, estimate(hparams, EstimateSettings(ctx_size=4096, devices=1, gpu_layers=count)), [SLOW, FAST]
        )
        for count in (99, 16)
    )
    assert whole is not None
    assert half is not None
    assert half.high < whole.high / 3


def test_nothing_is_said_without_a_bandwidth_or_of_what_is_not_known(model: Models) -> None:
    hparams = model("llama")
    found = estimate(hparams, EstimateSettings(devices=1))
    assert token_rate(hparams, found, [SLOW, None]) is None
    assert token_rate(hparams, found, [SLOW]) is None
    assert token_rate(hparams, estimate(hparams), [0.0]) is None
