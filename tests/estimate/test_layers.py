from __future__ import annotations

import random

import pytest

from lading.errors import FormatError
from lading.estimate import EstimateSettings, estimate
from lading.estimate.architectures import KNOWN, MEASURED, WINDOWS
from lading.estimate.layers import Layer, layers_of
from lading.hparams import Hparams


def hparams(architecture: str, **said: object) -> Hparams:
    keys = {key.replace("__", "."): value for key, value in said.items()}
    usual = {
        "block_count": 8,
        "embedding_length": 256,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "context_length": 4096,
    }
    return Hparams("gguf", architecture, usual | keys, (), 512)  # type: ignore[arg-type]  # any value, as a header has


def near(model: Hparams) -> list[int]:
    return [index for index, layer in enumerate(layers_of(model)) if layer.window]


@pytest.mark.parametrize(("layers", "dense"), [(18, 3), (26, 4), (34, 5), (48, 8), (62, 10)])
def test_gemma3_sees_everything_in_each_sixth_layer_counted_from_its_end(layers: int, dense: int) -> None:
    model = hparams("gemma3", block_count=layers, attention__sliding_window=1024)
    assert layers - len(near(model)) == dense
    assert 5 not in near(model)


@pytest.mark.parametrize(
    ("architecture", "said", "expected"),
    [
        ("gemma2", {}, [0, 2, 4, 6]),
        ("gpt-oss", {"attention__sliding_window": 128}, [0, 2, 4, 6]),
        ("cohere2", {"attention__sliding_window": 128}, [0, 1, 2, 4, 5, 6]),
        ("cohere2moe", {"attention__sliding_window": 128}, [1, 2, 3, 5, 6, 7]),
        ("olmo2", {}, []),
        ("phi3", {"attention__sliding_window": 128}, []),
        ("llama", {"attention__sliding_window": 128}, []),
        ("llama4", {}, [0, 1, 2, 4, 5, 6]),
        ("llama4", {"attention__sliding_window": 0}, []),
        ("smallthinker", {"attention__sliding_window": 1}, [1, 2, 3, 5, 6, 7]),
        ("smallthinker", {}, []),
        ("exaone4", {"attention__sliding_window": 128}, []),
        ("gemma3", {"attention__sliding_window": 128, "attention__sliding_window_pattern": 2}, [0, 2, 4, 6]),
        (
            "gemma4",
            {"attention__sliding_window": 128, "attention__sliding_window_pattern": (1, 1, 0, 1, 1, 0, 0, 1)},
            [0, 1, 3, 4, 7],
        ),
        ("lfm2", {"attention__sliding_window": 128}, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_windows_are_where_llama_cpp_puts_them(architecture: str, said: dict[str, object], expected: list[int]) -> None:
    assert near(hparams(architecture, **said)) == expected


def test_llama4_and_smallthinker_have_windows_of_their_own_size() -> None:
    assert {layer.window for layer in layers_of(hparams("llama4", attention__sliding_window=77))} == {0, 8192}
    assert {layer.window for layer in layers_of(hparams("smallthinker", attention__sliding_window=77))} == {0, 4096}


def test_a_list_of_windows_that_must_be_there_and_is_not_is_an_error() -> None:
    with pytest.raises(FormatError, match="gemma4 model must list"):
        layers_of(hparams("gemma4", attention__sliding_window=128))


def test_compressed_attention_keeps_one_row_and_no_values() -> None:
    model = hparams(
        "deepseek2",
        attention__head_count_kv=1,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
        attention__value_length_mla=128,
    )
    assert set(layers_of(model)) == {Layer(keys=576)}


def test_layers_without_heads_keep_nothing_or_a_state() -> None:
    heads = (2, 0, 2, 0, 2, 0, 2, 0)
    plain = layers_of(hparams("deci", attention__head_count_kv=heads))
    assert [layer.keys for layer in plain] == [128, 0] * 4
    mixed = layers_of(hparams("lfm2", attention__head_count_kv=heads, shortconv__l_cache=3))
    assert [layer.convolution for layer in mixed] == [0, 512] * 4


def test_nemotron_has_layers_of_three_kinds() -> None:
    model = hparams(
        "nemotron_h",
        attention__head_count_kv=(2, 0, 0, 2, 0, 0, 2, 0),
        feed_forward_length=(0, 0, 64, 0, 0, 64, 0, 64),
        ssm__conv_kernel=4, ssm__inner_size=512, ssm__state_size=16, ssm__group_count=1,
    )  # fmt: skip
    kinds = ["keys" if layer.keys else "state" if layer.state else "" for layer in layers_of(model)]
    assert kinds == ["keys", "state", "", "keys", "state", "", "keys", ""]


def test_layers_that_only_draft_keep_nothing() -> None:
    kept = [bool(layer.keys) for layer in layers_of(hparams("glm4moe", nextn_predict_layers=1))]
    assert kept == [True] * 7 + [False]


def test_gemma3n_shares_what_its_last_layers_look_at() -> None:
    model = hparams("gemma3n", block_count=30, attention__sliding_window=512)
    assert sum(bool(layer.keys) for layer in layers_of(model)) == 20


def test_an_unknown_architecture_gives_its_weights_and_says_so() -> None:
    found = estimate(hparams("mamba9000"), EstimateSettings(devices=1))
    assert not found.known
    assert not found.measured
    assert {use.kv + use.state + use.compute + use.output for use in found.uses} == {0}
    assert "mamba9000" in found.notes[0]


def test_one_that_was_only_read_about_says_so() -> None:
    found = estimate(hparams("starcoder2", feed_forward_length=512))
    assert found.known
    assert not found.measured
    assert "read in llama.cpp's source" in found.notes[0]


def test_the_tables_agree_with_each_other() -> None:
    assert MEASURED <= KNOWN
    assert set(WINDOWS) <= KNOWN


@pytest.mark.parametrize(
    "said",
    [
        {"block_count": 10**9},
        {"attention__head_count_kv": (2, 2)},
        {"attention__head_count_kv": (2, 2, 2, 2, 2, 2, 2, -1)},
        {"attention__head_count_kv": 2**40, "attention__key_length": 2**40},
    ],
)
def test_a_header_that_cannot_be_is_an_error_and_no_figure(said: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        estimate(hparams("llama", **said))


@pytest.mark.parametrize(
    "architecture", sorted(KNOWN - {"gemma4", "granite_swa", "maple", "mimo2", "spark2_5", "step35"})
)
def test_every_known_architecture_can_be_estimated_from_the_barest_header(architecture: str) -> None:
    for said in ({}, {"expert_count": 8, "expert_used_count": 2}):
        assert estimate(hparams(architecture, **said), EstimateSettings(devices=2)).known
    assert estimate(Hparams("gguf", architecture, {}, ())).total >= 0


def test_no_header_however_odd_does_anything_but_give_figures_or_break_the_rules_of_its_format() -> None:
    chance = random.Random(6)
    keys = (
        "block_count", "embedding_length", "feed_forward_length", "context_length", "attention.head_count",
        "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.key_length_mla",
        "attention.value_length_mla", "attention.sliding_window", "attention.sliding_window_pattern", "ssm.conv_kernel",
        "ssm.inner_size", "ssm.state_size", "ssm.group_count", "wkv.head_size", "shortconv.l_cache", "expert_count",
        "expert_used_count", "full_attention_interval", "nextn_predict_layers", "attention.shared_kv_layers",
    )  # fmt: skip
    values = (0, 1, 2, 7, 64, 4096, 2**31, 2**63, -1, 1.5, float("nan"), True, "8", (), (0,), (1, 2, 3), ("a",) * 9)
    outcomes = set()
    for _ in range(3000):
        said = {key: chance.choice(values) for key in chance.sample(keys, chance.randrange(len(keys)))}
        model = Hparams("gguf", chance.choice(sorted(KNOWN)), said, (), chance.choice((0, 512)))
        try:
            found = estimate(
                model, EstimateSettings(devices=chance.randrange(3), ctx_size=chance.choice((None, 1, 9000)))
            )
        except FormatError:
            outcomes.add("refused")
        else:
            outcomes.add("figures")
            assert all(use.total >= 0 for use in found.uses)
    assert outcomes == {"refused", "figures"}
