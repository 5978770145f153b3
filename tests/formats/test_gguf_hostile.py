"""Files made to break the reader of GGUF; the advisories named are those of other readers."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.errors import FormatError
from lading.formats.gguf import GgufHeader, read_header
from lading.ranges import BytesRanges

Build = Callable[..., bytes]
Mutated = Callable[[bytes, int, int, int], Iterator[bytes]]
MIB = 1024 * 1024
HUGE = [2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


class HollowRanges:
    """A file of any size that holds a header and then zeros, or what `filler` says."""

    def __init__(self, header: bytes, size: int, filler: bytes = b"\0") -> None:
        self.name = "model.gguf"
        self.size = size
        self._header = header
        self._filler = filler

    def read_at(self, offset: int, length: int, /) -> bytes:
        length = min(length, self.size - offset)
        head = self._header[offset : offset + length]
        start = (offset + len(head) - len(self._header)) % len(self._filler)
        rest = length - len(head)
        return head + (self._filler * (rest // len(self._filler) + 2))[start : start + rest]

    def close(self) -> None:
        pass


def read(data: bytes) -> GgufHeader:
    return read_header(BytesRanges(data, "model.gguf"))


def refusal(data: bytes) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(data)
    assert "model.gguf" in caught.value.message
    assert caught.value.hint
    return caught.value


def verdict(data: bytes) -> GgufHeader | None:
    """Read what may be a model: its header, or None where it was refused with a hint; no other error is let through."""
    try:
        return read(data)
    except FormatError as error:
        refused = error
    assert refused.hint
    return None


def bounded(call: Callable[[], Any], seconds: float = 4.0) -> None:
    """Make the call, refused or not, in bounded time (loose, for a loaded machine); then again within 64 MiB."""
    start = time.process_time()
    with suppress(FormatError):
        call()
    assert time.process_time() - start < seconds
    tracemalloc.start()
    try:
        with suppress(FormatError):
            call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * MIB


def test_a_file_cut_at_any_byte_is_refused_with_a_hint(small_gguf: bytes) -> None:
    data_used = 448 + 4
    end = len(small_gguf) - 480 + data_used
    read(small_gguf[:end])
    for length in range(end):
        error = refusal(small_gguf[:length])
        assert "cut short" in error.hint or length == 0


def test_a_big_endian_file_cut_at_any_byte_is_refused(gguf: Build) -> None:
    whole = gguf(
        [("k", "STRING", "v"), ("l", "ARRAY", ("STRING", ["a", "bc"]))], [("t", [3], 0, 0)], order=">", data=bytes(12)
    )
    read(whole)
    for length in range(len(whole)):
        refusal(whole[:length])


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"", "download"),
        (b"<!DOCTYPE html><html>Sign in</html>" * 9, "web page"),
        (b"\n  <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "LFS"),
        (b"tjgg" + bytes(60), "convert"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b"\x80\x02}q\x00." + bytes(60), "pickle"),
        (b"\x1f\x8b\x08" + bytes(60), "gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(60), "zstd"),
        (b'{"error":"not found"}', "JSON"),
        (b"\x40\0\0\0\0\0\0\0{" + b" " * 63, "safetensors"),
        (b"x", "downloaded"),
        (bytes(4), "downloaded"),
        (b"FUGG", "downloaded"),
        (b"GGU", "cut short"),
        # CVE-2024-39720: four bytes crashed a server.
        (b"GGUF", "cut short"),
    ],
)
def test_what_is_not_gguf_is_told_apart(data: bytes, hint: str) -> None:
    assert hint in refusal(data).hint


@pytest.mark.parametrize("count", HUGE)
def test_absurd_counts_of_keys_and_tensors_are_refused(gguf: Build, count: int) -> None:
    """CVE-2024-21802, CVE-2025-0315."""
    assert f"{count} metadata keys" in refusal(gguf(n_keys=count) + bytes(100)).message
    assert f"{count} tensors" in refusal(gguf(n_tensors=count) + bytes(100)).message


def test_counts_that_the_file_cannot_hold_are_refused_at_once(gguf: Build) -> None:
    assert "ends within its header" in refusal(gguf(n_keys=16_384) + bytes(100)).message
    assert "ends within its header" in refusal(gguf(n_tensors=32_768) + bytes(100)).message


@pytest.mark.parametrize("length", [17, *HUGE])
def test_absurd_lengths_of_strings_are_refused(gguf: Build, length: int) -> None:
    """CVE-2025-49847 and the rest of the CVE-2024-21802 family."""
    lie = struct.pack("<Q", length)
    refusal(gguf([], n_keys=1) + lie + bytes(16))
    refusal(gguf([("k", 8, lie + bytes(16))]))
    refusal(gguf([("k", 9, struct.pack("<IQ", 8, 1) + lie + bytes(16))]))
    refusal(gguf([], n_tensors=1) + lie + bytes(16))


@pytest.mark.parametrize("kind", [0, 4, 7, 8, 12])
@pytest.mark.parametrize("count", HUGE)
def test_absurd_counts_of_elements_are_refused(gguf: Build, kind: int, count: int) -> None:
    """An array of 2^63 elements in a file of some 43 bytes made gguf-py 0.19 run for ever (llama.cpp #27188)."""
    data = gguf([("k", 9, struct.pack("<IQ", kind, count))])
    assert len(data) < 50
    start = time.process_time()
    refusal(data)
    assert time.process_time() - start < 1


def test_lengths_that_wrap_around_do_not_go_back(gguf: Build) -> None:
    lies = b"".join(struct.pack("<Q", 2**64 - back) for back in (8, 16, 24))
    refusal(gguf([("k", 9, struct.pack("<IQ", 8, 3) + lies), ("l", "STRING", "x" * 100)]))


def test_unknown_types_of_values_are_refused(gguf: Build) -> None:
    """Unchecked types: CVE-2024-21802; of array elements: llama.cpp #26690."""
    for kind in (13, 255, 2**31, 2**32 - 1):
        assert f"type {kind}" in refusal(gguf([("k", kind, bytes(64))])).message
        assert f"type {kind}" in refusal(gguf([("k", 9, struct.pack("<IQ", kind, 1) + bytes(64))])).message


def test_arrays_of_arrays_are_refused(gguf: Build) -> None:
    assert "array of arrays" in refusal(gguf([("k", "ARRAY", ("ARRAY", [("INT8", [1]), ("INT8", [2])]))])).message
    deep = struct.pack("<IQ", 9, 1) * 100_000
    assert "array of arrays" in refusal(gguf([("k", 9, deep)])).message


def test_a_boolean_is_true_or_false(gguf: Build) -> None:
    assert "neither true nor false" in refusal(gguf([("k", 7, b"\x02")])).message


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("UINT32", 0),
        ("UINT32", 3),
        ("UINT32", 33),
        ("UINT32", 2**32 - 1),
        ("UINT64", 2**40),
        ("UINT64", 2**63),
        ("INT32", -32),
        ("FLOAT32", 32.0),
        ("BOOL", True),
        ("STRING", "32"),
        ("ARRAY", ("UINT32", [32])),
    ],
)
def test_an_alignment_that_is_no_power_of_two_is_refused(gguf: Build, kind: str, value: Any) -> None:
    """llama.cpp #19856, #26318: zero and odd alignments."""
    data = gguf([("general.alignment", kind, value)], [("t", [1], 0, 0)], data=bytes(64))
    assert "power of two" in refusal(data).message


def test_an_alignment_moves_the_data(gguf: Build) -> None:
    for alignment in (1, 8, 4096):
        metadata = [("general.alignment", "UINT32", alignment)]
        data = gguf(
            metadata, [("t", [1], 0, 0), ("u", [1], 0, max(4, alignment))], alignment=alignment, data=bytes(9000)
        )
        header = read(data)
        assert header.data_offset % alignment == 0
        assert header.data_offset == len(data) - 9000


def test_duplicate_and_empty_keys_are_refused(gguf: Build) -> None:
    assert "'k' twice" in refusal(gguf([("k", "UINT8", 1), ("k", "STRING", "x")])).message
    assert "empty key" in refusal(gguf([("", "UINT32", 1)])).message


def test_duplicate_tensors_are_refused(gguf: Build) -> None:
    assert "'t' twice" in refusal(gguf(tensors=[("t", [1], 0, 0), ("t", [1], 0, 32)], data=bytes(64))).message


def test_names_have_a_limit(gguf: Build) -> None:
    assert len(read(gguf([("k" * 65_535, "UINT8", 1)])).metadata) == 1
    assert "65536 bytes long" in refusal(gguf([("k" * 65_536, "UINT8", 1)])).message
    assert len(read(gguf(tensors=[("t" * 256, [1], 0, 0)], data=bytes(4))).tensors) == 1
    assert "257 bytes long" in refusal(gguf(tensors=[("t" * 257, [1], 0, 0)], data=bytes(4))).message


def test_text_has_a_limit_in_all(gguf: Build) -> None:
    half = "x" * (4 * MIB)
    assert "8388609 bytes long" in refusal(gguf([("k", "STRING", half + half + "x")])).message
    assert "more text than is read" in refusal(gguf([("k", "STRING", half), ("l", "STRING", half)])).message
    assert len(read(gguf([("k", "STRING", half), ("l", "UINT8", 1)])).metadata) == 2


@pytest.mark.parametrize("rank", [5, 6, 2**31, 2**32 - 1])
def test_more_than_four_dimensions_are_refused(gguf: Build, rank: int) -> None:
    assert f"{rank} dimensions" in refusal(gguf(tensors=[("t", [1] * 6, 0, 0)], rank=rank, data=bytes(4))).message


@pytest.mark.parametrize(
    "shape",
    [
        [2**63],
        [2**64 - 1],
        [2**63, 0],
        [0, 2**64 - 1],
        [2**32, 2**32],
        # Their product is 1 or 4 modulo 2^64: CVE-2026-33298, llama.cpp #27203.
        [2**64 - 1, 2**64 - 1],
        [2**63 - 1, 2],
        [2**33, 2**33, 2**33, 2**33],
        [2**62, 4, 2**62, 4],
        [1431655765, 3, 4294967297, 1],
    ],
)
def test_shapes_whose_product_overflows_are_refused(gguf: Build, shape: list[int]) -> None:
    error = refusal(gguf(tensors=[("t", shape, 0, 0)], data=bytes(64)))
    assert "impossible shape" in error.message or "ends at byte" in error.message


def test_sizes_whose_sum_overflows_are_refused(gguf: Build) -> None:
    """CVE-2025-53630, bypassed in CVE-2026-27940: the sum of padded sizes wrapped."""
    half = [2**60 + 8]
    offsets = [0, 2**62 + 32, 2**63 + 64, 2**64 - 64]
    for kind in (0, 27, 28):
        tensors = [(f"t{number}", half, kind, offset) for number, offset in enumerate(offsets)]
        assert "ends at byte" in refusal(gguf(tensors=tensors, data=bytes(256))).message


@pytest.mark.parametrize("offset", [1, 31, 33, 2**64 - 1])
def test_an_unaligned_tensor_is_refused(gguf: Build, offset: int) -> None:
    assert "no multiple of 32" in refusal(gguf(tensors=[("t", [1], 0, offset)], data=bytes(256))).message


@pytest.mark.parametrize("offset", [256, 2**32, 2**63, 2**64 - 32])
def test_a_tensor_beyond_the_file_is_refused(gguf: Build, offset: int) -> None:
    """CVE-2026-7482: a declared size beyond the file read foreign memory."""
    refusal(gguf(tensors=[("t", [1], 0, offset)], data=bytes(256)))
    assert "ends at byte" in refusal(gguf(tensors=[("t", [65], 0, 0)], data=bytes(256))).message


def test_overlapping_tensors_are_refused(gguf: Build) -> None:
    for offsets in ([0, 0], [0, 32], [32, 0]):
        tensors = [(f"t{number}", [16], 0, offset) for number, offset in enumerate(offsets)]
        assert "overlap" in refusal(gguf(tensors=tensors, data=bytes(256))).message


def test_tensors_may_lie_in_any_order_and_be_empty(gguf: Build) -> None:
    tensors = [("b", [8], 0, 32), ("none", [0, 7], 0, 32), ("a", [8], 0, 0)]
    assert [tensor.size for tensor in read(gguf(tensors=tensors, data=bytes(64))).tensors] == [32, 0, 32]


@pytest.mark.parametrize(
    ("kind", "told"), [(43, "unknown type 43"), (2**31, "unknown"), (4, "removed type Q4_2"), (31, "Q4_0_4_4")]
)
def test_unknown_and_removed_types_of_tensors_are_refused(gguf: Build, kind: int, told: str) -> None:
    assert told in refusal(gguf(tensors=[("t", [256], kind, 0)], data=bytes(1024))).message


def test_messages_carry_no_control_characters(gguf: Build) -> None:
    error = refusal(gguf([("\x1b[2Jkey\r\n" * 50, 77, b"")]))
    assert error.message.isprintable()
    assert len(error.message) < 300


def test_a_corpus_of_damaged_headers_raises_nothing_but_its_own_error(small_gguf: bytes, mutated: Mutated) -> None:
    accepted = 0
    start = time.process_time()
    for data in mutated(small_gguf, len(small_gguf) - 480, 8000, 20_242):
        header = verdict(data)
        if header:
            accepted += 1
            assert all(tensor.offset + tensor.size <= len(data) for tensor in header.tensors)
    assert 0 < accepted < 4000
    assert time.process_time() - start < 60


def test_a_corpus_of_damaged_big_endian_headers_too(gguf: Build, mutated: Mutated) -> None:
    whole = gguf(
        [("k", "STRING", "v"), ("general.alignment", "UINT32", 64), ("l", "ARRAY", ("STRING", ["a", "bc"]))],
        [("t", [32, 2], 8, 0), ("u", [3], 0, 128)],
        order=">",
        version=2,
        alignment=64,
        data=bytes(140),
    )
    read(whole)
    for data in mutated(whole, len(whole) - 140, 2000, 7):
        verdict(data)


@given(st.binary(max_size=300))
def test_any_bytes_after_the_magic_raise_nothing_but_its_own_error(tail: bytes) -> None:
    for head in (
        b"",
        b"GGUF",
        b"GGUF\x03\0\0\0" + struct.pack("<QQ", 1, 1),
        b"GGUF\0\0\0\x03" + struct.pack(">QQ", 0, 2),
    ):
        verdict(head + tail)


def test_an_endless_vocabulary_is_bounded(gguf: Build) -> None:
    header = gguf([("k", 9, struct.pack("<IQ", 8, 2**36))], n_tensors=0)
    bounded(lambda: read_header(HollowRanges(header, 2**40)))
    bounded(lambda: read_header(HollowRanges(gguf([("k", 9, struct.pack("<IQ", 8, 2**20))]), 2**40)))
    most = gguf([("k", 9, struct.pack("<IQ", 8, (64 * MIB - 100) // 8))])
    start = time.process_time()
    assert read_header(HollowRanges(most, 2**40)).data_offset <= 64 * MIB
    assert time.process_time() - start < 4


def test_a_header_beyond_the_limit_is_refused(gguf: Build) -> None:
    header = gguf([("k", 9, struct.pack("<IQ", 0, 64 * MIB)), ("l", "UINT8", 1)])
    with pytest.raises(FormatError, match="longer than 67108864 bytes"):
        read_header(HollowRanges(header, 2**33))


def test_the_most_keys_and_tensors_are_bounded(gguf: Build) -> None:
    keys = [(f"k{number}", "UINT64", number + 2**60) for number in range(16_384)]
    tensors = [(f"{number:0128d}", [1, 2**33, 1, 0], 0, 0) for number in range(32_768)]
    data = gguf(keys, tensors)
    bounded(lambda: read(data))
    assert len(read(data).tensors) == 32_768


def test_the_most_text_is_bounded(gguf: Build) -> None:
    # One character beyond the basic plane makes four bytes of each.
    text = "\U0001f6a2" + "x" * (2 * MIB - 4)
    arrays = [(f"a{number}", "ARRAY", ("UINT8", [0] * 4000)) for number in range(2000)]
    data = gguf([*((f"s{number}", "STRING", text) for number in range(3)), *arrays])
    bounded(lambda: read(data))
    assert len(read(data).metadata) == 2003
