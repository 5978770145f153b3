"""What reading a remote header costs: requests, and bytes beyond the header."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from made_weights import gguf

from lading.errors import FormatError
from lading.fit.ahead import Ahead
from lading.formats.gguf import read_header
from lading.ranges import BytesRanges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.fit.ahead import Vocabulary
    from lading.formats.gguf import GgufHeader

MIB = 1024**2
TENSORS = tuple((f"blk.{number}.weight", 64) for number in range(300))


class Far(BytesRanges):
    """A remote file, which keeps what it was asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "far.gguf")
        self.asked: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int, /) -> bytes:
        data = super().read_at(offset, length)
        self.asked.append((offset, len(data)))
        return data


def words(count: int) -> list[str]:
    """Tokens as real vocabularies have them: the later the longer."""
    chance = random.Random(7)
    return ["x" * max(1, int(chance.gauss(3 + 4 * number / count, 2))) for number in range(count)]


@pytest.fixture(scope="module")
def vocabulary() -> dict[str, Any]:
    tokens = words(120_000)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * len(tokens),
        "tokenizer.ggml.merges": [f"{token} y" for token in tokens[300:]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.chat_template": "{{ message }}" * 300,
    }


def model(said: Mapping[str, Any], **more: Any) -> bytes:
    return gguf({"general.architecture": "llama", **more, **said}, TENSORS) + bytes(2 * MIB)


def read(data: bytes, like: Vocabulary | None = None) -> tuple[GgufHeader, Far, Vocabulary | None]:
    far = Far(data)
    reader = Ahead(far, like)
    header = read_header(reader)
    assert header == read_header(BytesRanges(data, "far.gguf"))
    return header, far, reader.vocabulary(header)


def test_a_long_header_takes_three_requests_and_a_mebibyte_more_than_it_has(vocabulary: dict[str, Any]) -> None:
    header, far, _ = read(model(vocabulary))
    assert header.data_offset > 3 * MIB
    assert len(far.asked) <= 3
    assert sum(count for _, count in far.asked) <= header.data_offset + MIB


def test_a_short_header_takes_one_request() -> None:
    _, far, shared = read(model({}))
    assert (len(far.asked), shared) == (1, None)


def test_another_quantization_is_read_around_the_vocabulary(vocabulary: dict[str, Any]) -> None:
    _, _, shared = read(model(vocabulary))
    header, far, _ = read(model(vocabulary, **{"general.file_type": 7, "general.name": "another"}), shared)
    assert header.file_type == "Q8_0"
    assert len(far.asked) == 2
    assert sum(count for _, count in far.asked) < MIB


def test_another_vocabulary_is_read_for_itself(vocabulary: dict[str, Any]) -> None:
    _, _, shared = read(model(vocabulary))
    tokens = vocabulary["tokenizer.ggml.tokens"]
    for other in (
        vocabulary | {"tokenizer.ggml.tokens": [f"{token}z" for token in tokens]},
        vocabulary
        | {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens[:-1], "tokenizer.ggml.merges": []},
        {"general.tags": ["x" * 70_000]},
    ):
        header, far, _ = read(model(other), shared)
        assert sum(count for _, count in far.asked) <= header.data_offset + MIB


def test_a_file_that_ends_within_the_vocabulary_expected_is_refused_as_ever(vocabulary: dict[str, Any]) -> None:
    _, _, shared = read(model(vocabulary))
    cut = model(vocabulary)[: 2 * MIB]
    with pytest.raises(FormatError, match="ends within its header"):
        read_header(Ahead(Far(cut), shared))


def test_a_header_that_only_promises_strings_is_not_read_far_ahead() -> None:
    liar = gguf({"tokenizer.ggml.tokens": ["x" * 200] * 5000}) + bytes(64 * MIB)
    # The count says 8 million, and the rest of the file is strings without a character.
    place = liar.index(b"tokens") + len(b"tokens") + 8
    liar = liar[:place] + (8_000_000).to_bytes(8, "little") + liar[place + 8 :]
    far = Far(liar)
    with pytest.raises(FormatError, match=r"far\.gguf"):
        read_header(Ahead(far))
    assert max(count for _, count in far.asked) <= 16 * MIB
