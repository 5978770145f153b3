"""Headers: that of a GGUF with 152k tokens (12.5 MB, 400 tensors whose data is a hole), read in a fresh interpreter.

The interpreter imports nothing but the reader; beside it stands one that only starts.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

from lib.machine import ROOT
from lib.measure import Contender, asked_runs, rounds
from lib.places import workplace
from lib.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKENS = 151_936
MERGES = 151_387
TENSORS = 400
TENSOR_SIZE = 4096 * 4096 // 256 * 144
ABOUT = """A GGUF header of 12.5 MB, with 152 thousand tokens and 400 tensors, read by a fresh interpreter that loads the reader alone."""
READ = """
import os, sys
from lading.formats.gguf import read_header
from lading.ranges import FileRanges
descriptor = os.open(sys.argv[1], os.O_RDONLY)
reader = FileRanges(descriptor, sys.argv[1], os.fstat(descriptor).st_size)
header = read_header(reader)
assert len(header.tensors) == 400 and header.metadata["tokenizer.ggml.tokens"].length == 151_936
"""


def string(text: str) -> bytes:
    """Encode a GGUF string."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def array(key: str, kind: int, count: int) -> bytes:
    """Encode a metadata key that holds an array, up to its elements."""
    return string(key) + struct.pack("<IIQ", 9, kind, count)


def header() -> Iterator[bytes]:
    """Yield the header in small pieces: what this process holds would count as its children's peak."""
    yield b"GGUF" + struct.pack("<IQQ", 3, TENSORS, 6)
    yield string("general.architecture") + struct.pack("<I", 8) + string("qwen3")
    yield string("general.file_type") + struct.pack("<II", 4, 15)
    yield array("tokenizer.ggml.tokens", 8, TOKENS)
    yield from (string(f"token{n:06d}" + n % 33 * "x") for n in range(TOKENS))
    yield array("tokenizer.ggml.token_type", 5, TOKENS)
    yield from (struct.pack("<i", 1) for _ in range(TOKENS))
    yield array("tokenizer.ggml.merges", 8, MERGES)
    yield from (string(f"me{n:06d} rges{n:06d}" + n % 33 * "y") for n in range(MERGES))
    yield string("tokenizer.chat_template") + struct.pack("<I", 8) + string("{{ message }}" * 300)
    for n in range(TENSORS):
        yield string(f"blk.{n}.weight") + struct.pack("<IQQIQ", 2, 4096, 4096, 12, n * TENSOR_SIZE)


def write_model(path: Path) -> int:
    """Write the model and return the bytes of its header."""
    with path.open("wb") as file:
        file.writelines(header())
        size = file.tell()
        file.truncate(size + 32 + TENSORS * TENSOR_SIZE)
    return size


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__, 15)
    report = Report("gguf-header", "header of a GGUF", ABOUT)
    with workplace() as folder:
        model = folder / "model.gguf"
        size = write_model(model)
        own = {"PYTHONPATH": str(ROOT / "src")}
        seen = rounds(
            [
                Contender("read the header", [sys.executable, "-S", "-c", READ, str(model)], own),
                Contender("a bare interpreter", [sys.executable, "-S", "-c", ""], own),
            ],
            runs,
        )
    medians = report.took(seen)
    reading = medians["read the header"]
    report.figure(size / 1e6, " MB")
    report.figure(reading.wall * 1e3, " ms", 60)
    report.figure(reading.peak, " MiB of memory", 24)
    report.finish()


if __name__ == "__main__":
    main()
