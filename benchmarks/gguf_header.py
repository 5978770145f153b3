"""Read the header of a GGUF with 152k tokens in a fresh interpreter: wall and CPU time, peak memory.

Makes the file (a header of 12.5 MB, 400 tensors whose data is a hole), reads it in child processes that import
nothing but the reader, and prints one line: medians, and beside them those of an interpreter that only starts.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS = 151_936
MERGES = 151_387
TENSORS = 400
TENSOR_SIZE = 4096 * 4096 // 256 * 144
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


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a child and return its wall seconds, CPU seconds and peak MiB."""
    start = time.perf_counter()
    child = subprocess.Popen(command, env={"PYTHONPATH": str(Path(__file__).parent.parent / "src")})
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"a child failed with status {child.returncode}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return wall, usage.ru_utime + usage.ru_stime, peak / 2**20


def median(runs: list[tuple[float, float, float]]) -> tuple[float, ...]:
    """Return the median of each column."""
    return tuple(sorted(column)[len(runs) // 2] for column in zip(*runs, strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.gguf"
        size = write_model(model)
        reads, starts = [], []
        for _ in range(runs + 1):
            reads.append(measure([sys.executable, "-S", "-c", READ, str(model)]))
            starts.append(measure([sys.executable, "-S", "-c", ""]))
    wall, cpu, peak = median(reads[1:])
    base_wall, base_cpu, base_peak = median(starts[1:])
    print(
        f"gguf header {size / 1e6:.1f} MB: {wall * 1e3:.0f} ms wall, {cpu * 1e3:.0f} ms CPU, {peak:.1f} MiB peak "
        f"(bare interpreter {base_wall * 1e3:.0f} ms, {base_cpu * 1e3:.0f} ms, {base_peak:.1f} MiB; goal 60 ms, 24 MiB)"
    )


if __name__ == "__main__":
    main()
