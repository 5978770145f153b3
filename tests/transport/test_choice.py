from __future__ import annotations

import pytest

from lading.errors import FormatError, NotFoundError, UsageError
from lading.model import Role
from lading.transport.choice import PREFERENCE, Choice, choose, label

SOURCE = "hf://acme/Story-GGUF"


def chosen(names: list[str], select: str | None = None, source: str = SOURCE) -> Choice:
    return choose(names, select, source)


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("Story-8B-Q4_K_M.gguf", "Q4_K_M"),
        ("story.q4_k_m.gguf", "q4_k_m"),
        ("story-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"),
        ("story_IQ2_XXS.gguf", "IQ2_XXS"),
        ("story-IQ4_NL.gguf", "IQ4_NL"),
        ("story-IQ4_KSS.gguf", "IQ4_KSS"),
        ("story-IQ4_KS_R4.gguf", "IQ4_KS_R4"),
        ("story-Q4_0_4_8.gguf", "Q4_0_4_8"),
        ("story-Q8_0.gguf", "Q8_0"),
        ("story-Q6_K_L.gguf", "Q6_K_L"),
        ("story-bf16.gguf", "bf16"),
        ("story-BF16.gguf", "BF16"),
        ("story-fp16.gguf", "fp16"),
        ("story-F32.gguf", "F32"),
        ("story-TQ1_0.gguf", "TQ1_0"),
        ("gpt-oss-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("BF16/story-00001-of-00002.gguf", "BF16"),
        ("F16/story-Q8_0.gguf", "Q8_0"),
        ("story.gguf", ""),
        ("HQ2_story.gguf", ""),
        ("storyf16.gguf", ""),
    ],
)
def test_a_quantization_is_read_where_a_name_has_it_whole(name: str, quant: str) -> None:
    assert label(name) == quant


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("f16", "m-F16.gguf"),
        ("BF16", "m-bf16.gguf"),
        ("q4_k_m", "m-Q4_K_M.gguf"),
        ("Q4_K_S", "m.i1-Q4_K_S.gguf"),
        ("i1-Q4_K_S", "m.i1-Q4_K_S.gguf"),
        ("ud-q4_k_xl", "m-UD-Q4_K_XL.gguf"),
        ("Q5_K_HIFI", "m-Q5_K_HIFI.gguf"),
    ],
)
def test_a_quantization_is_matched_exactly_in_any_case(select: str, expected: str) -> None:
    names = ["m-F16.gguf", "m-bf16.gguf", "m-Q4_K_M.gguf", "m.i1-Q4_K_S.gguf", "m-UD-Q4_K_XL.gguf", "m-Q5_K_HIFI.gguf"]
    choice = chosen(names, select)
    assert choice.weights == (expected,)
    assert choice.told == ()


@pytest.mark.parametrize("select", ["Q4_K_XL", "Q4_K", "F16", "4_K_M", "K_M", "M", "Q4", "story", "Q4_K_M.", "Q4-K-M"])
def test_what_was_asked_for_is_never_replaced(select: str) -> None:
    names = ["story-Q4_K_M.gguf", "story-UD-Q4_K_XL.gguf", "story-BF16.gguf", "story-Q2_K.gguf"]
    with pytest.raises(NotFoundError, match=f"hf://acme/Story-GGUF has no `{select}`") as caught:
        chosen(names, select)
    assert caught.value.hint == "it has Q4_K_M, UD-Q4_K_XL, Q2_K, BF16"


def test_with_none_asked_for_q4_k_m_is_taken_and_said() -> None:
    choice = chosen(["s-Q8_0.gguf", "s-q4_k_m.gguf", "s-Q4_K_S.gguf"])
    assert (choice.weights, choice.quant) == (("s-q4_k_m.gguf",), "q4_k_m")
    assert choice.told == ("q4_k_m of 3 quantizations, as none was named",)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["s-Q4_0.gguf", "s-Q5_K_M.gguf", "s-Q4_K_S.gguf"], "s-Q4_K_S.gguf"),
        (["s-Q8_0.gguf", "s-F16.gguf", "s-Q2_K.gguf"], "s-Q8_0.gguf"),
        (["s-Q5_K_M.gguf", "s-Q3_K_M.gguf"], "s-Q5_K_M.gguf"),
        (["s-IQ1_S.gguf", "s-IQ4_KS_R4.gguf"], "s-IQ1_S.gguf"),
        (["s-BF16.gguf", "s.gguf"], "s-BF16.gguf"),
    ],
)
def test_without_q4_k_m_the_nearest_is_taken_and_said(names: list[str], expected: str) -> None:
    choice = chosen(names)
    assert choice.weights == (expected,)
    assert len(choice.told) == 1
    assert "the nearest to Q4_K_M" in choice.told[0]


def test_the_order_of_preference_names_each_once() -> None:
    assert len(set(PREFERENCE)) == len(PREFERENCE)
    assert [label(f"m-{quant}.gguf") for quant in PREFERENCE] == list(PREFERENCE)


def test_the_only_model_is_taken_without_a_word() -> None:
    choice = chosen(["story-Q8_0.gguf", "README.md"])
    assert (choice.weights, choice.told) == (("story-Q8_0.gguf",), ())


def test_a_split_model_comes_whole_and_in_order() -> None:
    shards = [f"Q4_K_M/s-Q4_K_M-{number:05d}-of-00012.gguf" for number in range(1, 13)]
    others = ["Q8_0/s-Q8_0-00001-of-00002.gguf", "Q8_0/s-Q8_0-00002-of-00002.gguf"]
    mixed = [*reversed(shards), *others]
    assert chosen(mixed, "Q4_K_M").weights == tuple(shards)
    assert chosen(mixed).weights == tuple(shards)
    assert chosen(mixed, "s-Q8_0-00002-of-00002.gguf").weights == tuple(others)
    assert chosen(mixed, "Q8_0/s-Q8_0-00001-of-00002.gguf").weights == tuple(others)


def test_a_split_model_that_lacks_a_part_is_refused_and_no_other_is_touched_by_it() -> None:
    names = ["s-Q4_K_M-00001-of-00002.gguf", "s-Q8_0.gguf", "s-Q2_K-00009-of-00002.gguf"]
    assert chosen(names, "Q8_0").weights == ("s-Q8_0.gguf",)
    with pytest.raises(FormatError, match=r"s-Q4_K_M-00002-of-00002.gguf is missing|00002-of-00002"):
        chosen(names, "Q4_K_M")
    with pytest.raises(FormatError, match="part 9 of 2"):
        chosen(names, "Q2_K")
    tensors = ["m-00001-of-00002.safetensors", "whole.safetensors", "config.json"]
    for select in (None, tensors[0]):
        with pytest.raises(FormatError, match=r"'m-00002-of-00002.safetensors' is missing"):
            chosen(tensors, select)
    assert chosen(tensors, "whole.safetensors").weights == ("whole.safetensors",)


def test_several_models_of_one_quantization_are_listed_not_guessed_at() -> None:
    names = ["small/a-Q4_K_M.gguf", "large/a-Q4_K_M.gguf", "large/a-Q8_0.gguf"]
    for select in ("Q4_K_M", None):
        with pytest.raises(UsageError, match="has 2 models in `Q4_K_M`") as caught:
            chosen(names, select)
        assert caught.value.hint == "name one by its file: large/a-Q4_K_M.gguf, small/a-Q4_K_M.gguf"
    assert chosen(names, "small/a-Q4_K_M.gguf").weights == ("small/a-Q4_K_M.gguf",)
    with pytest.raises(UsageError, match=r"2 files named `a-Q4_K_M.gguf`"):
        chosen(names, "a-Q4_K_M.gguf")
    with pytest.raises(UsageError, match="has 2 models") as caught:
        chosen(["one.gguf", "two.gguf"])
    assert caught.value.hint == "name one by its file: one.gguf, two.gguf"


def test_a_file_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFoundError, match=r"no file `b\.gguf`") as caught:
        chosen(["a.gguf"], "b.gguf")
    assert caught.value.hint == "it has a.gguf"


@pytest.mark.parametrize(
    "aside",
    [
        "imatrix.gguf",
        "story-imatrix-Q4_K_M.gguf",
        "draft/story-Q4_K_M.gguf",
        "story-draft-Q4_K_M.gguf",
        "MTP/story-Q4_K_M.gguf",
        "story.mtp.Q4_K_M.gguf",
        "mmproj-story-Q4_K_M.gguf",
        "story-lora-Q4_K_M.gguf",
    ],
)
def test_what_stands_beside_a_model_is_never_taken_for_it(aside: str) -> None:
    for select in (None, "Q8_0"):
        assert chosen([aside, "story-Q8_0.gguf"], select).weights == ("story-Q8_0.gguf",)
    with pytest.raises(NotFoundError):
        chosen([aside, "story-Q8_0.gguf"], "Q4_K_M")
    with pytest.raises(NotFoundError, match="no model among its GGUF files"):
        chosen([aside])
    assert chosen([aside], aside).weights == (aside,)


def test_a_mark_in_the_repository_s_own_name_says_nothing_of_a_file() -> None:
    names = ["story-draft-Q8_0.gguf", "story-draft-imatrix.gguf"]
    assert chosen(names, source="hf://acme/story-draft-GGUF").weights == ("story-draft-Q8_0.gguf",)


@pytest.mark.parametrize(
    ("projectors", "expected"),
    [
        (["mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"], "mmproj-F16.gguf"),
        (["mmproj-bf16.gguf", "mmproj-f32.gguf"], "mmproj-bf16.gguf"),
        (["mmproj-Q8_0.gguf"], "mmproj-Q8_0.gguf"),
        (["mmproj-story-f16.gguf", "mmproj-bf16f16.gguf"], "mmproj-story-f16.gguf"),
        (["mmproj-tale-F16.gguf", "mmproj-story-BF16.gguf"], "mmproj-story-BF16.gguf"),
    ],
)
def test_a_projector_comes_along_f16_by_its_exact_label(projectors: list[str], expected: str) -> None:
    choice = chosen(["story-Q4_K_M.gguf", *projectors], "Q4_K_M")
    assert choice.projector == expected
    assert choice.role(expected) is Role.PROJECTOR
    assert choice.told == ((f"{expected} of {len(projectors)} projectors",) if len(projectors) > 1 else ())


def test_the_projector_of_the_same_folder_is_nearer() -> None:
    names = ["a/m-Q4_K_M.gguf", "b/m-Q4_K_M.gguf", "a/mmproj-BF16.gguf", "b/mmproj-F16.gguf"]
    assert chosen(names, "a/m-Q4_K_M.gguf").projector == "a/mmproj-BF16.gguf"


def test_licence_and_card_come_along_and_nothing_else() -> None:
    names = ["q/s-Q4_K_M.gguf", "LICENSE", "README.md", "q/NOTICE", "x/LICENSE", "config.json", "s.png", "imatrix.dat"]
    choice = chosen(names, "Q4_K_M")
    assert choice.names == ("q/s-Q4_K_M.gguf", "LICENSE", "README.md", "q/NOTICE")
    assert [choice.role(name) for name in choice.names] == [Role.WEIGHTS, Role.LICENCE, Role.DOC, Role.LICENCE]


def test_a_safetensors_repository_comes_with_tokenizer_and_config_and_no_other_framework() -> None:
    kept = [
        "1_Pooling/config.json",
        "LICENSE",
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer.model",
        "vocab.txt",
    ]
    weights = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    left = [
        ".gitattributes",
        "consolidated.safetensors",
        "flax_model.msgpack",
        "onnx/config.json",
        "onnx/model.onnx",
        "onnx/sub/tokenizer.json",
        "original/consolidated.00.pth",
        "original/params.json",
        "picture.png",
        "pytorch_model.bin",
        "tf_model.h5",
        "training/README.md",
    ]
    choice = chosen([*left, *weights, *kept])
    assert choice.weights == tuple(weights)
    assert sorted(choice.others) == sorted(kept)
    assert choice.told == ()
    alone = chosen(["consolidated.safetensors", "params.json", "tekken.json"])
    assert alone.names == ("consolidated.safetensors", "params.json", "tekken.json")


def test_a_named_safetensors_file_stands_for_its_set() -> None:
    names = ["a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors", "b.safetensors", "config.json"]
    assert chosen(names, "a-00002-of-00002.safetensors").names == (*names[:2], "config.json")
    assert chosen(names, "b.safetensors").names == ("b.safetensors", "config.json")


def test_gguf_goes_before_safetensors_in_one_repository() -> None:
    assert chosen(["model.safetensors", "story-Q8_0.gguf"]).weights == ("story-Q8_0.gguf",)


def test_a_quantization_of_a_repository_without_gguf_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="holds no GGUF") as caught:
        chosen(["model.safetensors"], "Q4_K_M")
    assert caught.value.hint == "its weights are safetensors; leave the quantization out"


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ([], "neither GGUF nor safetensors"),
        (["pytorch_model.bin"], "neither GGUF nor safetensors"),
        (["adapter_model.safetensors", "adapter_config.json"], "an adapter and no model"),
    ],
)
def test_a_repository_without_weights_is_told_by_what_it_holds(names: list[str], what: str) -> None:
    with pytest.raises(NotFoundError, match=what) as caught:
        chosen(names)
    assert caught.value.hint == (f"it has {', '.join(sorted(names))}" if names else "it is empty")


def test_strangers_names_reach_messages_without_their_control_characters() -> None:
    with pytest.raises(NotFoundError) as caught:
        chosen(["a\x1b[2J\n-Q8_0.gguf", "b\x00-Q2_K\x1b.gguf"], "c.gguf")
    assert (caught.value.message + caught.value.hint).isprintable()


def test_the_choice_does_not_depend_on_the_order_of_the_listing() -> None:
    names = ["s-Q4_K_M.gguf", "s-Q8_0.gguf", "mmproj-F16.gguf", "mmproj-BF16.gguf", "README.md", "LICENSE"]
    assert chosen(names) == chosen(names[::-1])


def test_a_monstrous_listing_is_chosen_from_in_no_time() -> None:
    names = [f"{number}/consolidated.safetensors" for number in range(20_000)]
    names += [f"{number}/x.bin" for number in range(20_000)] + ["/" * 1_000_000 + "config.json", "LICENSE"]
    choice = chosen([*names, "0/a.safetensors"])
    assert len(choice.weights) == 20_000
    assert choice.others == ("LICENSE",)


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        (["tool.jinja"], "tool.jinja"),
        (["chat_template.jinja", "chat_template.json", "tool.jinja"], "chat_template.jinja"),
        (["tool.jinja", "rag.jinja"], None),
    ],
)
def test_of_several_templates_the_one_with_transformers_name_is_the_models(
    templates: list[str], expected: str | None
) -> None:
    choice = chosen(["model.safetensors", "config.json", *templates])
    assert set(templates) <= set(choice.others)
    assert [name for name in choice.names if choice.role(name) is Role.TEMPLATE] == ([expected] if expected else [])
