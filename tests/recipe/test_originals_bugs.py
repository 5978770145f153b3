"""What the first implementation of the language does otherwise than its own documents say: ours does what they say."""

from __future__ import annotations

from typing import Any

from lading.formats import tool_types as types
from lading.formats.gguf_types import FILE_TYPES
from lading.recipe import lint, parse, plan
from lading.recipe.ignore import file_names
from lading.recipe.instructions import Cat, Cmd, Convert, Copy, Instruction, Quantize


def last(text: str, **options: Any) -> Instruction:
    return plan(parse(text), **options).target.steps[-1].instruction


def rules(text: str) -> set[str]:
    return {finding.rule for finding in lint(parse(text)).findings}


def test_convert_without_a_type_makes_f16_not_fp16() -> None:
    made = last("FROM scratch\nCONVERT model model.gguf\n")
    assert isinstance(made, Convert)
    assert made.type == "F16"


def test_cat_of_several_heredocs_keeps_them_all_not_the_last_one() -> None:
    made = last("FROM scratch\nCAT <<A <<B f\none\nA\ntwo\nB\n")
    assert isinstance(made, Cat)
    assert "".join(text for _name, text in made.documents) == "one\ntwo\n"


def test_cat_of_words_puts_a_blank_between_all_of_them() -> None:
    made = last("FROM scratch\nCAT a b c f\n")
    assert isinstance(made, Cat)
    assert made.documents == (("STDIN", "a b c\n"),)


def test_dockerignore_is_read_too() -> None:
    assert ".dockerignore" in file_names("GGUFPackerfile")


def test_from_platform_is_used() -> None:
    made = plan(
        parse("ARG P=arm64\nFROM --platform=linux/$P alpine\nFROM --platform=$BUILDPLATFORM alpine AS b\n"), target="0"
    )
    assert made.target.base.platform == "linux/arm64"
    made = plan(parse("FROM --platform=$BUILDPLATFORM alpine\n"), platform="linux/arm64", build_platform="linux/amd64")
    assert made.target.base.platform == "linux/amd64"


def test_a_low_bit_type_without_a_matrix_is_noticed() -> None:
    assert "imatrix-missing" in rules("FROM scratch\nQUANTIZE --type=IQ1_S a.gguf b.gguf\n")
    assert "imatrix-missing" not in rules("FROM scratch\nQUANTIZE --type=IQ1_S --imatrix=m a.gguf b.gguf\n")
    assert "imatrix-missing" not in rules("FROM scratch\nQUANTIZE --type=Q4_K_M a.gguf b.gguf\n")


def test_a_command_that_names_the_unquantized_file_is_noticed() -> None:
    text = 'FROM scratch AS f\nCONVERT m m.F16.gguf\nFROM scratch\nQUANTIZE --from=f m.F16.gguf m.Q5.gguf\nCMD ["-m", "{}"]\n'
    assert "model-missing" in rules(text.replace("{}", "m.F16.gguf"))
    assert "model-missing" not in rules(text.replace("{}", "m.Q5.gguf"))
    assert "model-missing" not in rules(text.replace("{}", "/m.Q5.gguf"))


def test_names_of_tensors_have_commas_between_as_its_page_says() -> None:
    made = last("FROM scratch\nQUANTIZE --imatrix=m --include-weights=attn_q,ffn_down --include-weights=output a b\n")
    assert isinstance(made, Quantize)
    assert made.include_weights == ("attn_q", "ffn_down", "output")


def test_a_stage_based_on_a_stage_inherits_its_command() -> None:
    made = plan(parse('FROM scratch AS a\nCMD ["-m", "x.gguf"]\nFROM a\nCOPY l l\n'))
    assert made.target.command is not None
    assert made.target.command.arguments == ("-m", "x.gguf")


def test_a_global_arg_is_visible_in_every_stage_without_naming_it_again() -> None:
    made = last("ARG T=Q8_0\nFROM scratch\nFROM scratch\nQUANTIZE --type=$T a b\n")
    assert isinstance(made, Quantize)
    assert made.type == "Q8_0"


def test_convert_from_a_later_stage_is_refused_not_taken_as_empty() -> None:
    # The error itself stands in tests/recipes/error-stage-below.
    assert plan(parse("FROM scratch AS a\nFROM scratch\nCONVERT --from=a x y\n")).target.needs == {0}


def test_a_mode_that_is_no_number_is_refused_not_ignored() -> None:
    # The error itself stands in tests/recipes/error-chmod.
    made = last("FROM scratch\nCOPY --chmod=755 a b\n")
    assert isinstance(made, Copy)
    assert made.ownership.mode == 0o755


def test_empty_adapters_are_left_out_wherever_they_stand() -> None:
    made = last('FROM scratch\nCMD ["--lora", "", "-m", "m", "--lora", "", "--lora", "a", "--lora", ""]\n')
    assert isinstance(made, Cmd)
    assert made.arguments == ("-m", "m", "--lora", "a")
    assert [(file.path, made.arguments[file.index]) for file in made.command.files] == [("m", "m"), ("a", "a")]


def test_quantize_knows_the_types_of_today() -> None:
    aliases = {"Q3_K", "Q4_K", "Q5_K", "COPY"}
    assert set(types.QUANTIZE_TYPES) == {*FILE_TYPES.values(), *aliases} - {"NVFP4"}
