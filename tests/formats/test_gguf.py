from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.errors import FormatError, LadingError, NotFoundError
from lading.formats.gguf import ArrayRef, GgufHeader, Scalar, Split, read_array, read_header
from lading.formats.gguf_types import FILE_TYPES, TENSOR_TYPES
from lading.ranges import BytesRanges

Build = Callable[..., bytes]
MIB = 1024 * 1024


class CountedRanges(BytesRanges):
    """Remembers what was read, as a remote blob's requests."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "counted.gguf")
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int, /) -> bytes:
        self.reads.append((offset, length))
        return super().read_at(offset, length)


def read(data: bytes) -> GgufHeader:
    return read_header(BytesRanges(data, "model.gguf"))


def refusal(data: bytes) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(data)
    assert "model.gguf" in caught.value.message
    assert caught.value.hint
    return caught.value


def test_every_type_of_value_is_decoded(small_gguf: bytes) -> None:
    header = read(small_gguf)
    values = {key: value for key, value in header.metadata.items() if not isinstance(value, ArrayRef)}
    assert values == {
        "general.architecture": "llama",
        "general.file_type": 15,
        "general.alignment": 32,
        "a.u8": 200,
        "a.i8": -5,
        "a.u16": 60_000,
        "a.i16": -30_000,
        "a.i32": -2_000_000_000,
        "a.f32": 0.5,
        "a.bool": True,
        "a.u64": 2**64 - 1,
        "a.i64": -(2**63),
        "a.f64": 1e300,
        "tokenizer.chat_template": "{{ messages }}",
    }
    assert (header.version, header.little_endian, header.name) == (3, True, "model.gguf")


def test_tensors_have_their_place_in_the_file(small_gguf: bytes) -> None:
    header = read(small_gguf)
    assert [(t.name, t.shape, t.type, t.offset - header.data_offset, t.size) for t in header.tensors] == [
        ("token_embd.weight", (4, 8), "F32", 0, 128),
        ("blk.0.q", (32, 9), "Q8_0", 128, 306),
        ("scale", (), "F32", 448, 4),
    ]
    assert header.data_offset == len(small_gguf) - 480
    assert header.file_size == len(small_gguf)


def test_facts_are_summed_over_the_tensors(small_gguf: bytes) -> None:
    header = read(small_gguf)
    assert header.parameters == 32 + 288 + 1
    assert header.data_size == 128 + 306 + 4
    assert header.bits_per_weight == pytest.approx(8 * 438 / 321)
    assert header.file_type == "Q4_K_M"
    assert header.split is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_and_byte_orders_read_the_same(gguf: Build, version: int, order: str) -> None:
    metadata = [("k", "INT32", -7), ("s", "STRING", "ü"), ("l", "ARRAY", ("UINT16", [1, 515])), ("f", "FLOAT64", 2.5)]
    data = gguf(metadata, [("t", [3, 5], 0, 0)], version=version, order=order, data=bytes(60))
    header = read(data)
    assert (header.version, header.little_endian) == (version, order == "<")
    assert [header.metadata[key] for key in ("k", "s", "f")] == [-7, "ü", 2.5]
    assert read_array(BytesRanges(data, "f"), header, "l") == [1, 515]
    assert header.tensors[0].shape == (3, 5)


@pytest.mark.parametrize(
    ("version", "told"), [(0, "version 0"), (1, "version 1"), (4, "version 4"), (2**32 - 1, "version")]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_other_versions_are_refused(gguf: Build, version: int, told: str, order: str) -> None:
    error = refusal(gguf(version=version, order=order))
    assert told in error.message
    assert "2 and 3 are read" in error.message
    assert ("convert" in error.hint) == (version == 1)


def test_a_file_without_tensors_is_a_vocabulary(gguf: Build) -> None:
    header = read(gguf([("tokenizer.ggml.tokens", "ARRAY", ("STRING", ["a", "b"]))]))
    assert header.tensors == ()
    assert (header.parameters, header.bits_per_weight) == (0, None)
    assert read(gguf()).metadata == {}


def test_arrays_are_decoded_on_demand(small_gguf: bytes) -> None:
    reader = BytesRanges(small_gguf, "f")
    header = read_header(reader)
    assert read_array(reader, header, "tokenizer.ggml.tokens") == ["<s>", "", "é", "x" * 300]
    assert read_array(reader, header, "tokenizer.ggml.tokens", limit=2) == ["<s>", ""]
    assert read_array(reader, header, "tokenizer.ggml.scores") == [0.0, -1.5]
    assert read_array(reader, header, "flags") == [True, False, True]
    assert read_array(reader, header, "flags", limit=0) == []
    for absent in ("no.such.key", "general.architecture"):
        with pytest.raises(NotFoundError, match=absent):
            read_array(reader, header, absent)


def test_a_small_array_needs_no_second_read_and_a_large_one_only_its_own_bytes(gguf: Build) -> None:
    large = [f"token {number}" for number in range(60_000)]
    metadata = [
        ("small", "ARRAY", ("INT32", [1, 2, 3])),
        ("tokens", "ARRAY", ("STRING", large)),
        ("ids", "ARRAY", ("UINT32", list(range(5000)))),
    ]
    reader = CountedRanges(gguf(metadata))
    header = read_header(reader)
    reader.reads.clear()
    assert read_array(reader, header, "small") == [1, 2, 3]
    assert reader.reads == []
    assert read_array(reader, header, "ids") == list(range(5000))
    assert read_array(reader, header, "tokens", limit=3) == large[:3]
    tokens = header.metadata["tokens"]
    assert isinstance(tokens, ArrayRef)
    assert all(offset >= tokens.offset for offset, _ in reader.reads)
    assert len(reader.reads) == 2
    assert read_array(reader, header, "tokens") == large


def test_an_array_too_long_to_decode_at_once_is_decoded_in_part(gguf: Build) -> None:
    data = gguf([("bytes", 9, (0).to_bytes(4, "little") + (2**20 + 1).to_bytes(8, "little") + bytes(2**20 + 1))])
    reader = BytesRanges(data, "model.gguf")
    header = read_header(reader)
    with pytest.raises(FormatError, match="1048577 elements"):
        read_array(reader, header, "bytes")
    assert read_array(reader, header, "bytes", limit=5) == [0] * 5


def test_an_array_is_not_read_from_a_file_that_shrank(gguf: Build) -> None:
    data = gguf([("ids", "ARRAY", ("UINT32", list(range(5000))))])
    header = read(data)
    with pytest.raises(FormatError, match="while it was read"):
        read_array(BytesRanges(data[:9000], "model.gguf"), header, "ids")


def test_text_that_is_not_utf8_is_replaced_in_values_and_refused_in_names(gguf: Build) -> None:
    assert read(gguf([("k", "STRING", b"a\xffb")])).metadata["k"] == "a\ufffdb"
    assert "not UTF-8" in refusal(gguf([(b"k\xff", "UINT8", 1)])).message
    assert "not UTF-8" in refusal(gguf(tensors=[(b"t\xff", [1], 0, 0)], data=bytes(4))).message


def test_a_file_type_without_a_name_is_none(gguf: Build) -> None:
    assert read(gguf([("general.file_type", "UINT32", 1024)])).file_type is None
    assert read(gguf([("general.file_type", "STRING", "Q8_0")])).file_type is None
    assert read(gguf()).file_type is None


def test_a_part_of_a_split_model_says_which(gguf: Build) -> None:
    metadata = [("split.no", "UINT16", 1), ("split.count", "UINT16", 3), ("split.tensors.count", "INT32", 9)]
    assert read(gguf(metadata)).split == Split(1, 3, 9)
    assert read(gguf(metadata[:2])).split == Split(1, 3, None)
    assert read(gguf([("split.no", "UINT16", 0), ("split.count", "UINT16", 1)])).split is None
    assert read(gguf([("split.no", "UINT16", 0), ("split.count", "UINT16", 0)])).split is None
    message = refusal(gguf([("split.no", "UINT16", 3), ("split.count", "UINT16", 3)])).message
    assert "part 3 (from 0) of 3" in message


def test_a_large_header_takes_few_requests_and_no_tensor_data(gguf: Build) -> None:
    tokens = [f"token number {number}" for number in range(150_000)]
    metadata = [
        ("tokens", "ARRAY", ("STRING", tokens)),
        ("types", "ARRAY", ("INT32", [1] * 150_000)),
        ("merges", "ARRAY", ("STRING", tokens)),
    ]
    weights = 8 * MIB
    reader = CountedRanges(gguf(metadata, [("t", [weights], 24, 0)], data=bytes(weights)))
    header = read_header(reader)
    assert header.data_offset > 8 * MIB
    assert len(reader.reads) <= 8
    assert sum(length for _, length in reader.reads) <= header.data_offset + MIB
    assert max(offset + length for offset, length in reader.reads) <= header.data_offset + MIB


def test_a_small_header_takes_one_request(small_gguf: bytes) -> None:
    reader = CountedRanges(small_gguf + bytes(MIB))
    read_header(reader)
    assert reader.reads == [(0, 256 * 1024 + 64)]


def test_a_long_array_of_numbers_is_passed_over_unread(gguf: Build) -> None:
    count = 4 * MIB
    body = (4).to_bytes(4, "little") + count.to_bytes(8, "little") + bytes(4 * count)
    reader = CountedRanges(gguf([("ids", 9, body), ("after", "STRING", "here")]))
    assert read_header(reader).metadata["after"] == "here"
    assert sum(length for _, length in reader.reads) < 2 * MIB


def test_a_string_across_windows_is_whole(gguf: Build) -> None:
    text = "".join(f"{number} " for number in range(150_000))
    assert read(gguf([("a", "STRING", text), ("b", "STRING", text), ("c", "UINT8", 3)])).metadata == {
        "a": text,
        "b": text,
        "c": 3,
    }


def test_a_reader_that_fails_is_not_hidden(gguf: Build) -> None:
    class Broken(BytesRanges):
        def read_at(self, offset: int, length: int, /) -> bytes:
            msg = f"no answer for {length} bytes from {offset}"
            raise LadingError(msg)

    with pytest.raises(LadingError, match="no answer"):
        read_header(Broken(gguf(), "f"))


@pytest.mark.parametrize("cut", [5, 200])
def test_a_reader_that_delivers_less_than_it_promised_is_noticed(small_gguf: bytes, cut: int) -> None:
    class Shrunk(BytesRanges):
        def read_at(self, offset: int, length: int, /) -> bytes:
            return super().read_at(offset, min(length, cut - offset))

    with pytest.raises(FormatError, match=f"ended at byte {cut} while it was read"):
        read_header(Shrunk(small_gguf, "f"))


@pytest.mark.parametrize("number", sorted(TENSOR_TYPES))
def test_the_size_of_each_type_is_its_blocks(gguf: Build, number: int) -> None:
    name, block, size = TENSOR_TYPES[number]
    header = read(gguf(tensors=[("t", [2 * block, 3], number, 0)], data=bytes(6 * size)))
    assert (header.tensors[0].type, header.tensors[0].size) == (name, 6 * size)
    assert "ends at byte" in refusal(gguf(tensors=[("t", [2 * block, 3], number, 0)], data=bytes(6 * size - 1))).message
    if block > 1:
        short = gguf(tensors=[("t", [block // 2, 4], number, 0)], data=bytes(6 * size))
        assert f"{name} needs multiples of {block}" in refusal(short).message


def test_the_tables_hold_what_ggml_publishes() -> None:
    bits = {name: 8 * size / block for name, block, size in TENSOR_TYPES.values()}
    published = {
        "Q4_K": 4.5,
        "Q6_K": 6.5625,
        "IQ2_XXS": 2.0625,
        "IQ1_S": 1.5625,
        "MXFP4": 4.25,
        "NVFP4": 4.5,
        "TQ1_0": 1.6875,
    }
    assert {name: bits[name] for name in published} == published
    assert (FILE_TYPES[1], FILE_TYPES[15], FILE_TYPES[19], FILE_TYPES[32]) == ("F16", "Q4_K_M", "IQ2_XXS", "BF16")
    assert len(set(FILE_TYPES.values())) == len(FILE_TYPES)
    assert len({name for name, _, _ in TENSOR_TYPES.values()}) == len(TENSOR_TYPES)


SCALARS = st.one_of(
    st.tuples(st.just("UINT64"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("INT32"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("FLOAT64"), st.floats(allow_nan=True)),
    st.tuples(st.just("BOOL"), st.booleans()),
    st.tuples(st.just("STRING"), st.text(max_size=50)),
)


@given(
    values=st.dictionaries(st.text(min_size=1, max_size=30).filter(lambda key: "." not in key), SCALARS, max_size=8),
    arrays=st.lists(st.text(max_size=20), max_size=20),
    order=st.sampled_from("<>"),
)
def test_what_was_written_is_read(
    gguf: Build, values: dict[str, tuple[str, Scalar]], arrays: list[str], order: str
) -> None:
    metadata = [(key, kind, value) for key, (kind, value) in values.items()]
    data = gguf([*metadata, ("an.array", "ARRAY", ("STRING", arrays))], order=order)
    header = read(data)
    for key, (_, value) in values.items():
        found = header.metadata[key]
        nan = isinstance(value, float) and isinstance(found, float) and math.isnan(value) and math.isnan(found)
        assert nan or found == value
    assert read_array(BytesRanges(data, "f"), header, "an.array") == arrays
