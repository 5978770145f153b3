from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from lading.errors import FormatError
from lading.formats.safetensors_index import MAX_INDEX, read_index
from lading.ranges import BytesRanges

NAME = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def read(index: Any, present: tuple[str, ...] = SHARDS) -> tuple[str, ...]:
    data = index if isinstance(index, bytes) else (index if isinstance(index, str) else json.dumps(index)).encode()
    return read_index(BytesRanges(data, NAME), present)


def refusal(index: Any, present: tuple[str, ...] = SHARDS) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(index, present)
    assert NAME in caught.value.message
    assert caught.value.hint
    return caught.value


def test_the_files_of_the_model_are_named_once_and_sorted() -> None:
    weights = {"b": SHARDS[1], "a": SHARDS[0], "c": SHARDS[1]}
    metadata = {"total_size": 123, "total_parameters": 1.5, "nested": {"a": [1, [2, {"b": None}]]}}
    assert read({"metadata": metadata, "weight_map": weights}) == SHARDS
    assert read({"weight_map": weights, "metadata": {}, "more": []}, (*SHARDS, "config.json")) == SHARDS
    assert read(json.dumps({"weight_map": weights}, indent=2) + "\n") == SHARDS


def test_missing_files_are_named() -> None:
    error = refusal({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}, (SHARDS[0],))
    assert error.message == f"{NAME} names 2 files, of which '{SHARDS[1]}' is missing"
    many = {"weight_map": {str(number): f"{number}.safetensors" for number in range(9)}}
    assert "'4.safetensors' and 4 more are missing" in refusal(many).message


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/b.safetensors",
        "a\\b.safetensors",
        "x\0.safetensors",
        "x\n.safetensors",
        "x\x1b[2J",
        "x\u202e.safetensors",
        "x" * 256,
        "ü" * 128,
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    error = refusal({"weight_map": {"t": name}}, (name,))
    assert "not the plain name of a file beside it" in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize(
    "index",
    [
        "{}",
        '{"metadata":{}}',
        '{"weight_map":{}}',
        '{"weight_map":null}',
        '{"weight_map":["a"]}',
        '{"weight_map":{"a":1}}',
        '{"weight_map":{"a":"x"},"weight_map":{"b":"y"}}',
        '{"weight_map":{"a":"x"}',
        '{"weight_map":{"a":"x"}}x',
        '{"metadata":' + "[" * 100_000,
        '{"metadata":[1,],"weight_map":{"a":"x"}}',
        b'{"weight_map":{"a":"\xff"}}',
    ],
)
def test_what_is_no_index_is_refused(index: str | bytes) -> None:
    refusal(index, ("x", "y"))


@pytest.mark.parametrize(
    ("data", "hint"),
    [(b"", "empty"), (b"<html>", "web page"), (b"version https://git-lfs.github.com", "LFS"), (b"[]", "check")],
)
def test_other_files_are_told_apart(data: bytes, hint: str) -> None:
    assert hint in refusal(data).hint


def test_an_index_cut_at_any_byte_is_refused() -> None:
    data = json.dumps({"metadata": {"total_size": 1}, "weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()
    for length in range(len(data)):
        refusal(data[:length])


def test_an_absurd_size_is_refused_unread() -> None:
    reader = BytesRanges(b"{", NAME)
    reader.size = MAX_INDEX + 1
    with pytest.raises(FormatError, match="the most read of an index"):
        read_index(reader, ())


def test_an_index_of_very_many_tensors_is_bounded() -> None:
    text = (
        '{"weight_map":{'
        + ",".join(f'"{number:070d}":"{number % 100}.safetensors"' for number in range(100_000))
        + "}}"
    )
    tracemalloc.start()
    try:
        assert len(read(text, tuple(f"{number}.safetensors" for number in range(100)))) == 100
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * 1024 * 1024
    many = '{"weight_map":{' + ",".join(f'"{number}":"{number}.s"' for number in range(16_385)) + "}}"
    assert "16384 files" in refusal(many).message
