"""The table of tensors in a GGUF header."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from lading.errors import FormatError
from lading.formats.gguf_cursor import HINT, GgufCursor
from lading.formats.gguf_types import REMOVED_TENSOR_TYPES, TENSOR_TYPES
from lading.formats.quote import quote
from lading.formats.tensor import Tensor

if TYPE_CHECKING:
    from lading.content import RangeReader

MAX_TENSORS = 32_768
"""Models have hundreds to a few thousand; this many fit in 64 MiB of memory. The spec sets no limit."""

MAX_TENSOR_NAME = 256
"""Bytes; the spec says 64, image models are known to need more."""

MAX_DIMENSIONS = 4
"""The spec's limit, and ggml's."""

MAX_ELEMENTS = 2**63 - 1
"""In one tensor: ggml counts in signed 64-bit numbers."""

TENSOR_AT_LEAST = 24
"""Bytes of the shortest entry: no name, no dimension."""


def read_tensors(cursor: GgufCursor, file: str, count: int) -> list[Tensor]:
    """Read `count` entries of the table; their offsets count from the start of the data. Raises FormatError."""
    u32 = Struct(cursor.order + "I")
    places = [Struct(f"{cursor.order}{rank}QIQ") if rank else Struct(cursor.order + "IQ") for rank in range(5)]
    seen: set[str] = set()
    tensors = []
    for _ in range(count):
        name = cursor.text(MAX_TENSOR_NAME, "a tensor name")
        if name in seen:
            msg = f"{file} has tensor {quote(name)} twice"
            raise FormatError(msg, hint=HINT)
        seen.add(name)
        (rank,) = cursor.unpack(u32)
        if rank > MAX_DIMENSIONS:
            msg = f"tensor {quote(name)} of {file} has {rank} dimensions; {MAX_DIMENSIONS} are the most"
            raise FormatError(msg, hint=HINT)
        *shape, kind, offset = cursor.unpack(places[rank])
        type_name, size = _tensor_size(name, tuple(shape), kind, file)
        tensors.append(Tensor(name, tuple(shape), type_name, offset, size))
    return tensors


def _tensor_size(name: str, shape: tuple[int, ...], kind: int, file: str) -> tuple[str, int]:
    if kind not in TENSOR_TYPES:
        removed = REMOVED_TENSOR_TYPES.get(kind)
        msg = f"tensor {quote(name)} of {file} has the {'removed' if removed else 'unknown'} type {removed or kind}"
        hint = "no current llama.cpp reads it; get another quantization of the model" if removed else HINT
        raise FormatError(msg, hint=hint)
    type_name, block, block_size = TENSOR_TYPES[kind]
    elements = 1
    for dimension in shape:
        elements *= dimension
    # Checked for each dimension too: a zero in the shape would hide an absurd one from the product.
    if elements > MAX_ELEMENTS or any(dimension > MAX_ELEMENTS for dimension in shape):
        msg = f"tensor {quote(name)} of {file} has an impossible shape {list(shape)}"
        raise FormatError(msg, hint=HINT)
    row = shape[0] if shape else 1
    if row % block:
        msg = f"tensor {quote(name)} of {file} has rows of {row} elements; {type_name} needs multiples of {block}"
        raise FormatError(msg, hint=HINT)
    return type_name, elements // block * block_size


def place(entries: list[Tensor], reader: RangeReader, data_offset: int, alignment: int) -> tuple[Tensor, ...]:
    """Give the tensors offsets from the start of the file; raises FormatError unless all fit in it, none over another."""
    placed = []
    for entry in entries:
        if entry.offset % alignment:
            msg = f"tensor {quote(entry.name)} of {reader.name} lies at {entry.offset}, no multiple of {alignment}"
            raise FormatError(msg, hint=HINT)
        start = data_offset + entry.offset
        if start + entry.size > reader.size:
            msg = f"tensor {quote(entry.name)} of {reader.name} ends at byte {start + entry.size}, the file at {reader.size}"
            raise FormatError(msg, hint=HINT)
        placed.append(Tensor(entry.name, entry.shape, entry.type, start, entry.size))
    end, last = 0, ""
    for tensor in sorted(placed, key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset < end:
            msg = f"tensors {quote(last)} and {quote(tensor.name)} of {reader.name} overlap"
            raise FormatError(msg, hint=HINT)
        end, last = tensor.offset + tensor.size, tensor.name
    return tuple(placed)
