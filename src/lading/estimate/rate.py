"""How fast tokens may come: a band, from the bytes that one token reads and how fast memory gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.estimate.result import Estimate
    from lading.hparams import Hparams

_SLOW = 0.4
_QUICK = 0.9


class Band(NamedTuple):
    """Tokens a second that one request may be written at: with a full cache and much lost, and with an empty one."""

    low: float
    high: float


def token_rate(hparams: Hparams, found: Estimate, bandwidths: Sequence[float | None]) -> Band | None:
    """Return the band for generating, one request at a time; None where nothing can be said.

    `bandwidths` are bytes a second of the host's memory and of each device's, None where it is not known. It is not a
    measurement: reading prompts, slow kernels and links between devices are not in it.
    """
    if not found.known or len(bandwidths) < len(found.uses):
        return None
    part = _read_part(hparams)
    empty = full = 0.0
    for use, bandwidth in zip(found.uses, bandwidths, strict=False):
        if not use.layers:
            continue
        if not bandwidth or bandwidth <= 0:
            return None
        empty += (use.weights * part + use.state) / bandwidth
        full += (use.weights * part + use.state + use.kv) / bandwidth
    return Band(_SLOW / full, _QUICK / empty) if empty else None


def _read_part(hparams: Hparams) -> float:
    """Return the part of the weights that one token reads: of experts those used, of the embeddings next to nothing."""
    experts, used = hparams.number("expert_count"), hparams.number("expert_used_count")
    every = read = 0
    tied = all(tensor.name != "output.weight" for tensor in hparams.tensors)
    for tensor in hparams.tensors:
        every += tensor.size
        if "_exps." in tensor.name and experts:
            read += tensor.size * min(used, experts) // experts
        elif tensor.name != "token_embd.weight" or tied:
            read += tensor.size
    return read / every if every else 1.0
