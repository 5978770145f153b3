from __future__ import annotations

import json
import random
import struct
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

VALUE_TYPES = {
    "UINT8": (0, "B"),
    "INT8": (1, "b"),
    "UINT16": (2, "H"),
    "INT16": (3, "h"),
    "UINT32": (4, "I"),
    "INT32": (5, "i"),
    "FLOAT32": (6, "f"),
    "BOOL": (7, "?"),
    "STRING": (8, ""),
    "ARRAY": (9, ""),
    "UINT64": (10, "Q"),
    "INT64": (11, "q"),
    "FLOAT64": (12, "d"),
}
F32 = 0


def encode_string(text: str | bytes, order: str) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack(order + "Q", len(raw)) + raw


def encode_value(kind: str, value: Any, order: str) -> bytes:
    if kind == "STRING":
        return encode_string(value, order)
    if kind == "ARRAY":
        inner, items, *claimed = value
        number = VALUE_TYPES[inner][0] if isinstance(inner, str) else inner
        body = b"".join(encode_value(inner, item, order) for item in items)
        return struct.pack(order + "IQ", number, *(claimed or [len(items)])) + body
    return struct.pack(order + VALUE_TYPES[kind][1], value)


def build_gguf(
    metadata: Sequence[tuple[str | bytes, str | int, Any]] = (),
    tensors: Sequence[tuple[str | bytes, Sequence[int], int, int]] = (),
    *,
    order: str = "<",
    version: int = 3,
    alignment: int = 32,
    data: bytes = b"",
    n_tensors: int | None = None,
    n_keys: int | None = None,
    rank: int | None = None,
) -> bytes:
    """Write a GGUF file by hand; what is wrong in the arguments is wrong in the file.

    metadata: key, type name, value (of an array: type name, values and, to lie, their count); with a number for the
    type, value is raw bytes. tensors: name, shape, type number, offset. n_*, rank: what the file claims instead.
    """
    parts = [b"GGUF", struct.pack(order + "I", version)]
    parts.append(struct.pack(order + "Q", len(tensors) if n_tensors is None else n_tensors))
    parts.append(struct.pack(order + "Q", len(metadata) if n_keys is None else n_keys))
    for key, kind, value in metadata:
        parts.append(encode_string(key, order))
        if isinstance(kind, int):
            parts += [struct.pack(order + "I", kind), value]
        else:
            parts += [struct.pack(order + "I", VALUE_TYPES[kind][0]), encode_value(kind, value, order)]
    for name, shape, kind, offset in tensors:
        parts.append(encode_string(name, order))
        parts.append(struct.pack(order + "I", len(shape) if rank is None else rank))
        parts.append(struct.pack(f"{order}{len(shape)}QIQ", *shape, kind, offset))
    header = b"".join(parts)
    return header + bytes(-len(header) % alignment) + data if tensors else header


def build_safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Write a safetensors file by hand; `header` is JSON, or text or bytes that are to stand for it."""
    raw = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def mutations(original: bytes, within: int, count: int, seed: int) -> Iterator[bytes]:
    """Yield `count` damaged copies of a file, damaged in its first `within` bytes; the same ones for the same seed."""
    chance = random.Random(seed)
    numbers = (0, 1, 31, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
    for _ in range(count):
        data = bytearray(original)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            reach = max(1, min(within, len(data)))
            at = chance.randrange(reach)
            match chance.randrange(8):
                case 0:
                    data[at : at + 1] = bytes([chance.choice((0, 1, 9, 0x22, 0x7F, 0x80, 0xFF))])
                case 1:
                    data[at : at + 1] = bytes([chance.randrange(256)])
                case 2:
                    data[at : at + 8] = struct.pack(chance.choice("<>") + "Q", chance.choice(numbers))
                case 3:
                    data[at : at + 4] = struct.pack("<I", chance.choice(numbers) & 0xFFFFFFFF)
                case 4:
                    del data[at : at + chance.randrange(1, 40)]
                case 5:
                    data[at:at] = chance.randbytes(chance.randrange(1, 20))
                case 6:
                    other = chance.randrange(reach)
                    data[at:at] = data[other : other + chance.randrange(1, 80)]
                case _:
                    del data[at:]
        yield bytes(data)


@pytest.fixture(scope="session")
def gguf() -> Callable[..., bytes]:
    return build_gguf


@pytest.fixture(scope="session")
def safetensors() -> Callable[..., bytes]:
    return build_safetensors


@pytest.fixture(scope="session")
def mutated() -> Callable[[bytes, int, int, int], Iterator[bytes]]:
    return mutations


@pytest.fixture(scope="session")
def small_gguf() -> bytes:
    """A small valid model: every type of value, arrays, three tensors, 480 bytes of data."""
    return build_gguf(SMALL_METADATA, SMALL_TENSORS, data=bytes(480))


@pytest.fixture(scope="session")
def small_safetensors() -> bytes:
    """A small valid file: metadata and three tensors, of 48 bytes together."""
    header = {
        "__metadata__": {"format": "pt", "note": 'a "quoted" } brace'},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b.weight": {"dtype": "BF16", "shape": [10], "data_offsets": [24, 44]},
        "c": {"dtype": "I32", "shape": [], "data_offsets": [44, 48]},
    }
    return build_safetensors(header, bytes(48))


SMALL_METADATA: list[tuple[str, str, Any]] = [
    ("general.architecture", "STRING", "llama"),
    ("general.file_type", "UINT32", 15),
    ("general.alignment", "UINT32", 32),
    ("a.u8", "UINT8", 200),
    ("a.i8", "INT8", -5),
    ("a.u16", "UINT16", 60_000),
    ("a.i16", "INT16", -30_000),
    ("a.i32", "INT32", -2_000_000_000),
    ("a.f32", "FLOAT32", 0.5),
    ("a.bool", "BOOL", True),
    ("a.u64", "UINT64", 2**64 - 1),
    ("a.i64", "INT64", -(2**63)),
    ("a.f64", "FLOAT64", 1e300),
    ("tokenizer.ggml.tokens", "ARRAY", ("STRING", ["<s>", "", "é", "x" * 300])),
    ("tokenizer.ggml.scores", "ARRAY", ("FLOAT32", [0.0, -1.5])),
    ("flags", "ARRAY", ("BOOL", [True, False, True])),
    ("tokenizer.chat_template", "STRING", "{{ messages }}"),
]
# 4 x 8 floats, one Q8_0 row of 32, and a lone float; 32 bytes of alignment.
SMALL_TENSORS = [("token_embd.weight", [4, 8], F32, 0), ("blk.0.q", [32, 9], 8, 128), ("scale", [], F32, 448)]
