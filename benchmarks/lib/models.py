"""Makes what is packed, pushed and pulled here: valid models of random bytes."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1024**3
_BLOCK = 1024 * 1024


def write_gguf(path: Path, size: int, *, sparse: bool = False) -> None:
    """Write a valid GGUF whose one tensor is `size` random bytes, or with `sparse` a hole, and sync it."""

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text)) + text.encode()

    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    header += string("general.architecture") + struct.pack("<I", 8) + string("llama")
    header += string("blob.weight") + struct.pack("<IQIQ", 1, size, 24, 0)
    with path.open("wb") as file:
        file.write(header + b"\0" * (-len(header) % 32))
        if sparse:
            file.truncate(file.tell() + size)
        for _ in range(0 if sparse else size // _BLOCK):
            file.write(os.urandom(_BLOCK))
        file.flush()
        os.fsync(file.fileno())
