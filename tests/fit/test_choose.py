from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shapes import REAL, Size, shape

from lading.errors import UnfitError
from lading.estimate import EstimateSettings
from lading.fit import Candidate, Fits, choose, described, remedies, unfit_error, weigh
from lading.fit.headers import gguf_candidate
from lading.formats.tensor import Tensor
from lading.hardware import Device
from lading.hparams import Hparams

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.fit import Machine, Row

    Candidates = Callable[[str], Candidate]

GIB = 1024**3
BITS = {"Q2_K": 2.625, "Q4_K": 4.5, "Q6_K": 6.5625, "Q8_0": 8.5, "F16": 16.0}


def machine(host: float, *devices: float) -> Machine:
    return described([Device("", memory=int(one * GIB)) for one in devices], int(host * GIB))


def quants(candidate: Candidates, name: str = "Llama-3.1-8B") -> list[Candidate]:
    """One model in several types, by the sizes of its matrices."""
    plain = candidate(name)
    found = []
    for label, bits in BITS.items():
        tensors = tuple(
            tensor._replace(size=int(tensor.elements * bits / 8), type=label) if len(tensor.shape) > 1 else tensor
            for tensor in plain.model.tensors
        )
        found.append(replace(plain, name=label, select=label, model=replace(plain.model, tensors=tensors)))
    return found


def chosen(candidates: list[Candidate], there: Machine) -> tuple[str | None, str]:
    choice = choose([weigh(one, there) for one in candidates], there)
    return (choice.row.name if choice.row else None), choice.why


def test_the_best_that_fits_whole_is_taken(candidate: Candidates) -> None:
    name, why = chosen(quants(candidate), machine(64, 9))
    assert (name, why) == ("Q6_K", "best of 5 that fits whole in 8.8 GiB of the device")


def test_more_than_eight_bits_are_not_taken_for_their_size_alone(candidate: Candidates) -> None:
    assert chosen(quants(candidate), machine(64, 80))[0] == "Q8_0"
    assert chosen([quants(candidate)[-1]], machine(64, 80)) == ("F16", "fits whole in 78.4 GiB of the device")


def test_where_none_fits_whole_the_smallest_good_one_is_parted(candidate: Candidates) -> None:
    name, why = chosen(quants(candidate, "Llama-3.1-70B"), machine(128, 16))
    assert name == "Q4_K"
    assert "none of 5 fits whole" in why


def test_nothing_is_chosen_where_nothing_fits(candidate: Candidates) -> None:
    name, why = chosen(quants(candidate, "Llama-3.1-70B"), machine(8))
    assert name is None
    assert why.startswith("none of 5 does fit: ")


def test_nothing_is_chosen_among_different_models(candidate: Candidates) -> None:
    both = [candidate("Llama-3.1-8B"), candidate("Qwen3-8B"), candidate("Llama-3.1-70B")]
    assert chosen(both, machine(256)) == (None, "these are different models: one must be named")


def test_models_of_one_size_and_two_architectures_are_different(candidate: Candidates) -> None:
    both = [replace(one, parameters=8) for one in (candidate("Llama-3.1-8B"), candidate("Qwen3-8B"))]
    assert chosen(both, machine(256)) == (None, "these are different models: one must be named")


def test_two_files_of_one_quantization_are_two_models(candidate: Candidates) -> None:
    twins = [
        replace(one, label="Q8_0", select=f"{name}-Q8_0.gguf")
        for name, one in zip("ab", [quants(candidate)[3]] * 2, strict=True)
    ]
    alone = replace(quants(candidate)[2], label="Q6_K")
    both = (None, "these are different models: one must be named")
    assert chosen([*twins, alone], machine(64)) == chosen(twins, machine(64, 4)) == both
    # Where another one is best, what stands beside it is no matter.
    assert chosen([*twins, alone], machine(64, 9))[0] == "Q6_K"
    # In an index they are one model in several formats.
    forms = [replace(one, select=f"sha256:{name}") for name, one in zip("ab", twins, strict=True)]
    assert chosen(forms, machine(64))[0] == "Q8_0"


def test_what_runs_without_a_layer_on_a_device_is_not_said_to_be_partly_there(candidate: Candidates) -> None:
    name, why = chosen(quants(candidate), machine(64, 0.1))
    assert name == "Q4_K"
    assert why == "none of 5 fits whole in 100 MiB of the device; this one fits in memory, no layer on a device"


def test_nothing_is_chosen_of_what_is_not_known() -> None:
    one = Candidate("new", Hparams("gguf", "brandnew", {}, (Tensor("a", (8,), "F32", 0, 32),)), parameters=8)
    name, why = chosen([one], machine(1))
    assert name is None
    assert "brandnew" in why


def unfit(candidate: Candidate, there: Machine, settings: EstimateSettings | None = None) -> Row:
    row = weigh(candidate, there, settings or EstimateSettings())
    assert row.fits is Fits.NO
    return row


def test_a_shorter_context_and_another_quantization_are_offered(candidate: Candidates) -> None:
    there = machine(7.2)
    every = quants(candidate)
    wide = EstimateSettings(ctx_size=32768)
    rows = [weigh(one, there, wide) for one in every]
    row = unfit(every[1], there, wide)
    offered = remedies(row, there, rows)
    assert [one.what for one in offered] == ["--cache-type-k q8_0 --cache-type-v q8_0", "--ctx-size 16384", "Q2_K"]
    for one in offered:
        assert one.row.fits is Fits.WHOLE
    error = unfit_error("chat:3", row, there, rows)
    assert isinstance(error, UnfitError)
    assert error.exit_code == 8
    assert error.message.startswith("chat:3 needs 8.4 GiB with a context of 32,768, and 7.2 GiB are free")
    assert "--ctx-size 16384 needs 6.4 GiB" in error.hint


def test_a_smaller_row_is_offered_by_what_selects_it(candidate: Candidates) -> None:
    there = machine(4.6)
    every = quants(candidate)
    rows = [weigh(one, there) for one in every]
    offered = remedies(unfit(every[3], there), there, rows)
    assert [one.what for one in offered] == ["Q2_K"]


def test_where_nothing_helps_the_hint_says_so(candidate: Candidates) -> None:
    error = unfit_error("big", unfit(candidate("DeepSeek-V3"), machine(16)), machine(16))
    assert error.hint == "neither a shorter context nor a smaller cache would do: take a smaller model"


def test_candidates_of_headers_count_their_parameters() -> None:
    size = Size(2, 64, 128, 2, 2, 32, 300)
    made = shape("llama", size)
    tensors = tuple(Tensor(name, dimensions, kind, 0, 0) for name, kind, dimensions in made.tensors)
    expected = sum(tensor.elements for tensor in tensors)
    assert gguf_candidate(Hparams("gguf", "llama", {}, tensors), "x", label="F16").parameters == expected
    assert "Llama-3.1-8B" in REAL
