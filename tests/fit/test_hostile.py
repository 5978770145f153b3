"""What a header made to cost memory or time costs the whole command: an error or a row, in little of either."""

from __future__ import annotations

import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from made_weights import gguf

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CommandLine

MIB = 1024 * 1024
# Not ru_maxrss, which begins with what the parent had; and the processor's time, which is the same however busy it is.
PROGRAM = """
import sys, time
from lading.cli.entry import main
code = main()
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(f"\\n{time.process_time()} {int(peak) * 1024}", file=sys.stderr)
sys.exit(code)
"""
ATTENTION = {
    "llama.embedding_length": 4096,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.feed_forward_length": 14336,
    "llama.context_length": 2**31 - 1,
    "llama.expert_count": 128,
    "llama.expert_used_count": 8,
}
_WIDE = 512
_LIST, _STRING = 9, 8


def listed(key: str, kind: int, count: int, size: int) -> bytes:
    """A list of zeros: its key, and so many elements of so many bytes."""
    name = key.encode()
    return struct.pack("<Q", len(name)) + name + struct.pack("<IIQ", _LIST, kind, count) + bytes(count * size)


def model(path: Path, layers: int, tensors: int, *lists: bytes) -> Path:
    """A model of experts whose weights are a hole in the file."""
    said = gguf({"general.architecture": "llama", "llama.block_count": layers, **ATTENTION}, ())[24:]
    size = 4 * _WIDE * _WIDE
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, tensors, 2 + len(ATTENTION) + len(lists)) + said)
        file.writelines(lists)
        for index in range(tensors):
            name = f"blk.{index % layers}.ffn_up_exps.{index}".encode()
            shape = struct.pack("<IQQIQ", 2, _WIDE, _WIDE, 0, index * size)
            file.write(struct.pack("<Q", len(name)) + name + shape)
        file.truncate(file.tell() + 32 + tensors * size)
    return path


MADE = {
    "more tensors than any model": (6, (512, 32_768)),
    "lists of many numbers": (6, (32, 100, *(listed(f"llama.list{index}", 12, 16_384, 8) for index in range(400)))),
    "many lists": (6, (32, 100, *(listed(f"llama.list{index}", 5, 1000, 4) for index in range(10_000)))),
    "a list of lists": (6, (32, 100, listed("llama.lists", _LIST, 2, 12))),
    "more layers than llama.cpp takes": (6, (4096, 4096)),
    "all that is allowed": (0, (512, 8192, *(listed(f"llama.list{index}", 5, 16_384, 4) for index in range(4)))),
    "a long vocabulary": (0, (64, 512, listed("tokenizer.ggml.tokens", _STRING, 3_000_000, 8))),
}
WRITTEN = {
    "nothing": b"",
    "zeros": bytes(MIB),
    "counts": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63) + bytes(4096),
    "long texts": gguf({"general.architecture": "llama", **{f"llama.{index}": "中" * (2 * MIB) for index in range(4)}}),
}
MACHINES = {
    "memory": ("--ram", "1TiB"),
    "large devices": ("--device", "8GiB", "--device", "8GiB", "--ram", "64GiB"),
    "small devices": ("--device", "3GiB", "--device", "2GiB", "--ram", "9GiB"),
}


def costs(lading: CommandLine, path: Path, *flags: str) -> tuple[int, float, int, str]:
    """Return the exit code of `fit`, seconds of the processor, bytes at the peak, and what it said of trouble."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "fit", str(path), *flags],
        env=lading.environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    said, _, figures = done.stderr.strip().rpartition("\n")
    seconds, peak = figures.split()
    return done.returncode, float(seconds), int(peak), said


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", MADE)
def test_a_header_made_to_cost_much_costs_a_second_and_64_mebibytes_at_most(
    lading: CommandLine, tmp_path: Path, name: str, machine: str
) -> None:
    code, said = MADE[name]
    path = model(tmp_path / "made.gguf", *said)  # type: ignore[arg-type]  # numbers, then lists
    found, seconds, peak, trouble = costs(lading, path, *MACHINES[machine])
    assert found == code, trouble
    assert ("error: " in trouble) == bool(code)
    assert seconds < 1
    assert peak < 64 * MIB


@pytest.mark.parametrize("name", WRITTEN)
def test_a_broken_header_ends_with_an_error_within_a_second_and_64_mebibytes(
    lading: CommandLine, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "written.gguf"
    path.write_bytes(WRITTEN[name])
    found, seconds, peak, trouble = costs(lading, path)
    assert (found, trouble.partition(": ")[0]) == (6, "error"), trouble
    assert seconds < 1
    assert peak < 64 * MIB


def test_a_file_that_is_not_weighed_can_be_inspected_all_the_same(lading: CommandLine, tmp_path: Path) -> None:
    for name in ("more tensors than any model", "many lists"):
        path = model(tmp_path / "made.gguf", *MADE[name][1])  # type: ignore[arg-type]  # as above
        assert "llama" in lading("inspect", path).stdout
