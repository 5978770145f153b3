"""The estimate against what llama.cpp itself would allocate (oracle.json and held_out.json, written by scripts/oracle.sh)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from accuracy import Row, compute_errors, counted, hparams_of, settings, table
from held_out import HELD_OUT
from shapes import REAL, TOYS, limit, shape

from lading.errors import UsageError
from lading.estimate import Estimate, EstimateSettings, estimate
from lading.estimate.refused import refusal

if TYPE_CHECKING:
    from shapes import Models

    from lading.hparams import Hparams

FITTED, OTHERS = table("oracle.json"), table("held_out.json")
SAID = json.loads((Path(__file__).parent / "oracle.json").read_text(encoding="utf-8"))
REAL_ROWS = [*((name, FITTED[name]) for name in REAL), *OTHERS.items()]
EVERY = [*FITTED.items(), *OTHERS.items()]
MEBIBYTE = 1024 * 1024
# The compute of a context of one token, some kilobytes, is not what anybody asks for.
ONE_TOKEN = "ctx=1"


def named(rows: list[tuple[str, list[Row]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "rows"), [pytest.param(*one, id=one[0]) for one in rows])


def by_device(found: Estimate) -> dict[str, Any]:
    return {"CPU": found.host, **{f"RPC{index}": use for index, use in enumerate(found.devices)}}


def test_the_tables_cover_21_architectures_eleven_real_models_and_33_held_out() -> None:
    assert set(FITTED) == {*TOYS, *REAL, "storyteller"}
    assert set(OTHERS) == set(HELD_OUT)
    assert not set(OTHERS) & set(FITTED)
    assert (len(TOYS), len(REAL), len(HELD_OUT)) == (21, 11, 33)
    assert sum(map(len, FITTED.values())) >= 1090
    assert sum(map(len, OTHERS.values())) >= 600


@named(EVERY)
def test_weights_caches_and_state_are_equal_to_the_byte_on_every_device(
    name: str, rows: list[Row], model: Models
) -> None:
    for row in rows:
        found = estimate(model(name), settings(row.words))
        assert (row.words, found.context) == (row.words, row.context)
        for device, use in by_device(found).items():
            weights, cache, _ = row.devices.get(device, (0, 0, 0))
            assert (row.words, device, use.weights, use.kv + use.state) == (row.words, device, weights, cache)


@named(EVERY)
def test_the_output_buffer_is_the_same_as_far_as_the_log_tells(name: str, rows: list[Row], model: Models) -> None:
    for row in rows:
        found = estimate(model(name), settings(row.words)).host.output
        # The log rounds to a hundredth of a MiB.
        assert found / MEBIBYTE == pytest.approx(row.output, abs=0.0051), row.words


@named(EVERY)
def test_compute_on_the_host_is_within_a_tenth_for_real_shapes_and_a_quarter_for_toys(
    name: str, rows: list[Row], model: Models
) -> None:
    # The storyteller's feed-forward is as narrow as its width, which no other model's is; it is half a MiB.
    far = 0.3 if name == "storyteller" else 0.25 if name in TOYS else 0.1
    for row in rows:
        if row.words != ONE_TOKEN:
            for error in compute_errors([row], model, placed=False):
                assert abs(error) <= far, (row.words, error)


@named(EVERY)
def test_compute_on_devices_is_never_short_by_a_third_nor_twice_too_much(
    name: str, rows: list[Row], model: Models
) -> None:
    for row in rows:
        for error in compute_errors([row], model, placed=True):
            assert -1 / 3 <= error <= 1, (row.words, error)


@named(REAL_ROWS)
def test_the_whole_of_a_real_model_is_at_most_a_fiftieth_short_and_a_twentieth_too_much(
    name: str, rows: list[Row], model: Models
) -> None:
    for row in rows:
        if row.words != ONE_TOKEN:
            ours = counted(estimate(model(name), settings(row.words)))
            assert -0.02 <= (ours - row.total) / row.total <= 0.05, (row.words, ours, row.total)


@pytest.mark.parametrize("said", SAID["repacked"], ids=lambda said: said[0])
def test_the_second_copy_of_repacked_weights_is_equal_to_the_byte(said: list[Any], tmp_path: Path) -> None:
    kind, _, _, _, devices, _ = said
    size = replace(REAL["Llama-3.1-8B"][1], layers=2, weights=kind)
    hparams = hparams_of(shape("llama", size).write(tmp_path / "typed.gguf", vocabulary=False))
    found = estimate(hparams, EstimateSettings(ctx_size=512)).host
    assert found.repacked == devices.get("CPU_REPACK", [0])[0]
    assert found.weights == sum(parts[0] for parts in devices.values())
    assert estimate(hparams, EstimateSettings(ctx_size=512, repack=False)).host.repacked == 0


def refused(model: Hparams, words: str) -> str:
    """Return what is said of settings that llama.cpp would not run a model with, "" of others."""
    try:
        found = refusal(model, settings(words))
    except UsageError as error:
        return error.message
    return found.message if found else ""


def test_what_llama_cpp_refuses_is_refused_and_nothing_else(model: Models) -> None:
    for said in (SAID, json.loads((Path(__file__).parent / "held_out.json").read_text(encoding="utf-8"))):
        answers = [(name, words, isinstance(first, str)) for name, words, first, *_ in said["rows"]]
        assert [(name, words, bool(refused(model(name), words))) for name, words, _ in answers] == answers


@pytest.mark.parametrize("name", sorted({name for name, _, _ in SAID["limits"]}))
def test_caches_at_the_limits_of_llama_cpp_are_refused_as_it_does(name: str, tmp_path: Path) -> None:
    kind, layers, head = name.split()
    hparams = hparams_of(limit(kind, int(layers), int(head)).write(tmp_path / "limit.gguf", vocabulary=False))
    answers = [(words, bool(said)) for one, words, said in SAID["limits"] if one == name]
    assert [(words, bool(refused(hparams, words))) for words, _ in answers] == answers


def test_a_refusal_says_what_would_be_taken(model: Models) -> None:
    phi = refusal(model("Phi-4-14B"), EstimateSettings(cache_type_k="q8_0", cache_type_v="q8_0", parallel=2), "phi:4")
    assert phi is not None
    assert phi.message == "phi:4: llama.cpp breaks off over a cache of q8_0 and q8_0 with 2 slots"
    assert phi.hint == "--cache-type-k f16, or --parallel 1"
    deep = refusal(model("DeepSeek-V3"), EstimateSettings(cache_type_k="q8_0"))
    assert deep is not None
    assert deep.hint == "--cache-type-k q8_0 --cache-type-v q8_0"
