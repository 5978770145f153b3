"""Importance matrices as llama-imatrix writes them: GGUF with sums of squared activations, and how many went in."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import ranges
from lading.errors import FormatError
from lading.formats import gguf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lading.formats.tensor import Tensor

_SUMS, _COUNTS = ".in_sum2", ".counts"
_DATASETS = "imatrix.datasets"


@dataclass(frozen=True, slots=True)
class Importance:
    """Means of squared activations by the name of the tensor they weigh; `dataset` is the first text's name."""

    values: Mapping[str, array[float]]
    dataset: str | None
    chunks: int


def read_importance(path: Path, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Importance:
    """Read a matrix as llama-quantize does, for tensors whose names have a part in `include`, or none in `exclude`.

    Raises FormatError for the older format (`.dat`) and for files that are no matrix.
    """
    reader = ranges.FileRanges(ranges.open_regular(path), str(path))
    try:
        header = gguf.read_header(reader)
        tensors = {tensor.name: tensor for tensor in header.tensors}
        values: dict[str, array[float]] = {}
        for name, tensor in tensors.items():
            weight = name.removesuffix(_SUMS)
            counts = tensors.get(f"{weight}{_COUNTS}")
            if not name.endswith(_SUMS) or counts is None or any(part in weight for part in exclude):
                continue
            if not include or any(part in weight for part in include):
                values[weight] = _means(_floats(reader, tensor), _floats(reader, counts), path)
        if not any(name.endswith(_SUMS) for name in tensors):
            msg = f"{path} is no importance matrix"
            raise FormatError(msg, hint="`lading imatrix` makes one")
        named = isinstance(header.metadata.get(_DATASETS), gguf.ArrayRef)
        names = gguf.read_array(reader, header, _DATASETS, limit=1) if named else []
        chunks = header.metadata.get("imatrix.chunk_count")
    finally:
        reader.close()
    return Importance(values, str(names[0]) if names else None, chunks if isinstance(chunks, int) else 0)


def _means(sums: array[float], counts: array[float], path: Path) -> array[float]:
    if not counts or len(sums) % len(counts):
        msg = f"{path} has {len(sums)} sums for {len(counts)} counts"
        raise FormatError(msg, hint="the matrix is damaged, or of a kind that is not known here")
    width = len(sums) // len(counts)
    means = array("f")
    for number, count in enumerate(counts):
        part = sums[number * width : (number + 1) * width]
        # Rounded once to single precision, which is what a division in single precision gives.
        means.extend([value / count for value in part] if count > 0 else [1.0] * width)
    return means


def _floats(reader: ranges.FileRanges, tensor: Tensor) -> array[float]:
    if tensor.type != "F32":
        msg = f"{reader.name}: {tensor.name} is {tensor.type}, not F32"
        raise FormatError(msg, hint="the matrix is damaged, or of a kind that is not known here")
    numbers = array("f", reader.read_at(tensor.offset, tensor.size))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
