"""Small valid weights, written by hand: a GGUF or safetensors file as bytes."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Value = str | bool | int | float | list[str] | list[int]

_U32, _F32, _BOOL, _STRING, _ARRAY, _U64 = 4, 6, 7, 8, 9, 10
_ALIGNMENT = 32


def gguf(
    metadata: Mapping[str, Any] | None = None, tensors: Sequence[tuple[str, int]] = (("a", 8),), *, order: str = "<"
) -> bytes:
    """A GGUF file; metadata in its own order, tensors as (name, number of F32 elements)."""
    said = {"general.architecture": "llama"} if metadata is None else metadata
    parts = [b"GGUF", struct.pack(order + "IQQ", 3, len(tensors), len(said))]
    for key, value in said.items():
        kind, raw = _encoded(value, order)
        parts += [_string(key, order), struct.pack(order + "I", kind), raw]
    offset = 0
    for name, elements in tensors:
        parts += [_string(name, order), struct.pack(order + "IQIQ", 1, elements, 0, offset)]
        offset += -(-4 * elements // _ALIGNMENT) * _ALIGNMENT
    head = b"".join(parts)
    return head + bytes(-len(head) % _ALIGNMENT) + bytes(offset) if tensors else head


def gguf_shard(number: int, count: int, metadata: Mapping[str, Any] | None = None) -> bytes:
    """Part `number`, from 1, of a split GGUF with one tensor in each; only the first carries the metadata."""
    split = {"split.no": number - 1, "split.count": count, "split.tensors.count": count}
    said = {"general.architecture": "llama", **(metadata or {})} if number == 1 else {}
    return gguf(said | split, [(f"t{number}", 8)])


def safetensors(
    tensors: Mapping[str, tuple[str, Sequence[int], int]] | None = None, metadata: Mapping[str, str] | None = None
) -> bytes:
    """A safetensors file; tensors by name as (dtype, shape, bytes), one after the other."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (dtype, shape, size) in ({"a": ("BF16", [4, 2], 16)} if tensors is None else tensors).items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(end)


def _string(text: str, order: str) -> bytes:
    raw = text.encode()
    return struct.pack(order + "Q", len(raw)) + raw


def _encoded(value: Value, order: str) -> tuple[int, bytes]:
    match value:
        case bool():
            return _BOOL, struct.pack(order + "?", value)
        case int():
            return (_U32, struct.pack(order + "I", value)) if value < 2**32 else (_U64, struct.pack(order + "Q", value))
        case float():
            return _F32, struct.pack(order + "f", value)
        case str():
            return _STRING, _string(value, order)
        case _:
            kinds = {_encoded(item, order)[0] for item in value} or {_STRING}
            body = b"".join(_encoded(item, order)[1] for item in value)
            return _ARRAY, struct.pack(order + "IQ", kinds.pop(), len(value)) + body
