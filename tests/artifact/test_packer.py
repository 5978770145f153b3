"""GGUF Packer's part of a config: headers that are taken out of it again, and what is refused in a stranger's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from made_weights import gguf

from lading.artifact.packer import MAX_TEXT, PackedFile, header_of, packed_file
from lading.artifact.packer_labels import shown_count
from lading.errors import FormatError
from lading.formats.gguf import GgufHeader, read_array, read_header
from lading.ranges import BytesRanges


def header(said: dict[str, Any], order: str = "<") -> GgufHeader:
    data = gguf({"general.architecture": "llama", **said}, [("a", 8), ("b.c", 24)], order=order)
    return read_header(BytesRanges(data, "m.gguf"))


def again(first: GgufHeader) -> GgufHeader:
    raw = msgspec.json.encode(packed_file([first], "m.gguf", 1))
    found = header_of(msgspec.json.decode(raw, type=PackedFile))
    assert found is not None
    return found


@pytest.mark.parametrize("order", ["<", ">"])
def test_short_arrays_are_kept_with_their_items(order: str) -> None:
    said = {"llama.layers": [1, 2, 3], "general.tags": ["a", "ä", ""], "llama.on": True, "llama.scale": 0.5}
    found = again(header(said, order))
    nowhere = BytesRanges(b"", "nowhere")
    assert read_array(nowhere, found, "llama.layers") == [1, 2, 3]
    assert read_array(nowhere, found, "general.tags") == ["a", "ä", ""]
    assert (found.metadata["llama.on"], found.metadata["llama.scale"]) == (True, 0.5)


def test_of_long_arrays_a_tokenizers_length_is_known_and_others_are_not_told() -> None:
    long = list(range(5000))
    found = again(header({"tokenizer.ggml.token_type": long, "llama.some": long}))
    assert found.metadata["tokenizer.ggml.token_type"].length == 5000  # type: ignore[union-attr]
    assert "llama.some" not in found.metadata


def test_a_text_out_of_all_proportion_is_left_out_and_counted() -> None:
    first = header({"general.description": "x" * (MAX_TEXT + 1)})
    entry = packed_file([first], "m.gguf", 1)
    assert entry.gguf is not None
    assert entry.gguf.header.metadata_kv_count == 2
    assert [one.key for one in entry.gguf.header.metadata_kv] == ["general.architecture"]


def test_what_is_no_number_in_json_is_none_again() -> None:
    found = again(header({"llama.scale": float("inf")}))
    assert str(found.metadata["llama.scale"]) == "nan"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ({"type": 99, "len": 1, "array": [1]}, "the impossible array 'x'"),
        ({"type": 9, "len": 1, "array": [1]}, "the impossible array 'x'"),
        ({"type": 4, "len": 2, "array": [1]}, "the impossible array 'x'"),
        ({"type": 4, "len": -1}, "the impossible array 'x'"),
        ({"type": 4, "len": 1, "array": [-1]}, "an item in the array 'x'"),
        ({"type": 4, "len": 1, "array": ["one"]}, "an item in the array 'x'"),
        ({"type": 4, "len": 1, "array": [1e99]}, "an item in the array 'x'"),
        ({"type": 0, "len": 1, "array": [256]}, "an item in the array 'x'"),
    ],
)
def test_a_strangers_array_that_cannot_be_one_is_refused(array: dict[str, Any], message: str) -> None:
    said = {"magic": 1, "version": 3, "tensorCount": 0, "metadataKVCount": 1}
    tree = {"header": {**said, "metadataKV": [{"key": "x", "valueType": 9, "value": array}]}, "tensorInfos": []}
    with pytest.raises(FormatError, match=message):
        header_of(msgspec.convert({"GGUF": tree}, PackedFile))


@pytest.mark.parametrize("wrong", [{"type": 99}, {"dimensions": [-1]}])
def test_a_strangers_tensor_that_cannot_be_one_is_refused(wrong: dict[str, Any]) -> None:
    tensor = {"name": "t", "nDimensions": 1, "dimensions": [1], "type": 0, "offset": 0} | wrong
    said = {"magic": 1, "version": 3, "tensorCount": 1, "metadataKVCount": 0, "metadataKV": []}
    with pytest.raises(FormatError, match="the impossible tensor 't'"):
        header_of(msgspec.convert({"GGUF": {"header": said, "tensorInfos": [tensor]}}, PackedFile))


@pytest.mark.parametrize(
    ("number", "shown"),
    [(812, "812"), (1000, "1 K"), (494_032_768, "494.03 M"), (7_000_000_000, "7 B"), (1_500_000_000_000, "1.50 T")],
)
def test_counts_are_shown_as_gguf_packer_shows_them(number: int, shown: str) -> None:
    assert shown_count(number) == shown
