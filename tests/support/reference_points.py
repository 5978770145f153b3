"""The examples in gguf-parser's README, made again from published dimensions: header-only models in the same mixes of types."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from shapes import TOYS, Shape, Size

from lading.estimate import Estimate, EstimateSettings, estimate
from lading.estimate.companions import with_adapter
from lading.formats.gguf import read_header
from lading.formats.tensor import Tensor
from lading.hparams import Hparams, gguf_hparams
from lading.ranges import FileRanges

GIBIBYTE = 1024**3
_SHORT_ROWS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_BLOCK = 256
_RANK = 32


@dataclass(frozen=True)
class Point:
    """One example: GiB of video memory that the README prints for each device, systems without unified memory."""

    name: str
    architecture: str
    size: Size
    settings: EstimateSettings
    said: tuple[float, ...]
    adapter: bool = False
    tied: bool = False


# Its defaults were those of llama.cpp then: no flash attention.
_OFF = EstimateSettings(devices=1, flash_attention="off")
_LLAMA3 = Size(32, 4096, 14336, 32, 8, 128, 128256, ctx_train=8192, weights="Q5_K")
POINTS = (
    Point(
        "Llama 3.1 70B, Q4_K_M, 1,024 tokens, split 8 to 10", "llama",
        Size(80, 8192, 28672, 64, 8, 128, 128256, ctx_train=131072, weights="Q4_K"),
        replace(_OFF, ctx_size=1024, devices=2, tensor_split=(8.0, 10.0)), (17.83, 22.83),
    ),
    Point("Llama 3 8B, Q5_K_M, 8,192 tokens", "llama", _LLAMA3, _OFF, (7.04,)),
    Point("the same with a LoRA of rank 32", "llama", _LLAMA3, _OFF, (7.21,), adapter=True),
    Point(
        "DeepSeek R1 distilled into Qwen 7B, Q4_K_M, 131,072 tokens", "qwen2",
        Size(28, 3584, 18944, 28, 4, 128, 152064, ctx_train=131072, weights="Q4_K"), _OFF, (18.89,),
    ),
    Point(
        "Qwen2 0.5B, Q5_K_M, 8,192 tokens", "qwen2",
        Size(24, 896, 4864, 14, 2, 64, 151936, ctx_train=32768, weights="Q5_K"),
        replace(_OFF, ctx_size=8192), (1.03,), tied=True,
    ),
)  # fmt: skip


def _mixed(made: Shape, *, tied: bool) -> None:
    """Have the types of llama-quantize's mixes Q4_K_M and Q5_K_M (llama_tensor_get_type in llama-quant.cpp)."""
    c, tensors = made.size, []
    for name, kind, dimensions in made.tensors:
        if tied and name == "output.weight":
            continue
        chosen = kind
        if len(dimensions) > 1:
            chosen = _mix(name, c)
            if dimensions[0] % _BLOCK:
                chosen = _SHORT_ROWS[chosen]
        tensors.append((name, chosen, dimensions))
    made.tensors = tensors


def _mix(name: str, size: Size) -> str:
    if name == "output.weight":
        return "Q6_K"
    if ".attn_v." in name or ".ffn_down." in name:
        index, count = int(name.split(".")[1]), size.layers
        eighth = count // 8
        if index < eighth or index >= 7 * count // 8 or (index - eighth) % 3 == 2:
            return "Q6_K"
        if ".attn_v." in name and count == 80:
            return "Q5_K"
    return size.weights


@cache
def read(point: Point) -> Hparams:
    """Return the hyperparameters of a point's model."""
    made = Shape(point.architecture, point.size)
    TOYS[point.architecture][1](made)
    _mixed(made, tied=point.tied)
    with tempfile.TemporaryDirectory() as folder:
        path = made.write(Path(folder) / "point.gguf", vocabulary=False)
        with closing(FileRanges(os.open(path, os.O_RDONLY), path.name)) as reader:
            return gguf_hparams([read_header(reader)], reader)


def adapter_of(model: Hparams) -> Hparams:
    """Return an F16 adapter of rank 32 for each matrix of a model's layers."""
    tensors = []
    for one in model.tensors:
        if one.name.startswith("blk.") and len(one.shape) > 1:
            for part, width in zip(("a", "b"), one.shape, strict=True):
                tensors.append(Tensor(f"{one.name}.lora_{part}", (width, _RANK), "F16", 0, 2 * width * _RANK))
    return Hparams("gguf", model.architecture, {}, tuple(tensors))


def answer(point: Point) -> Estimate:
    """Return our estimate of a point."""
    found = estimate(read(point), point.settings)
    return with_adapter(found, adapter_of(read(point)), read(point), point.settings) if point.adapter else found


def points() -> list[str]:
    """Lay out the table: GiB on each device."""
    lines = [
        "| | Layers | Its README | Ours | Weights | Cache | Compute | Assumed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for point in POINTS:
        for use, said in zip(answer(point).devices, point.said, strict=True):
            parts = (use.total, use.weights, use.kv, use.compute, use.overhead)
            ours = " | ".join(f"{part / GIBIBYTE:.2f}" for part in parts)
            lines.append(f"| {point.name}, {use.name} | {use.layers} | {said:.2f} | {ours} |")
    return lines
