"""The estimate against what llama.cpp itself would allocate (oracle.json, written by scripts/oracle.sh)."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from shapes import REAL, TOYS

from lading.errors import UsageError
from lading.estimate import Estimate, EstimateSettings, Override, estimate

if TYPE_CHECKING:
    from shapes import Models

TABLE = json.loads((Path(__file__).parent / "oracle.json").read_text(encoding="utf-8"))
ROWS: dict[str, list[list[Any]]] = defaultdict(list)
for row in TABLE["rows"]:
    ROWS[row[0]].append(row)
MEBIBYTE = 1024 * 1024
_NUMBERS = {
    "ctx": "ctx_size",
    "parallel": "parallel",
    "ubatch": "ubatch",
    "batch": "batch",
    "devices": "devices",
    "ngl": "gpu_layers",
}
# Peaks that no rule here follows; each is told of in docs/reference/estimate.md.
UNFOLLOWED = {
    ("bert", "ctx=1"),
    ("bert", "ctx=4096 ubatch=64"),
    ("qwen3next", "ctx=1"),
    ("qwen3next", "ctx=512"),
    ("rwkv7", "ctx=1"),
}


def settings(words: str) -> EstimateSettings:
    """The same configuration as the oracle was asked for."""
    said = dict(word.split("=", 1) for word in words.split())
    asked: dict[str, Any] = {ours: int(said[theirs]) for theirs, ours in _NUMBERS.items() if theirs in said}
    asked |= {key: said[key] == "1" for key in ("unified", "swa_full", "embeddings", "kv_offload") if key in said}
    asked |= {ours: said[key] for key, ours in (("ctk", "cache_type_k"), ("ctv", "cache_type_v")) if key in said}
    if "flash" in said:
        asked["flash_attention"] = "on" if said["flash"] == "1" else "off"
    if "ts" in said:
        asked["tensor_split"] = tuple(map(float, said["ts"].split(",")))
    if "cpu" in said:
        asked["overrides"] = (Override(said["cpu"]),)
    if asked.get("embeddings"):
        asked["batch"] = asked["ubatch"]  # as llama-server sets it
    return EstimateSettings(overhead=(0, 0), **asked)


def answered(name: str) -> list[list[Any]]:
    return [row for row in ROWS[name] if not isinstance(row[2], str)]


def by_device(found: Estimate) -> dict[str, Any]:
    return {"CPU": found.host, **{f"RPC{index}": use for index, use in enumerate(found.devices)}}


def test_the_table_covers_21_architectures_and_eleven_real_models() -> None:
    assert set(ROWS) == {*TOYS, *REAL}
    assert (len(TOYS), len(REAL)) == (21, 11)
    assert sum(len(answered(name)) for name in ROWS) >= 940


@pytest.mark.parametrize("name", ROWS)
def test_weights_caches_and_state_are_equal_to_the_byte_on_every_device(name: str, model: Models) -> None:
    hparams = model(name)
    for _, words, context, _, devices, _ in answered(name):
        found = estimate(hparams, settings(words))
        assert (words, found.context) == (words, context)
        for device, use in by_device(found).items():
            weights, cache, _ = devices.get(device, (0, 0, 0))
            assert (words, device, use.weights, use.kv + use.state) == (words, device, weights, cache)


@pytest.mark.parametrize("name", ROWS)
def test_the_output_buffer_is_the_same_as_far_as_the_log_tells(name: str, model: Models) -> None:
    for _, words, _, _, _, output in answered(name):
        found = estimate(model(name), settings(words)).host.output
        # The log rounds to a hundredth of a MiB.
        assert found / MEBIBYTE == pytest.approx(output, abs=0.0051), words


@pytest.mark.parametrize("name", ROWS)
def test_compute_on_the_host_is_within_a_tenth_for_real_shapes_and_a_quarter_for_toys(name: str, model: Models) -> None:
    far = 0.1 if name in REAL else 0.25
    for _, words, _, _, devices, _ in answered(name):
        if "devices" not in words and (name, words) not in UNFOLLOWED:
            found = estimate(model(name), settings(words)).host.compute
            assert found == pytest.approx(devices["CPU"][2], rel=far), words


@pytest.mark.parametrize("name", ROWS)
def test_compute_on_devices_is_never_short_by_a_third_nor_twice_too_much(name: str, model: Models) -> None:
    for _, words, _, _, devices, _ in answered(name):
        # Layers that are computed apart from their cache or their experts are told of in the documentation.
        if "devices" not in words or "kv_offload" in words or "cpu=" in words:
            continue
        for device, use in by_device(estimate(model(name), settings(words))).items():
            if real := devices.get(device, (0, 0, 0))[2]:
                assert -0.3 * real <= use.compute - real <= 0.85 * real, (words, device, use.compute, real)


@pytest.mark.parametrize("name", REAL)
def test_the_whole_of_a_real_model_is_at_most_a_hundredth_short_and_a_fortieth_too_much(
    name: str, model: Models
) -> None:
    for _, words, _, _, devices, _ in answered(name):
        if (name, words) in UNFOLLOWED:
            continue
        found = estimate(model(name), settings(words))
        real = sum(sum(parts) for parts in devices.values())
        ours = sum(use.weights + use.kv + use.state + use.compute for use in found.uses)
        assert -0.01 * real <= ours - real <= 0.025 * real, (words, ours, real)


def test_what_llama_cpp_refuses_for_want_of_flash_attention_is_refused() -> None:
    refused = {words for rows in ROWS.values() for _, words, *rest in rows if "requires flash_attn" in str(rest[0])}
    assert refused == {"ctx=4096 ctv=q8_0 flash=0"}
    with pytest.raises(UsageError, match="needs flash attention"):
        settings("ctx=4096 ctv=q8_0 flash=0")
