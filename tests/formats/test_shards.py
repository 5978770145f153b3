from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.errors import FormatError
from lading.formats.gguf import GgufHeader, read_header
from lading.formats.shards import Shard, check_safetensors, check_split, shard_of, shard_sets
from lading.ranges import BytesRanges

Build = Callable[..., bytes]


def test_a_name_tells_stem_number_and_count() -> None:
    assert shard_of("model-00002-of-00003.gguf") == Shard("model", 2, 3)
    assert shard_of("Q8_0/a-b-00001-of-00001.gguf") == Shard("Q8_0/a-b", 1, 1)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "model.gguf",
        "-00001-of-00003.gguf",
        "model-0001-of-0003.gguf",
        "model-00001-of-00003.safetensors",
        "model-00001-of-00003.GGUF",
        "model_00001-of-00003.gguf",
        "model-00001_of-00003.gguf",
        "model-0000x-of-00003.gguf",
        "model-0000\u0661-of-0000\u0663.gguf",
        "model-+0001-of-00003.gguf",
        "model-00001-of-00003.gguf.part",
    ],
)
def test_other_names_are_no_shards(name: str) -> None:
    assert shard_of(name) is None


@pytest.mark.parametrize("name", ["m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-00000-of-00000.gguf"])
def test_numbers_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(FormatError, match="is named as part"):
        shard_of(name)


@given(stem=st.text(min_size=1, max_size=20), count=st.integers(1, 99_999), data=st.data())
def test_a_shard_has_the_name_it_was_read_from(stem: str, count: int, data: st.DataObject) -> None:
    shard = Shard(stem, data.draw(st.integers(1, count)), count)
    assert shard_of(shard.name) == shard


def test_sets_are_complete_and_ordered() -> None:
    names = ["b-00002-of-00002.gguf", "whole.gguf", "a-00001-of-00001.gguf", "b-00001-of-00002.gguf", "mmproj.gguf"]
    assert shard_sets(names) == (
        ("b-00001-of-00002.gguf", "b-00002-of-00002.gguf"),
        ("whole.gguf",),
        ("a-00001-of-00001.gguf",),
        ("mmproj.gguf",),
    )
    assert shard_sets([]) == ()


def test_missing_parts_are_named() -> None:
    with pytest.raises(FormatError) as one:
        shard_sets(["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"])
    assert one.value.message == "the model 'm' has 3 parts, of which 'm-00002-of-00003.gguf' is missing"
    with pytest.raises(FormatError) as many:
        shard_sets(["m-00004-of-99999.gguf"])
    assert "'m-00003-of-99999.gguf', 'm-00005-of-99999.gguf'" in many.value.message
    assert "and 99993 more are missing" in many.value.message
    with pytest.raises(FormatError):
        shard_sets(["m-00001-of-00002.gguf", "m-00002-of-00003.gguf"])


def test_a_missing_file_of_safetensors_is_named() -> None:
    check_safetensors(
        ["a/m-00002-of-00002.safetensors", "a/m-00001-of-00002.safetensors", "whole.safetensors", "x.gguf"]
    )
    for name in ("m-00002-of-00003.safetensors", "m-00003-of-00003.safetensors", "a/m-00001-of-00003.safetensors"):
        with pytest.raises(
            FormatError, match=r"has 3 files, of which '(a/)?m-0000[12]-of-00003.safetensors' is missing"
        ):
            check_safetensors([name, "m-00001-of-00003.safetensors", "a/m-00003-of-00003.safetensors"])


def header(gguf: Build, number: int, count: int, tensor: str, total: int = 2) -> GgufHeader:
    metadata = [
        ("split.no", "UINT16", number),
        ("split.count", "UINT16", count),
        ("split.tensors.count", "INT32", total),
    ]
    data = gguf(metadata if count else [], [(tensor, [1], 0, 0)], data=bytes(4))
    return read_header(BytesRanges(data, f"part {number + 1}"))


def test_parts_that_belong_together_are_accepted(gguf: Build) -> None:
    check_split([header(gguf, 0, 2, "a"), header(gguf, 1, 2, "b")])
    check_split([header(gguf, 0, 0, "a")])
    check_split([])


def test_parts_that_do_not_belong_together_are_refused(gguf: Build) -> None:
    first, second = header(gguf, 0, 2, "a"), header(gguf, 1, 2, "b")
    for wrong, told in (
        ([second, first], "part 2 is part 2 of 2, and stands as 1 of 2"),
        ([first], "stands as 1 of 1"),
        ([first, header(gguf, 1, 3, "b")], "part 2 of 3"),
        ([first, header(gguf, 0, 0, "b")], "does not say that it is part of a split model"),
        ([first, header(gguf, 1, 2, "a")], "which another part has too"),
        ([header(gguf, 0, 2, "a", 3), second], "have 2 of 3 tensors"),
    ):
        with pytest.raises(FormatError, match=told):
            check_split(wrong)
