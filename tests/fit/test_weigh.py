from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lading.errors import FormatError, UsageError
from lading.estimate import EstimateSettings, Override
from lading.estimate.inverse import largest_context, most_layers
from lading.fit import LEAST_CONTEXT, Candidate, Fits, described, remedies, settle, usual_context, weigh
from lading.formats.tensor import Tensor
from lading.hardware import Device
from lading.hparams import Hparams

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.fit import Machine

    Candidates = Callable[[str], Candidate]

GIB = 1024**3


def machine(host: float, *devices: float) -> Machine:
    return described([Device("", memory=int(one * GIB)) for one in devices], int(host * GIB))


def test_a_model_that_fits_on_devices_lies_there_whole(candidate: Candidates) -> None:
    row = weigh(candidate("Llama-3.1-8B"), machine(64, 24))
    assert (row.fits, row.gpu_layers, row.layers) == (Fits.WHOLE, 33, 33)
    assert row.found.context == 8192
    assert row.total == row.weights + row.kv + row.state + row.compute + row.output + row.overhead
    assert row.max_context == 131_072


def test_without_devices_whole_is_in_memory(candidate: Candidates) -> None:
    row = weigh(candidate("Qwen3-8B"), machine(16))
    assert (row.fits, row.gpu_layers, row.on_devices) == (Fits.WHOLE, 0, 0)


def test_the_longest_context_is_the_one_that_a_search_through_all_finds(candidate: Candidates) -> None:
    for name, room in (("Llama-3.1-8B", 12), ("Gemma-3-27B", 20), ("gpt-oss-20b", 12), ("Granite-4.0-H-Micro", 5)):
        there = machine(64, room)
        row = weigh(candidate(name), there)
        assert row.fits is Fits.WHOLE
        searched = largest_context(candidate(name).model, row.settings, there.host, there.rooms)
        assert row.max_context == searched, name


def test_layers_that_do_not_fit_stay_in_memory(candidate: Candidates) -> None:
    there = machine(64, 24)
    row = weigh(candidate("Llama-3.1-70B"), there)
    assert row.fits is Fits.PARTLY
    most = most_layers(
        candidate("Llama-3.1-70B").model, replace(row.settings, gpu_layers=None), there.host, there.rooms
    )
    assert row.gpu_layers == most
    assert 0 < row.gpu_layers < row.layers
    assert row.max_context is not None


def test_experts_stay_in_memory_before_whole_layers_do(candidate: Candidates) -> None:
    one = candidate("Qwen3-30B-A3B")
    there = machine(64, 12)
    row = weigh(one, there)
    assert (row.fits, row.gpu_layers) == (Fits.PARTLY, row.layers)
    count = row.settings.n_cpu_moe
    assert 0 < count < one.model.layers
    fewer = weigh(one, there, EstimateSettings(n_cpu_moe=count - 1))
    assert fewer.fits is Fits.NO


def test_layers_are_parted_by_the_memory_that_devices_have(candidate: Candidates) -> None:
    row = weigh(candidate("Llama-3.1-70B"), machine(64, 32, 16))
    first, second = row.found.devices
    assert row.fits is Fits.WHOLE
    assert first.layers > 1.5 * second.layers


def test_what_the_user_said_of_places_is_left_alone(candidate: Candidates) -> None:
    one = candidate("Llama-3.1-70B")
    said = weigh(one, machine(64, 24), EstimateSettings(gpu_layers=10))
    assert (said.fits, said.gpu_layers) == (Fits.PARTLY, 10)
    assert weigh(one, machine(64, 24), EstimateSettings(gpu_layers=81)).fits is Fits.NO
    moved = EstimateSettings(overrides=(Override(r"blk\.\d+\.ffn_"),))
    assert weigh(one, machine(80, 24), moved).found.host.weights > 20 * GIB


def test_a_split_for_other_devices_than_there_are_is_refused(candidate: Candidates) -> None:
    with pytest.raises(UsageError, match="tensor split of 3 shares for 2 devices"):
        weigh(candidate("llama"), machine(8, 4, 4), EstimateSettings(devices=3, tensor_split=(1, 1, 1)))


def test_the_second_copy_of_weights_goes_before_the_model_does(candidate: Candidates) -> None:
    one = candidate("Llama-3.1-8B")
    assert weigh(one, machine(16)).settings.repack
    row = weigh(one, machine(8))
    assert (row.fits, row.settings.repack) == (Fits.WHOLE, False)
    assert weigh(one, machine(4)).fits is Fits.NO


def test_an_architecture_that_nobody_knows_has_weights_and_no_verdict() -> None:
    tensor = Tensor("blk.0.ffn_up.weight", (1024, 1024), "F16", 0, 2 * 1024**2)
    one = Candidate("new", Hparams("gguf", "brandnew", {"block_count": 1}, (tensor,)), parameters=1024**2)
    row = weigh(one, machine(1))
    assert (row.fits, row.weights, row.kv, row.max_context) == (Fits.UNKNOWN, 2 * 1024**2, 0, None)
    assert "brandnew" in row.notes[0]
    huge = replace(one, model=replace(one.model, tensors=(tensor._replace(size=2**40),)))
    assert weigh(huge, machine(1)).fits is Fits.NO


def test_a_header_that_contradicts_itself_is_refused() -> None:
    said = {"block_count": 2, "attention.head_count": 2**30, "attention.key_length": 2**20, "embedding_length": 8}
    with pytest.raises(FormatError, match="would keep"):
        weigh(Candidate("bad", Hparams("gguf", "llama", said, ())), machine(1))


def test_the_usual_context_is_no_longer_than_the_training(candidate: Candidates) -> None:
    assert usual_context(candidate("Phi-3-mini")) == 4096
    assert usual_context(candidate("Llama-3.1-8B")) == 8192


def test_what_comes_with_a_model_takes_memory_beside_it(candidate: Candidates) -> None:
    alone = candidate("Qwen3-8B")
    small = candidate("qwen3")
    plain = weigh(alone, machine(64, 24))
    seeing = weigh(replace(alone, projectors=(small.model,)), machine(64, 24))
    assert seeing.total - plain.total == small.model.data_size
    assert any("image" in note for note in seeing.notes)
    drafted = weigh(replace(alone, drafters=(small.model,)), machine(64, 24))
    assert drafted.total > seeing.total
    adapted = weigh(replace(alone, adapters=(small.model,)), machine(64, 24))
    assert adapted.total - plain.total == small.model.data_size


def test_settling_keeps_what_fits_as_it_was_asked(candidate: Candidates) -> None:
    asked = EstimateSettings(ctx_size=4096)
    there = machine(64, 24)
    assert settle(candidate("Qwen3-8B"), there, asked, free_cache=True) == weigh(candidate("Qwen3-8B"), there, asked)


def test_settling_takes_a_smaller_cache_then_a_shorter_context(candidate: Candidates) -> None:
    one = candidate("Phi-3-mini")
    tight = machine(3.6)
    row = settle(one, tight, free_cache=True)
    assert (row.fits, row.settings.cache_type_k, row.settings.ctx_size) == (Fits.WHOLE, "q8_0", 4096)
    kept = settle(one, tight, free_cache=False)
    assert (kept.fits, kept.settings.cache_type_k) == (Fits.WHOLE, "f16")
    assert LEAST_CONTEXT <= (kept.settings.ctx_size or 0) < 4096
    assert settle(one, tight, EstimateSettings(ctx_size=4096), free_cache=False).fits is Fits.NO
    assert settle(one, machine(2), free_cache=True).fits is Fits.NO


def narrow(candidate: Candidates) -> Candidate:
    """A model whose heads no quantized cache takes."""
    one = candidate("Qwen3-8B")
    said = {**one.model.said, "attention.key_length": 80, "attention.value_length": 80}
    return replace(one, model=replace(one.model, said=said))


def test_a_cache_that_llama_cpp_would_not_take_is_never_settled_for(candidate: Candidates) -> None:
    one = narrow(candidate)
    needs = weigh(one, machine(64)).settings
    tight = machine(weigh(one, machine(64), replace(needs, ctx_size=4096, repack=False)).total / GIB / 0.98)
    row = settle(one, tight, free_cache=True)
    assert (row.fits, row.settings.cache_type_k, row.settings.cache_type_v) == (Fits.WHOLE, "f16", "f16")
    assert (row.settings.ctx_size or 0) < 8192
    small = EstimateSettings(ctx_size=8192)
    assert settle(one, tight, small, free_cache=True).fits is Fits.NO
    assert not [way.what for way in remedies(weigh(one, tight, small), tight) if "cache-type" in way.what]


def test_a_cache_that_llama_cpp_would_not_take_is_refused_by_name(candidate: Candidates) -> None:
    with pytest.raises(UsageError, match=r"^Qwen3-8B: .*80 elements a head as q8_0"):
        weigh(narrow(candidate), machine(64), EstimateSettings(cache_type_k="q8_0"))
