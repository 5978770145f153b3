"""The estimate against what the embedded runtime logs when it really loads a model (verbosity 4, hundredths of a MiB)."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from accuracy import ROOT, hparams_of
from shapes import Shape, Size, limit, shape

from lading.estimate import EstimateSettings, estimate
from lading.estimate.companions import with_adapter
from lading.estimate.refused import refusal

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("xllamacpp")

STORYTELLER = ROOT / "examples/storyteller/storyteller-f16.gguf"
MEBIBYTE = 1024 * 1024
PROGRAM = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.verbosity = 4
params.model.path = sys.argv[1]
params.n_ctx, params.n_parallel, params.n_ubatch = 1000, 2, 256
params.fit_params = params.warmup = False
params.port, params.offline = 0, True
params.cache_type_k, params.cache_type_v = (getattr(xllamacpp.ggml_type, f"GGML_TYPE_{name}") for name in sys.argv[2:4])
if len(sys.argv) > 4:
    adapter = xllamacpp.CommonAdapterLoraInfo()
    adapter.path, adapter.scale = sys.argv[4], 1.0
    params.lora_adapters = [adapter]
server = xllamacpp.Server(params)
"""
LOADED = "model loaded"
SETTINGS = EstimateSettings(ctx_size=1000, parallel=2, ubatch=256, overhead=(0, 0))


def said(path: Path, *adapters: Path, keys: str = "F16", values: str = "F16") -> str:
    """Return what a runtime says until it has loaded the model; it is ended then, for how it ends is not the question here."""
    with subprocess.Popen(
        ["env", "GGML_NO_BACKTRACE=1", sys.executable, "-c", PROGRAM, path, keys, values, *adapters],
        stderr=subprocess.PIPE,
        text=True,
    ) as runtime:
        try:
            lines: list[str] = []
            for line in runtime.stderr or ():
                lines.append(line)
                if LOADED in line:
                    break
        finally:
            runtime.kill()
    return "".join(lines)


def logged(path: Path, *adapters: Path) -> str:
    log = said(path, *adapters)
    assert LOADED in log, log[-2000:]
    return log


def mebibytes(log: str, kind: str) -> float:
    found = [float(size) for size in re.findall(rf"{kind} buffer size = *([0-9.]+) MiB", log)]
    assert found or kind in {"KV", "RS", "LoRA"}, f"the log has no size of the {kind} buffer"
    return sum(found)


@pytest.fixture(scope="module")
def storyteller() -> str:
    return logged(STORYTELLER)


def check(log: str, path: Path) -> None:
    found = estimate(hparams_of(path), SETTINGS).host
    # Each line is rounded, and a model has two of a kind at most.
    near = 0.0101
    assert found.kv / MEBIBYTE == pytest.approx(mebibytes(log, "KV"), abs=near)
    assert found.state / MEBIBYTE == pytest.approx(mebibytes(log, "RS"), abs=near)
    assert found.output / MEBIBYTE == pytest.approx(mebibytes(log, "output"), abs=near)
    # Of a mapped file the pages from the first tensor to the last are counted there.
    assert found.weights / MEBIBYTE == pytest.approx(mebibytes(log, "model"), abs=near + 4096 / MEBIBYTE)
    assert found.compute / MEBIBYTE == pytest.approx(mebibytes(log, "compute"), rel=0.25)


def test_the_storyteller_takes_what_was_estimated(storyteller: str) -> None:
    check(storyteller, STORYTELLER)


@pytest.mark.parametrize("name", ["qwen3moe", "gemma3", "deepseek2", "granitehybrid", "lfm2", "mamba2", "bert"])
def test_a_toy_takes_what_was_estimated(name: str, tmp_path: Path) -> None:
    path = shape(name).write(tmp_path / f"{name}.gguf")
    check(logged(path), path)


def test_an_adapter_takes_what_was_estimated(tmp_path: Path, storyteller: str) -> None:
    hparams = hparams_of(STORYTELLER)
    made = Shape("llama", Size())
    made.keys |= {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 16.0}
    for tensor in hparams.tensors:
        if ".attn_q." in tensor.name or ".ffn_up." in tensor.name:
            rows, columns = tensor.shape
            made.t(f"{tensor.name}.lora_a", rows, 8, f32=True)
            made.t(f"{tensor.name}.lora_b", 8, columns, f32=True)
    path = made.write(tmp_path / "adapter.gguf", vocabulary=False)
    alone = estimate(hparams, SETTINGS)
    both = with_adapter(alone, hparams_of(path), hparams, SETTINGS)
    added = (both.host.weights - alone.host.weights) / MEBIBYTE
    assert added == pytest.approx(mebibytes(logged(STORYTELLER, path), "LoRA"), abs=0.0101)
    assert mebibytes(storyteller, "LoRA") == 0


@pytest.mark.parametrize(
    ("kind", "layers", "head", "values"),
    [("phi3", 40, 128, "q8_0"), ("qwen3", 4, 80, "f16"), ("deepseek2", 4, 64, "f16")],
)
def test_a_cache_that_is_refused_is_one_that_the_runtime_does_not_load(
    kind: str, layers: int, head: int, values: str, tmp_path: Path
) -> None:
    path = limit(kind, layers, head).write(tmp_path / f"{kind}.gguf")
    assert refusal(hparams_of(path), replace(SETTINGS, cache_type_k="q8_0", cache_type_v=values)) is not None
    assert LOADED not in said(path, keys="Q8_0", values=values.upper())
    assert LOADED in said(path)
