from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lading.digest import Digest
from lading.errors import FormatError
from lading.manifest import Descriptor
from lading.model import Model, ModelFacts, Part, Role, check_names, human_count, parse_count, role_of


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", Role.WEIGHTS),
        ("Qwen3-8B-Q4_K_M.GGUF", Role.WEIGHTS),
        ("UD-Q4_K_XL/model-00001-of-00003.gguf", Role.WEIGHTS),
        ("model.safetensors", Role.WEIGHTS),
        ("model-00001-of-00003.safetensors", Role.WEIGHTS),
        ("text_encoder/model.fp16.safetensors", Role.WEIGHTS),
        ("consolidated.safetensors", Role.WEIGHTS),
        ("license-to-chat.gguf", Role.WEIGHTS),
        ("Explorative-7B.gguf", Role.WEIGHTS),
        ("mmproj-model-f16.gguf", Role.PROJECTOR),
        ("F16-mmproj.gguf", Role.PROJECTOR),
        ("gemma-3-4b.mmproj-Q8_0.gguf", Role.PROJECTOR),
        ("MMPROJ_F16.gguf", Role.PROJECTOR),
        ("adapter_model.safetensors", Role.ADAPTER),
        ("story-lora-f16.gguf", Role.ADAPTER),
        ("Story-LoRA.gguf", Role.ADAPTER),
        ("chat_template.jinja", Role.TEMPLATE),
        ("chat_template.json", Role.TEMPLATE),
        ("templates/tool_use.jinja", Role.TEMPLATE),
        ("LICENSE", Role.LICENCE),
        ("LICENCE", Role.LICENCE),
        ("LICENSE.txt", Role.LICENCE),
        ("Notice", Role.LICENCE),
        ("COPYING", Role.LICENCE),
        ("licenses/LICENSE-APACHE", Role.LICENCE),
        ("tokenizer.json", Role.TOKENIZER),
        ("tokenizer.model", Role.TOKENIZER),
        ("tokenizer_config.json", Role.TOKENIZER),
        ("tokenizer.model.v3", Role.TOKENIZER),
        ("vocab.json", Role.TOKENIZER),
        ("vocab.txt", Role.TOKENIZER),
        ("merges.txt", Role.TOKENIZER),
        ("special_tokens_map.json", Role.TOKENIZER),
        ("added_tokens.json", Role.TOKENIZER),
        ("spiece.model", Role.TOKENIZER),
        ("sentencepiece.bpe.model", Role.TOKENIZER),
        ("tekken.json", Role.TOKENIZER),
        ("qwen.tiktoken", Role.TOKENIZER),
        ("config.json", Role.CONFIG),
        ("generation_config.json", Role.CONFIG),
        ("adapter_config.json", Role.CONFIG),
        ("model.safetensors.index.json", Role.CONFIG),
        ("USE_POLICY.md", Role.DOC),
        ("README.md", Role.DOC),
        ("requirements.txt", Role.DOC),
        ("figures/loss.png", Role.DOC),
        ("modeling_story.py", Role.OTHER),
        ("pytorch_model.bin", Role.BIN),
        ("model.gguf.part", Role.OTHER),
        (".gguf", Role.OTHER),
        ("", Role.OTHER),
    ],
)
def test_a_name_tells_the_role(name: str, role: Role) -> None:
    assert role_of(name) is role


def test_a_folder_tells_nothing() -> None:
    assert role_of("mmproj/LICENSE/tokenizer/a.gguf") is Role.WEIGHTS
    assert role_of("model.gguf/README.md") is Role.DOC


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00K"),
        (1_443_584, "1.44M"),
        (361_821_120, "361.82M"),
        (8_030_261_248, "8.03B"),
        (999_994_999, "999.99M"),
        (999_999_999, "1.00B"),
        (1_026_000_000_000, "1.03T"),
        (10**18, "1000.00Q"),
    ],
)
def test_counts_are_written_as_the_field_does(number: int, shown: str) -> None:
    assert human_count(number) == shown


@settings(derandomize=True)
@given(number=st.integers(0, 10**19) | st.integers(0, 10**7))
@example(number=999_995)
@example(number=999_999_999)
def test_a_count_that_was_read_is_written_the_same_again(number: int) -> None:
    shown = human_count(number)
    assert re.fullmatch(r"[0-9]{1,3}|[0-9]{1,3}\.[0-9]{2}[KMBTQ]|[0-9]{4,}\.[0-9]{2}Q", shown)
    read = parse_count(shown)
    assert read is not None
    assert abs(read - number) <= number / 199
    assert human_count(read) == shown


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("361.82M", 361_820_000),
        ("8b", 8_000_000_000),
        ("6.7B", 6_700_000_000),
        (" 1412352 ", 1_412_352),
        ("123456789012345678", 123_456_789_012_345_678),
        ("0.5 B", 500_000_000),
        ("7T", 7 * 10**12),
    ],
)
def test_counts_are_read_as_the_field_writes_them(text: str, number: int) -> None:
    assert parse_count(text) == number


@pytest.mark.parametrize(
    "text", ["", "B", "-1", "1e9", "8x7B", "1,000", "nan", "0x10", "٣", "8\N{KELVIN SIGN}", "9" * 400, "1." + "9" * 400]
)
def test_what_is_no_count_is_none(text: str) -> None:
    assert parse_count(text) is None


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "C:\\a", "a\0", "a\nb", "a\x7f", "a\x9bb", "a\udcff"],
)
def test_an_impossible_name_is_refused_and_shown_safely(name: str) -> None:
    with pytest.raises(FormatError, match="the box has a file with the impossible name") as caught:
        check_names(["model.gguf", name], "the box")
    assert caught.value.message.isprintable()


def test_a_long_name_is_refused_and_shown_short() -> None:
    long = "/".join(["x" * 255] * 4)
    check_names([long], "the box")
    for name in (f"{long}/x", "x" * 256):
        with pytest.raises(FormatError, match="impossible name") as caught:
            check_names([name], "the box")
        assert len(caught.value.message) < 200


def test_names_of_the_wild_are_fine() -> None:
    check_names(["a", "a.b", "a-b/c", "a b/d", "é/模型.gguf", "A", "..a", "c/.b"], "the box")


def test_deep_and_many_names_take_no_time() -> None:
    deep = "/".join(["d"] * 512)
    check_names([f"{deep[:-4]}{number}" for number in range(2000)], "the box")


def test_a_model_finds_its_parts_by_role_in_order() -> None:
    def part(role: Role, name: str, size: int) -> Part:
        return Part(role, name, Descriptor(media_type="x/y", digest=Digest.of(name.encode()), size=size))

    one, two, doc = part(Role.WEIGHTS, "b", 1), part(Role.WEIGHTS, "a", 2), part(Role.DOC, "c", 4)
    model = Model((one, doc, two), ModelFacts())
    assert model.of(Role.WEIGHTS) == (one, two)
    assert model.of(Role.DRAFTER) == ()
    assert model.size == 7
