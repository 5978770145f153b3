"""How far the estimate is off: the tables of docs/fit-accuracy.md, from what llama.cpp said (tests/estimate/*.json)."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from held_out import HELD_OUT
from parser_rule import parser_cache, parser_compute
from reference_points import points
from shapes import REAL, TOYS

from lading.estimate import Estimate, EstimateSettings, Override, estimate
from lading.formats.gguf import read_header
from lading.hparams import Hparams, gguf_hparams
from lading.ranges import FileRanges

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shapes import Models

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/fit-accuracy.md"
UPDATE = "LADING_UPDATE_ACCURACY"
BEGIN = "<!-- made by the tests: LADING_UPDATE_ACCURACY=1 make test TESTS=tests/estimate -->"
_NUMBERS = {
    "ctx": "ctx_size",
    "parallel": "parallel",
    "ubatch": "ubatch",
    "batch": "batch",
    "devices": "devices",
    "ngl": "gpu_layers",
    "moe": "n_cpu_moe",
}
# A device that has nothing but a norm computes some bytes.
_SMALL = 64 * 1024
_USUAL = "ctx=4096"
_ON_A_DEVICE = "ctx=4096 ngl=99 devices=1"


@dataclass(frozen=True)
class Row:
    """What llama.cpp would allocate: bytes of weights, context and compute by device; MiB of output, rounded."""

    model: str
    words: str
    context: int
    devices: dict[str, tuple[int, int, int]]
    output: float

    @property
    def placed(self) -> bool:
        """Whether some of it is on devices."""
        return "devices" in self.words

    @property
    def parted(self) -> bool:
        """Whether layers are computed apart from their cache or from some of their tensors."""
        return any(word in self.words for word in ("kv_offload", "cpu=", "moe="))

    @property
    def total(self) -> int:
        """Bytes on all devices."""
        return sum(sum(parts) for parts in self.devices.values())


def table(name: str) -> dict[str, list[Row]]:
    """Return what llama.cpp answered for each model of a table; what it refused is left out."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for model, words, context, *rest in json.loads((ROOT / "tests/estimate" / name).read_text(encoding="utf-8"))[
        "rows"
    ]:
        rows[model]
        if not isinstance(context, str):
            _, devices, output = rest
            rows[model].append(Row(model, words, context, {key: tuple(data) for key, data in devices.items()}, output))
    return rows


def hparams_of(path: Path) -> Hparams:
    """Return the hyperparameters of a file, read from its header as from any model's."""
    reader = FileRanges(os.open(path, os.O_RDONLY), path.name)
    try:
        return gguf_hparams([read_header(reader)], reader)
    finally:
        reader.close()


def settings(words: str) -> EstimateSettings:
    """Return the same configuration as the oracle was asked for."""
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


def counted(found: Estimate) -> int:
    """Return the bytes of an estimate that llama.cpp's figures have too."""
    return sum(use.weights + use.kv + use.state + use.compute for use in found.uses)


def compute_errors(rows: Iterable[Row], model: Models, *, placed: bool, parted: bool = False) -> list[float]:
    """Return how far compute is off on each device, as parts of what it is."""
    errors = []
    for row in rows:
        if (row.placed, row.parted) == (placed, parted):
            found = estimate(model(row.model), settings(row.words))
            for index, use in enumerate(found.uses):
                real = row.devices.get(f"RPC{index - 1}" if index else "CPU", (0, 0, 0))[2]
                if real >= (_SMALL if index else 1):
                    errors.append((use.compute - real) / real)
    return errors


def total_errors(rows: Iterable[Row], model: Models) -> list[float]:
    """Return how far the sums of weights, caches, states and compute are off."""
    return [(counted(estimate(model(row.model), settings(row.words))) - row.total) / row.total for row in rows]


def page(model: Models) -> str:
    """Lay out the tables."""
    fitted, others = table("oracle.json"), table("held_out.json")
    lines = []
    for title, rows, names in (
        ("## Models that rules were made from", fitted, REAL),
        ("## Models and settings that no rule was made from", others, HELD_OUT),
        ("## Toys, 256 elements wide", fitted, (*TOYS, "storyteller")),
    ):
        lines += [
            "", title, "",
            "| | Rows | Weights, caches, states | Compute on the host | On devices | Parted | Total |",
            "|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        lines += [_line(name, rows[name], model) for name in names]
    lines += [
        "",
        "## Beside gguf-parser",
        "",
        "| | Cache, its rule | Ours | Compute, its rule | Ours |",
        "|---|---|---|---|---|",
    ]
    lines += [_beside(name, rows, model) for rows, names in ((fitted, (*TOYS, *REAL)),) for name in names if rows[name]]
    lines += ["", "## gguf-parser's own examples", "", *points()]
    return "\n".join(lines) + "\n"


def _line(name: str, rows: Sequence[Row], model: Models) -> str:
    exact = all(
        sum(use.weights + use.kv + use.state for use in estimate(model(name), settings(row.words)).uses)
        == sum(weights + kept for weights, kept, _ in row.devices.values())
        for row in rows
    )
    spans = [
        _span(compute_errors(rows, model, placed=placed, parted=parted))
        for placed, parted in ((False, False), (True, False), (True, True))
    ]
    return f"| {name} | {len(rows)} | {'equal' if exact else 'different'} | {' | '.join(spans)} | {_span(total_errors(rows, model))} |"


def _beside(name: str, rows: dict[str, list[Row]], model: Models) -> str:
    hparams = model(name)
    usual = next(row for row in rows[name] if row.words == _USUAL)
    device = next(row for row in rows[name] if row.words == _ON_A_DEVICE)
    kept, compute = usual.devices["CPU"][1], device.devices["RPC0"][2]
    ours = estimate(hparams, settings(_USUAL))
    on_device = estimate(hparams, settings(_ON_A_DEVICE)).devices[0].compute
    cells = (
        f"{parser_cache(hparams, usual.context) / kept:.2f}" if kept else "1.00",
        f"{(ours.host.kv + ours.host.state) / kept:.2f}" if kept else "1.00",
        f"{parser_compute(hparams, device.context) / compute:.2f}",
        f"{on_device / compute:.2f}",
    )
    return f"| {name} | {' | '.join(cells)} |"


def _span(errors: Sequence[float]) -> str:
    if not errors:
        return ""
    return " to ".join(
        dict.fromkeys(
            f"{100 * one + 0.0:+.1f}".replace("+0.0", "0").replace("-0.0", "0") for one in (min(errors), max(errors))
        )
    )
