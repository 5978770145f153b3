"""What an estimate is asked for: how llama.cpp would be told to run, and the sizes that follow from it alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from lading.errors import UsageError
from lading.formats.gguf_types import TENSOR_TYPES

if TYPE_CHECKING:
    from lading.hparams import Hparams

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
"""What `--cache-type-k` and `--cache-type-v` take."""

PLAIN_TYPES = frozenset({"f32", "f16", "bf16"})
"""Those of them that values may have without flash attention."""

REPACKED = frozenset({"IQ4_NL", "MXFP4", "Q4_0", "Q4_K"})
"""Types that ggml 0.27 keeps a second time, in a layout of its own, on a processor with AVX2; others may take others."""

MEBIBYTE = 1024 * 1024
_CELLS = 256
_MOST_CONTEXT = 2**31 - 1
_BLOCKS = {name: (elements, size) for name, elements, size in TENSOR_TYPES.values()}


class Override(NamedTuple):
    """Tensors whose name a regular expression is found in, to lie on a device: a number, or None for the host."""

    pattern: str
    device: int | None = None


@dataclass(frozen=True, slots=True)
class EstimateSettings:
    """How llama.cpp would be run. Defaults are those of `lading serve`, not of llama-server: one slot, no prompt cache.

    `ctx_size` None is what the model was trained for. `gpu_layers` None puts all layers on devices, where there are any;
    the output counts as one layer more. `devices` is how many there are, `tensor_split` their shares (None: equal ones),
    `overrides` tensors that lie elsewhere, the first that matches; `n_cpu_moe` keeps the experts of that many first layers
    on the host. `mmap` maps the file instead of reading it; `repack` has the host keep a second copy of what its
    processor likes in another order. `overhead` is what a runtime takes besides, in bytes, on the host (without
    the vocabulary) and on each device.
    Raises UsageError for values that llama.cpp would refuse.
    """

    ctx_size: int | None = None
    parallel: int = 1
    unified: bool = False
    batch: int = 2048
    ubatch: int = 512
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: Literal["on", "off", "auto"] = "auto"
    swa_full: bool = False
    gpu_layers: int | None = None
    devices: int = 0
    tensor_split: tuple[float, ...] | None = None
    overrides: tuple[Override, ...] = ()
    n_cpu_moe: int = 0
    kv_offload: bool = True
    embeddings: bool = False
    mmap: bool = True
    repack: bool = True
    overhead: tuple[int, int] = (32 * MEBIBYTE, 400 * MEBIBYTE)

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("ctx-size", self.ctx_size, 1, _MOST_CONTEXT),
            ("parallel", self.parallel, 1, 256),
            ("batch-size", self.batch, 1, _MOST_CONTEXT),
            ("ubatch-size", self.ubatch, 1, _MOST_CONTEXT),
            ("n-gpu-layers", self.gpu_layers, 0, _MOST_CONTEXT),
            ("devices", self.devices, 0, 16),
            ("n-cpu-moe", self.n_cpu_moe, 0, _MOST_CONTEXT),
        ):
            if value is not None and not least <= value <= most:
                msg = f"{name} {value} is not between {least} and {most}"
                raise UsageError(msg)
        for name in (self.cache_type_k, self.cache_type_v):
            if name not in CACHE_TYPES:
                msg = f"unknown cache type `{name}`"
                raise UsageError(msg, hint=f"one of {', '.join(CACHE_TYPES)}")
        if self.flash_attention == "off" and self.cache_type_v not in PLAIN_TYPES:
            msg = f"a cache of type {self.cache_type_v} for values needs flash attention"
            raise UsageError(msg, hint="leave flash attention on, or keep values as f16")
        self._check_places()

    def _check_places(self) -> None:
        split = self.tensor_split
        if split is not None and (
            len(split) != self.devices or sum(split) <= 0 or not all(0 <= one < float("inf") for one in split)
        ):
            msg = f"a tensor split of {len(split)} shares for {self.devices} devices"
            raise UsageError(msg, hint="one share for each device, none negative and one above zero")
        for one in self.overrides:
            try:
                re.compile(one.pattern)
            except re.error as error:
                msg = f"the pattern {one.pattern!r} is no regular expression: {error}"
                raise UsageError(msg) from None
            if one.device is not None and not 0 <= one.device < self.devices:
                msg = f"there is no device {one.device} for {one.pattern!r}"
                raise UsageError(msg)

    @property
    def flash(self) -> bool:
        """Whether attention is computed without its matrix of scores; `auto` is on wherever a device can."""
        return self.flash_attention != "off"


class Cells(NamedTuple):
    """What a context becomes: `each` cells in each of `streams` caches, and `tokens` computed at once."""

    context: int
    each: int
    streams: int
    tokens: int


def cells_of(settings: EstimateSettings, hparams: Hparams) -> Cells:
    """Return the sizes that llama.cpp makes of the context: padded to 256 cells, shared out where slots have their own."""
    asked = settings.ctx_size or hparams.number("context_length") or 4096
    context = padded(asked, _CELLS)
    streams = 1 if settings.unified else settings.parallel
    each = padded(max(1, context // streams), _CELLS)
    # Models that look ahead (encoders) compute a batch at once also where it is longer than what was asked for.
    longest = each * streams if hparams.said.get("attention.causal") is False else asked
    return Cells(each * streams, each, streams, min(settings.ubatch, settings.batch, longest))


def window_cells(window: int, settings: EstimateSettings, cells: Cells) -> int:
    """Return the cells of a layer that looks back `window` tokens only."""
    if settings.swa_full:
        return cells.each
    sequences = settings.parallel if settings.unified else 1
    return padded(min(cells.each, window * sequences + cells.tokens), _CELLS)


def rows_of(window: int, settings: EstimateSettings, cells: Cells) -> int:
    """Return the rows that a layer keeps in all caches together; `window` 0 is one that looks back at everything."""
    return cells.streams * (window_cells(window, settings, cells) if window else cells.each)


def padded(value: int, step: int) -> int:
    """Return the next multiple of `step`."""
    return -(-value // step) * step


def block_of(kind: str) -> int:
    """Return how many elements of a cache type are kept together."""
    return _BLOCKS[kind.upper()][0]


def row_bytes(kind: str, elements: int) -> int:
    """Return the bytes of a row of a cache type; a row that is no whole number of blocks is counted with a last whole one."""
    block, size = _BLOCKS[kind.upper()]
    return -(-elements // block) * size
