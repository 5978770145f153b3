"""Makes what is packed, pushed, pulled and quantized here: valid models of random bytes."""

from __future__ import annotations

import math
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GIB = 1024**3
_BLOCK = 1024 * 1024
_U32, _F32, _STRING = 4, 6, 8
_PLAIN, _HALF, _I8 = 0, 1, 24
_WIDTH, _HIDDEN, _WORDS, _HEADS = 2048, 5632, 32000, 16
_SMALL_NUMBERS = bytes(0x80 & byte | 0x20 + (byte & 0x0B) for byte in range(256))
"""A random byte made the upper one of a half-precision number: sign, and an exponent of weights' usual sizes."""


def write_gguf(path: Path, size: int, *, sparse: bool = False) -> None:
    """Write a valid GGUF whose one tensor is `size` random bytes, or with `sparse` a hole, and sync it."""
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    header += _string("general.architecture") + struct.pack("<I", _STRING) + _string("llama")
    header += _string("blob.weight") + struct.pack("<IQIQ", 1, size, _I8, 0)
    with path.open("wb") as file:
        file.write(header + b"\0" * (-len(header) % 32))
        if sparse:
            file.truncate(file.tell() + size)
        for _ in range(0 if sparse else size // _BLOCK):
            file.write(os.urandom(_BLOCK))
        file.flush()
        os.fsync(file.fileno())


def write_llama(path: Path, layers: int) -> None:
    """Write a Llama in F16, 51 M weights (103 MB) a layer and 131 M for its words, that quantizers take; and sync it."""
    tensors = [*_words(), *(tensor for number in range(layers) for tensor in _layer(number))]
    said: list[tuple[str, int, int | float | str]] = [
        ("general.architecture", _STRING, "llama"),
        ("general.file_type", _U32, 1),
        ("llama.block_count", _U32, layers),
        ("llama.context_length", _U32, 2048),
        ("llama.embedding_length", _U32, _WIDTH),
        ("llama.feed_forward_length", _U32, _HIDDEN),
        ("llama.attention.head_count", _U32, _HEADS),
        ("llama.attention.layer_norm_rms_epsilon", _F32, 1e-5),
        ("llama.vocab_size", _U32, _WORDS),
        ("tokenizer.ggml.model", _STRING, "none"),
    ]
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(said))
    for key, kind, value in said:
        raw = _string(value) if isinstance(value, str) else struct.pack("<f" if kind == _F32 else "<I", value)
        header += _string(key) + struct.pack("<I", kind) + raw
    offset = 0
    for name, shape, kind in tensors:
        header += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        offset += _bytes(shape, kind)
    with path.open("wb") as file:
        file.write(header + b"\0" * (-len(header) % 32))
        for _name, shape, kind in tensors:
            size = _bytes(shape, kind)
            if kind == _PLAIN:
                file.write(struct.pack("<f", 1.0) * (size // 4))
                continue
            for start in range(0, size, _BLOCK):
                block = bytearray(os.urandom(min(_BLOCK, size - start)))
                block[1::2] = block[1::2].translate(_SMALL_NUMBERS)
                file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _words() -> list[tuple[str, tuple[int, ...], int]]:
    table = (_WIDTH, _WORDS)
    return [
        ("token_embd.weight", table, _HALF),
        ("output.weight", table, _HALF),
        ("output_norm.weight", (_WIDTH,), _PLAIN),
    ]


def _layer(number: int) -> Iterator[tuple[str, tuple[int, ...], int]]:
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        yield f"blk.{number}.{name}.weight", (_WIDTH, _WIDTH), _HALF
    for name, shape in (
        ("ffn_gate", (_WIDTH, _HIDDEN)),
        ("ffn_up", (_WIDTH, _HIDDEN)),
        ("ffn_down", (_HIDDEN, _WIDTH)),
    ):
        yield f"blk.{number}.{name}.weight", shape, _HALF
    for name in ("attn_norm", "ffn_norm"):
        yield f"blk.{number}.{name}.weight", (_WIDTH,), _PLAIN


def _bytes(shape: tuple[int, ...], kind: int) -> int:
    return math.prod(shape) * (4 if kind == _PLAIN else 2)
