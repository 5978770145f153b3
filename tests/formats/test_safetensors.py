from __future__ import annotations

import json
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
from lading.formats.safetensors import MAX_HEADER, SafetensorsHeader, read_header
from lading.formats.tensor import Tensor
from lading.ranges import BytesRanges

Build = Callable[..., bytes]
Mutated = Callable[[bytes, int, int, int], Iterator[bytes]]
MIB = 1024 * 1024
ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


class CountedRanges(BytesRanges):
    """Remembers how much was read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "counted.safetensors")
        self.reads: list[int] = []

    def read_at(self, offset: int, length: int, /) -> bytes:
        self.reads.append(length)
        return super().read_at(offset, length)


def read(data: bytes) -> SafetensorsHeader:
    return read_header(BytesRanges(data, "model.safetensors"))


def verdict(data: bytes) -> SafetensorsHeader | None:
    """Read what may be a model: its header, or None where it was refused with a hint; no other error is let through."""
    try:
        return read(data)
    except FormatError as error:
        refused = error
    assert "model.safetensors" in refused.message
    assert refused.hint
    return None


def refusal(data: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        read(data)
    assert "model.safetensors" in caught.value.message
    assert caught.value.hint
    return caught.value.message


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_metadata_and_tensors_are_read(small_safetensors: bytes) -> None:
    header = read(small_safetensors)
    assert header.metadata == {"format": "pt", "note": 'a "quoted" } brace'}
    start = len(small_safetensors) - 48
    assert header.tensors == (
        Tensor("a", (2, 3), "F32", start, 24),
        Tensor("b.weight", (10,), "BF16", start + 24, 20),
        Tensor("c", (), "I32", start + 44, 4),
    )
    assert (header.data_offset, header.file_size) == (start, len(small_safetensors))
    assert header.parameters == 17
    assert header.dtypes == {"BF16": 10, "F32": 6, "I32": 1}
    assert header.dtype == "BF16"


def test_a_file_may_hold_no_tensors(safetensors: Build) -> None:
    for text in ("{}", "{}  ", '{"__metadata__":{}}', "{ }\n"):
        header = read(safetensors(text))
        assert (header.tensors, header.dtype, header.parameters) == ((), None, 0)


def test_members_and_tensors_may_come_in_any_order(safetensors: Build) -> None:
    text = '{"b" : {"data_offsets":[ 8 , 12 ],"shape":[ ],\n"dtype":"U32"},\t"a":{"shape":[2],"data_offsets":[0,8],"dtype":"F32"}}'
    assert [(t.name, t.size) for t in read(safetensors(text, bytes(12))).tensors] == [("b", 4), ("a", 8)]


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("BOOL", [3], 3),
        ("U8", [3], 3),
        ("I8", [3], 3),
        ("F8_E5M2", [3], 3),
        ("F8_E4M3", [3], 3),
        ("F8_E8M0", [3], 3),
        ("F8_E4M3FNUZ", [3], 3),
        ("F8_E5M2FNUZ", [3], 3),
        ("F4", [2, 3], 3),
        ("F6_E2M3", [4], 3),
        ("F6_E3M2", [8], 6),
        ("I16", [3], 6),
        ("U16", [3], 6),
        ("F16", [3], 6),
        ("BF16", [3], 6),
        ("I32", [3], 12),
        ("U32", [3], 12),
        ("F32", [3], 12),
        ("I64", [3], 24),
        ("U64", [3], 24),
        ("F64", [3], 24),
        ("C64", [3], 24),
        ("F32", [0, 5], 0),
        ("F32", [], 4),
    ],
)
def test_each_dtype_has_its_size(safetensors: Build, dtype: str, shape: list[int], size: int) -> None:
    assert read(safetensors({"t": entry(dtype, shape, 0, size)}, bytes(size))).tensors[0].size == size
    assert "gives tensor 't'" in refusal(safetensors({"t": entry(dtype, shape, 0, size + 1)}, bytes(size + 1)))


def test_a_file_cut_at_any_byte_is_refused(small_safetensors: bytes) -> None:
    for length in range(len(small_safetensors)):
        refusal(small_safetensors[:length])
    assert "the file at" in refusal(small_safetensors + b"\0")


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"", "download"),
        (b"\x10\0", "cut short"),
        (b"<!DOCTYPE html><html>Sign in</html>" * 9, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "LFS"),
        (b"GGUF\x03\0\0\0" + bytes(60), "GGUF"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b'{"error":"not found"}', "JSON"),
        (bytes(64), "downloaded"),
    ],
)
def test_what_is_not_safetensors_is_told_apart(data: bytes, hint: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(data)
    assert hint in caught.value.hint


@pytest.mark.parametrize("lead", [" ", "\n", "[", '"', "\0"])
def test_a_header_begins_with_its_brace(safetensors: Build, lead: str) -> None:
    """Leading white space would let a file be of another format too."""
    assert "not a safetensors file" in refusal(safetensors(lead + "{}"))


@pytest.mark.parametrize("length", [MAX_HEADER + 1, 2**40, 2**63, 2**64 - 1])
def test_absurd_lengths_of_the_header_are_refused(safetensors: Build, length: int) -> None:
    """The header length bomb."""
    assert "ends within its header" in refusal(safetensors("{}", length=length))


def test_a_header_beyond_the_limit_is_refused_unread() -> None:
    class Long(BytesRanges):
        def read_at(self, offset: int, length: int, /) -> bytes:
            assert offset + length <= 64
            return (struct.pack("<Q", MAX_HEADER + 1) + b"{" + bytes(64))[offset : offset + length]

    reader = Long(b"", "model.safetensors")
    reader.size = 2**40
    with pytest.raises(FormatError, match="100000000 are the most read"):
        read_header(reader)


@pytest.mark.parametrize(
    "text",
    [
        '{"t":%s,"t":%s}',
        '{"t":%s,"\\u0074":%s}',
        '{"__metadata__":{},"__metadata__":{},"t":%s}',
        '{"__metadata__":{"a":"1","a":"2"},"t":%s}',
    ],
)
def test_duplicate_keys_are_refused(safetensors: Build, text: str) -> None:
    text = text.replace("%s", json.dumps(ONE))
    assert "twice" in refusal(safetensors(text, bytes(8)))


@pytest.mark.parametrize(
    "text",
    [
        '{"t":',
        '{"t":{}}',
        '{"t":[]}',
        '{"t":null}',
        '{"t":{"dtype":"F32","shape":[2]}}',
        '{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}}',
        '{"t":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        '{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],}}',
        '{"t":{"dtype":"F32","shape":[2,],"data_offsets":[0,8]}}',
        '{"t":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}',
        '{"t":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}',
        '{"t":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}',
        '{"t":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}}',
        '{"t":{"dtype":"F32","shape":[2],"data_offsets":[0]}}',
        '{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}',
        '{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,1e1]}}',
        '{"t":{"dtype":1,"shape":[2],"data_offsets":[0,8]}}',
        '{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}',
        '{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},}',
        '{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}{}',
        '{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}\0',
        '{"__metadata__":{"a":1}}',
        '{"__metadata__":{"a":{"b":"c"}}}',
        '{"__metadata__":[]}',
        "{1:2}",
        '{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    ],
)
def test_what_breaks_the_grammar_is_refused(safetensors: Build, text: str) -> None:
    refusal(safetensors(text, bytes(8)))


def test_text_that_is_not_utf8_is_refused(safetensors: Build) -> None:
    assert "not UTF-8" in refusal(safetensors(b'{"__metadata__":{"a":"\xff"}}'))


@pytest.mark.parametrize("dtype", ["f32", "F128", "STRING", "BF16 ", "F32\\u0020"])
def test_unknown_dtypes_are_refused(safetensors: Build, dtype: str) -> None:
    refusal(safetensors(f'{{"t":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,8]}}}}', bytes(8)))


@pytest.mark.parametrize(
    "shape",
    [[2**63], [2**64 - 1, 2**64 - 1], [2**32, 2**32], [2**63 - 1, 2], [10**19, 0], [0, 2**64], [2**62, 4, 2**62, 4]],
)
def test_shapes_whose_product_overflows_are_refused(safetensors: Build, shape: list[int]) -> None:
    assert "impossible shape" in refusal(safetensors({"t": entry("F32", shape, 0, 0)}))


def test_more_dimensions_than_weights_have_are_refused(safetensors: Build) -> None:
    assert read(safetensors({"t": entry("U8", [1] * 8, 0, 1)}, bytes(1))).parameters == 1
    assert "9 dimensions" in refusal(safetensors({"t": entry("U8", [1] * 9, 0, 1)}, bytes(1)))


@pytest.mark.parametrize(
    ("places", "size", "told"),
    [
        ([(0, 8), (8, 16)], 24, "the file at"),
        ([(0, 8), (8, 16)], 15, "the file at"),
        ([(0, 8), (0, 8)], 8, "overlaps"),
        ([(0, 8), (4, 12)], 12, "overlaps"),
        ([(0, 8), (9, 17)], 17, "hole of 1 bytes"),
        ([(8, 16), (16, 24)], 24, "hole of 8 bytes"),
        ([(0, 8), (16, 8)], 16, "gives tensor"),
        ([(2**64, 2**64 + 8)], 8, "hole"),
    ],
)
def test_holes_and_overlaps_are_refused(
    safetensors: Build, places: list[tuple[int, int]], size: int, told: str
) -> None:
    header = {f"t{number}": entry("F32", [2], *place) for number, place in enumerate(places)}
    assert told in refusal(safetensors(header, bytes(size)))


def test_a_corpus_of_damaged_headers_raises_nothing_but_its_own_error(
    small_safetensors: bytes, mutated: Mutated
) -> None:
    accepted = 0
    start = time.process_time()
    for number, damaged in enumerate(mutated(small_safetensors, len(small_safetensors) - 48, 8000, 4711)):
        # With every second one the length is set right again, so that the damage is met in the JSON.
        length = struct.pack("<Q", max(0, len(damaged) - 56))
        data = length + damaged[8:] if number % 2 else damaged
        header = verdict(data)
        if header:
            accepted += 1
            assert header.data_offset + sum(tensor.size for tensor in header.tensors) == len(data)
    assert 0 < accepted < 4000
    assert time.process_time() - start < 60


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_raise_nothing_but_the_readers_error(tail: bytes, fits: bool) -> None:  # noqa: FBT001 - drawn
    verdict(tail)
    verdict(struct.pack("<Q", len(tail) + fits) + b"{" + tail)


@given(
    st.dictionaries(
        st.text(max_size=20).filter(lambda name: name != "__metadata__"),
        st.lists(st.integers(0, 5), max_size=4),
        max_size=9,
    ),
    st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=5),
)
def test_what_was_written_is_read(safetensors: Build, shapes: dict[str, list[int]], metadata: dict[str, str]) -> None:
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, shape in shapes.items():
        size = Tensor(name, tuple(shape), "BF16", 0, 0).elements * 2
        header[name] = entry("BF16", shape, end, end + size)
        end += size
    for text in (json.dumps(header), json.dumps(header, indent=1, ensure_ascii=False)):
        found = read(safetensors(text, bytes(end)))
        assert found.metadata == metadata
        assert {tensor.name: list(tensor.shape) for tensor in found.tensors} == shapes


def bounded(data: bytes) -> None:
    """Read a large header, refused or not, in bounded time (loose, for a loaded machine); then again within 64 MiB."""
    start = time.process_time()
    with suppress(FormatError):
        read(data)
    assert time.process_time() - start < 5
    tracemalloc.start()
    try:
        with suppress(FormatError):
            read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * MIB


@pytest.mark.parametrize(
    "text",
    [
        "{" + " " * (20 * MIB),
        '{"' + "x" * (20 * MIB),
        '{"t":' * (2 * MIB),
        '{"t":' + "[" * (10 * MIB),
        '{"t":{"dtype":"F32","shape":[' + "1," * (10 * MIB),
        '{"t":{"dtype":"F32","shape":[' + "9" * (10 * MIB),
        '{"t":{"dtype"' + " " * (10 * MIB),
        '{"__metadata__":{"k":"' + "\U0001f6a2" + "x" * (20 * MIB),
        '{"__metadata__":{"k":"' + "\\u0041" * (3 * MIB),
        '{"__metadata__":{' + ",".join(f'"{number}":""' for number in range(300_000)) + "}}",
    ],
    ids=["space", "name", "depth", "brackets", "shape", "digits", "gap", "wide", "escapes", "keys"],
)
def test_bombs_are_bounded(safetensors: Build, text: str) -> None:
    data = safetensors(text)
    bounded(data)
    refusal(data)


def test_the_most_tensors_are_bounded(safetensors: Build) -> None:
    def many(count: int) -> bytes:
        return safetensors(
            "{"
            + ",".join(
                f'"{number:060d}":{{"dtype":"F32","shape":[0,9999999],"data_offsets":[0,0]}}' for number in range(count)
            )
            + "}"
        )

    bounded(many(40_000))
    assert len(read(many(40_000)).tensors) == 40_000
    assert "40000 tensors" in refusal(many(40_001))


def test_the_longest_names_are_bounded(safetensors: Build) -> None:
    names = ("\U0001f6a2" * 4090 + str(number) for number in range(4000))
    text = "{" + ",".join(f'"{name}":{json.dumps(entry("U8", [0], 0, 0))}' for name in names) + "}"
    bounded(safetensors(text))
    refusal(safetensors(text))


def test_a_header_takes_few_requests_and_no_tensor_data(safetensors: Build) -> None:
    small = CountedRanges(safetensors({"t": entry("U8", [MIB], 0, MIB)}, bytes(MIB)))
    header = read_header(small)
    assert sum(small.reads) <= header.data_offset + 64
    assert len(small.reads) == 2
    names = {f"model.layers.{number}.self_attn.q_proj.weight": entry("U8", [0], 0, 0) for number in range(20_000)}
    large = CountedRanges(safetensors(names))
    assert len(read_header(large).tensors) == 20_000
    assert sum(large.reads) <= large.size + 64
    assert len(large.reads) <= 12
