from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_weights import gguf, gguf_shard, safetensors

from lading.errors import FormatError
from lading.facts import HeaderFile, read_facts, role_in_header, safetensors_facts
from lading.formats.gguf import read_header
from lading.model import ModelFacts, Role, role_of
from lading.outline import read_outline
from lading.ranges import BytesRanges

if TYPE_CHECKING:
    from collections.abc import Mapping

STORYTELLER = Path(__file__).parents[1] / "examples" / "storyteller"
SAID = {"metadata", "settings", "command", "annotations", "outline"}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] | trim }}"
    "{% if not loop.last %}{{ ' ' }}{% endif %}{% endfor %}"
)


class Spied(BytesRanges):
    """Bytes that know whether they are closed."""

    def __init__(self, data: bytes, name: str, open_files: list[str]) -> None:
        super().__init__(data, name)
        self._open_files = open_files
        open_files.append(name)

    def close(self) -> None:
        self._open_files.remove(self.name)


def facts_of(files: Mapping[str, Any], roles: Mapping[str, Role] | None = None, **more: Any) -> ModelFacts:
    """Read the facts of files by name, and see that each is closed again."""
    open_files: list[str] = []
    raw = {name: data.encode() if isinstance(data, str) else data for name, data in files.items()}
    found = [
        HeaderFile((roles or {}).get(name, role_of(name)), name, partial(Spied, data, name, open_files))
        for name, data in raw.items()
    ]
    try:
        return read_facts(found, **more)
    finally:
        assert not open_files


def storyteller(*names: str) -> dict[str, bytes]:
    return {name: (STORYTELLER / name).read_bytes() for name in names}


class TestGguf:
    def test_the_storyteller(self) -> None:
        facts = facts_of(storyteller("storyteller-f16.gguf"))
        assert {name: getattr(facts, name) for name in ModelFacts.__slots__ if name not in SAID} == {
            "format": "gguf",
            "architecture": "llama",
            "name": "Storyteller",
            "parameters": 1_443_584,
            "bits_per_weight": pytest.approx(16.0198616776),
            "file_type": "F16",
            "context_length": 512,
            "vocabulary_size": 1024,
            "chat_template": TEMPLATE,
            "licence": "cc0-1.0",
            "vendor": None,
            "description": "A small Llama-architecture model of King James English, an example for lading",
            "created": None,
        }
        assert facts.metadata["llama.rope.freq_base"] == "10000.000000"
        assert facts.metadata["tokenizer.ggml.add_bos_token"] == "true"
        assert facts.metadata["general.file_type"] == "1"
        assert facts.metadata["general.tags"] == "text-generation"
        assert "tokenizer.ggml.tokens" not in facts.metadata
        assert len(facts.metadata) == 32

    def test_values_are_written_as_model_runner_writes_them(self) -> None:
        said = {
            "f": 0.5,
            "yes": True,
            "no": False,
            "big": 2**63,
            "list": [1, 2, 3],
            "words": ["a", "b"],
            "none": [],
            "fifty": [7] * 50,
            "fifty-one": [7] * 51,
        }
        assert facts_of({"a.gguf": gguf(said)}).metadata == {
            "f": "0.500000",
            "yes": "true",
            "no": "false",
            "big": str(2**63),
            "list": "1, 2, 3",
            "words": "a, b",
            "none": "",
            "fifty": ", ".join(["7"] * 50),
        }

    def test_a_header_that_says_nothing_gives_no_facts(self) -> None:
        assert facts_of({"a.gguf": gguf({}, [])}) == ModelFacts(format="gguf")

    def test_nonsense_in_a_header_is_no_fact(self) -> None:
        said = {
            "general.architecture": 7,
            "general.name": "",
            "llama.context_length": 512,
            "general.license": ["mit"],
            "general.file_type": 4_000_000,
            "None.context_length": 8192,
        }
        facts = facts_of({"a.gguf": gguf(said)})
        assert (facts.architecture, facts.name, facts.context_length) == (None, None, None)
        assert (facts.licence, facts.file_type) == (None, None)

    def test_a_context_or_vocabulary_of_no_tokens_is_no_fact(self) -> None:
        said = {"general.architecture": "x", "x.context_length": 0, "x.vocab_size": 2**63}
        facts = facts_of({"a.gguf": gguf(said)})
        assert (facts.context_length, facts.vocabulary_size) == (None, None)

    def test_the_vocabulary_is_counted_when_its_size_is_not_said(self) -> None:
        said = {"general.architecture": "x", "tokenizer.ggml.tokens": ["a", "b", "c"]}
        assert facts_of({"a.gguf": gguf(said)}).vocabulary_size == 3

    def test_big_endian_files_are_read(self) -> None:
        said = {"general.architecture": "x", "x.context_length": 512, "list": [1, 2]}
        facts = facts_of({"a.gguf": gguf(said, order=">")})
        assert (facts.context_length, facts.metadata["list"], facts.parameters) == (512, "1, 2", 8)

    def test_shards_are_counted_together_whatever_their_order(self) -> None:
        files = {f"m-{n:05d}-of-00003.gguf": gguf_shard(n, 3, {"llama.context_length": 64}) for n in (3, 1, 2)}
        facts = facts_of(files)
        assert (facts.parameters, facts.context_length, facts.bits_per_weight) == (24, 64, 32)

    def test_missing_shards_are_named(self) -> None:
        with pytest.raises(FormatError, match=r"'m-00002-of-00003\.gguf' is missing"):
            facts_of({f"m-{n:05d}-of-00003.gguf": gguf_shard(n, 3) for n in (1, 3)})

    def test_shards_of_another_model_are_refused(self) -> None:
        files = {"m-00001-of-00002.gguf": gguf_shard(1, 2), "m-00002-of-00002.gguf": gguf_shard(2, 3)}
        with pytest.raises(FormatError, match="is part 2 of 3, and stands as 2 of 2"):
            facts_of(files)

    def test_two_models_side_by_side_are_refused_by_name(self) -> None:
        with pytest.raises(FormatError, match=r"2 models side by side: a-Q4\.gguf, a-Q8\.gguf") as caught:
            facts_of({"a-Q4.gguf": gguf(), "a-Q8.gguf": gguf()})
        assert caught.value.hint == "name one of the files"
        many = {f"m{number}.gguf": gguf() for number in range(9)}
        with pytest.raises(FormatError, match=r"m3\.gguf, m4\.gguf and 4 more"):
            facts_of(many)

    def test_a_header_that_is_known_is_not_read_again(self) -> None:
        data = gguf({"general.name": "read"})
        known = {"a.gguf": read_header(BytesRanges(gguf({"general.name": "known"}), "a.gguf"))}
        assert facts_of({"a.gguf": data}).name == "read"
        assert facts_of({"a.gguf": data}, known=known).name == "known"

    def test_magic_counts_where_the_name_tells_nothing(self) -> None:
        assert facts_of({"blob": gguf()}, {"blob": Role.WEIGHTS}).format == "gguf"
        assert facts_of({"model.GGUF": gguf()}).format == "gguf"

    @pytest.mark.parametrize(
        ("said", "role"),
        [
            ({"general.type": "model"}, Role.WEIGHTS),
            ({"general.type": "adapter"}, Role.ADAPTER),
            ({"general.type": "mmproj"}, Role.PROJECTOR),
            ({"general.type": "imatrix"}, Role.OTHER),
            ({"general.architecture": "clip"}, Role.PROJECTOR),
            ({"general.type": "model", "general.architecture": "clip"}, Role.PROJECTOR),
            ({"general.architecture": "llama"}, None),
            ({"general.type": "hologram"}, None),
            ({"general.type": ["model"]}, None),
        ],
    )
    def test_the_header_tells_the_role(self, said: dict[str, Any], role: Role | None) -> None:
        assert role_in_header(read_header(BytesRanges(gguf(said), "a"))) is role


class TestSafetensors:
    def test_the_storyteller(self) -> None:
        facts = facts_of(storyteller("model.safetensors", "config.json", "tokenizer_config.json", "tokenizer.json"))
        assert read_outline(facts.outline).data_size == 2 * 1_443_584
        assert replace(facts, outline="") == ModelFacts(
            format="safetensors",
            architecture="llama",
            parameters=1_443_584,
            bits_per_weight=16.0,
            file_type="BF16",
            context_length=512,
            vocabulary_size=1024,
            chat_template=TEMPLATE,
            metadata={"format": "pt", "tensor_count": "29"},
        )

    def test_weights_alone_say_what_they_can(self) -> None:
        assert facts_of({"a.safetensors": safetensors(metadata={"architecture": "x"})}) == ModelFacts(
            format="safetensors",
            architecture="x",
            parameters=8,
            bits_per_weight=16.0,
            file_type="BF16",
            metadata={"architecture": "x", "tensor_count": "1"},
        )
        empty = facts_of({"a.safetensors": safetensors({})})
        assert (empty.parameters, empty.bits_per_weight, empty.file_type) == (None, None, None)

    def test_shards_are_counted_together(self) -> None:
        files = {
            "model-00001-of-00002.safetensors": safetensors({"a": ("BF16", [4], 8)}, {"format": "pt"}),
            "model-00002-of-00002.safetensors": safetensors({"b": ("F32", [4], 16)}),
        }
        facts = facts_of(files)
        assert (facts.parameters, facts.bits_per_weight, facts.file_type) == (8, 24.0, "mixed")
        assert facts.metadata == {"format": "pt", "tensor_count": "2"}

    def test_a_model_that_lies_there_twice_is_counted_once(self) -> None:
        files = {"consolidated.safetensors": safetensors(), "model.safetensors": safetensors()}
        assert facts_of(files).parameters == 8
        assert facts_of({"consolidated.safetensors": safetensors()}).parameters == 8

    @pytest.mark.parametrize(
        ("config", "context", "vocabulary"),
        [
            ({"max_position_embeddings": 4096, "n_ctx": 1}, 4096, None),
            ({"n_positions": 1024, "model_max_length": 1}, 1024, None),
            ({"max_position_embeddings": 0, "max_sequence_length": 2048}, 2048, None),
            ({"max_position_embeddings": True, "n_ctx": "4096"}, None, None),
            ({"max_position_embeddings": 10**30, "vocab_size": -1}, None, None),
            ({"text_config": {"max_position_embeddings": 8192, "vocab_size": 5}}, 8192, 5),
            ({"vocab_size": 9, "text_config": {"vocab_size": 5}}, None, 9),
            ({"text_config": 7}, None, None),
        ],
    )
    def test_the_context_is_looked_for_as_model_runner_does(
        self, config: dict[str, Any], context: int | None, vocabulary: int | None
    ) -> None:
        facts = facts_of({"a.safetensors": safetensors(), "config.json": json.dumps(config)})
        assert (facts.context_length, facts.vocabulary_size) == (context, vocabulary)

    @pytest.mark.parametrize("config", ["", "no json", "[]", "7", "[" * 100_000, '{"n_ctx":' + "9" * 5000 + "}", "\0"])
    def test_a_config_that_cannot_be_read_adds_nothing(self, config: str) -> None:
        facts = facts_of({"a.safetensors": safetensors(), "config.json": config, "tokenizer_config.json": config})
        assert facts == facts_of({"a.safetensors": safetensors()})

    def test_only_the_highest_config_counts(self) -> None:
        files = {
            "a.safetensors": safetensors(),
            "1_Pooling/config.json": '{"model_type":"pooling"}',
            "config.json": '{"model_type":"bert"}',
        }
        assert facts_of(files).architecture == "bert"

    @pytest.mark.parametrize(
        ("said", "name"),
        [
            ("meta/Llama-3", "meta/Llama-3"),
            ("", None),
            ("/home/sam/llama", None),
            ("./llama", None),
            ("~/llama", None),
            ("C:\\Users\\sam", None),
        ],
    )
    def test_the_folder_a_model_was_loaded_from_is_not_its_name(self, said: str, name: str | None) -> None:
        config = json.dumps({"_name_or_path": said}).encode()
        assert safetensors_facts([], config).name == name

    def test_half_a_surrogate_pair_becomes_a_question_mark(self) -> None:
        facts = safetensors_facts([], b'{"model_type":"a\\ud800","_name_or_path":"b\\udfff"}')
        assert (facts.architecture, facts.name) == ("a?", "b?")

    def test_the_template_of_a_file_goes_before_the_tokenizers(self) -> None:
        files: dict[str, Any] = {"a.safetensors": safetensors(), "tokenizer_config.json": '{"chat_template":"inner"}'}
        assert facts_of(files).chat_template == "inner"
        assert facts_of({**files, "chat_template.jinja": "own"}).chat_template == "own"
        assert facts_of({**files, "chat_template.json": '{"chat_template":"?"}'}).chat_template == "inner"

    def test_of_several_templates_the_default_is_taken(self) -> None:
        several = [{"name": "tools", "template": "t"}, 7, {"name": "default", "template": "d"}]
        for said, template in ((several, "d"), (several[:2], None), ([], None), (7, None), ("", None)):
            config = json.dumps({"chat_template": said})
            facts = facts_of({"a.safetensors": safetensors(), "tokenizer_config.json": config})
            assert facts.chat_template == template


class TestRefusals:
    def test_two_formats_side_by_side(self) -> None:
        with pytest.raises(FormatError, match=r"weights of two formats: b\.gguf, a\.safetensors"):
            facts_of({"a.safetensors": safetensors(), "b.gguf": gguf()})

    def test_no_weights(self) -> None:
        with pytest.raises(FormatError, match="no weights"):
            facts_of({"config.json": "{}"})

    @pytest.mark.parametrize(
        ("name", "data", "words"),
        [
            ("a.gguf", b"hello, world", "a.gguf is not a GGUF file"),
            ("a.gguf", b"", "a.gguf is empty"),
            ("a.gguf", safetensors(), "a.gguf is not a GGUF file"),
            ("a.gguf", gguf()[:-1], "a.gguf"),
            ("a.safetensors", b"hello, world", "a.safetensors is not a safetensors file"),
            ("a.safetensors", safetensors()[:-1], "a.safetensors"),
            ("notes", b"hello, world", "notes is neither GGUF nor safetensors"),
            ("notes", b"", "notes is neither GGUF nor safetensors"),
        ],
    )
    def test_a_file_that_is_not_what_it_should_be(self, name: str, data: bytes, words: str) -> None:
        with pytest.raises(FormatError, match=words) as caught:
            facts_of({name: data}, {name: Role.WEIGHTS})
        assert caught.value.hint

    def test_a_pickle_is_told_from_its_first_bytes(self) -> None:
        with pytest.raises(FormatError, match="neither GGUF nor safetensors") as caught:
            facts_of({"pytorch_model": b"PK\x03\x04" + bytes(100)}, {"pytorch_model": Role.WEIGHTS})
        assert "zip" in caught.value.hint
