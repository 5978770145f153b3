"""What is written in Ollama's format; what is read of Ollama's own stands in tests/transport/test_ollama.py."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lading import media
from lading.artifact import RAW, detect, is_written, named, ollama
from lading.digest import Digest
from lading.errors import FormatError
from lading.manifest import Manifest, parse_document
from lading.model import Model, ModelFacts, Part, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.artifact import Format, Written

READ, WRITE = ollama.ROW.read, ollama.ROW.write
CREATED = "2026-01-02T03:04:05Z"
WHOLE = ("gguf", "gguf-without-suffix", "bare")
"""The models of which Ollama's format leaves nothing out."""


@pytest.fixture(params=WHOLE)
def whole(request: pytest.FixtureRequest, models: dict[str, Model]) -> Model:
    return models[request.param]


@pytest.fixture
def ollamas(part: Callable[..., Part], facts: ModelFacts) -> Model:
    """A model with everything that Ollama has a layer for."""
    parts = (
        part(Role.WEIGHTS, "story.gguf"),
        part(Role.PROJECTOR, "eyes.gguf"),
        part(Role.ADAPTER, "bible.gguf"),
        part(Role.ADAPTER, "psalms.gguf"),
        part(Role.DRAFTER, "small.gguf"),
        part(Role.OTHER, "template.gotmpl"),
        part(Role.OTHER, "messages.json"),
        part(Role.SYSTEM, "system.txt"),
        part(Role.PARAMS, "params.json"),
        part(Role.LICENCE, "LICENSE"),
        part(Role.LICENCE, "NOTICE"),
    )
    return Model(parts, facts)


def reread(written: Written) -> Model:
    manifest = parse_document(written.manifest.raw, name="it", digest=written.manifest.digest)
    assert isinstance(manifest, Manifest)
    assert detect(manifest, "it") is ollama.ROW
    return READ(manifest, written.config)


def types(manifest: Manifest) -> list[tuple[str, str | None]]:
    return [
        (blob.media_type.removeprefix(ollama.PREFIX), blob.annotations.get(media.FILE_PATH)) for blob in manifest.layers
    ]


def test_it_is_named_among_those_that_are_written() -> None:
    assert named("ollama") is ollama.ROW
    assert is_written(ollama.ROW)


def test_manifest_and_config_are_as_ollama_writes_them(models: dict[str, Model]) -> None:
    model = models["gguf"]
    written = WRITE(model, None)
    assert json.loads(written.config) == {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": ["llama"],
        "model_type": "1.44M",
        "file_type": "F16",
        "context_length": 512,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [str(model.parts[0].blob.digest)]},
    }
    tree = json.loads(written.manifest.raw)
    assert tree["schemaVersion"] == 2
    assert tree["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert tree["config"] == {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "digest": str(Digest.of(written.config)),
        "size": len(written.config),
    }
    assert types(written.manifest) == [("model", "story.gguf")]
    assert written.left_out == ()


def test_each_role_has_a_layer_of_its_kind(ollamas: Model, contents: Callable[[Model], object]) -> None:
    written = WRITE(ollamas, None)
    assert types(written.manifest) == [
        ("model", "story.gguf"),
        ("draft", "small.gguf"),
        ("projector", "eyes.gguf"),
        ("adapter", "bible.gguf"),
        ("adapter", "psalms.gguf"),
        ("template", "template.gotmpl"),
        ("system", "system.txt"),
        ("params", "params.json"),
        ("messages", "messages.json"),
        ("license", "LICENSE"),
        ("license", "NOTICE"),
    ]
    assert json.loads(written.config)["model_families"] == ["llama", "clip"]
    assert written.left_out == ()
    assert contents(reread(written)) == contents(ollamas)


class TestContract:
    """What test_contract.py asks of every format that holds any model, for the models that this one holds."""

    def test_files_and_facts_are_read_back(self, whole: Model, contents: Callable[[Model], object]) -> None:
        read = reread(WRITE(whole, CREATED))
        assert contents(read) == contents(whole)
        # How many bits a weight has is in the header alone.
        assert replace(read.facts, bits_per_weight=whole.facts.bits_per_weight, created=None) == whole.facts
        assert read.facts.created == CREATED

    def test_the_same_bytes_come_of_any_order(self, ollamas: Model) -> None:
        first = WRITE(ollamas, None)
        again = WRITE(Model(tuple(reversed(ollamas.parts)), ollamas.facts), None)
        assert (again.manifest.raw, again.config) == (first.manifest.raw, first.config)

    def test_rounds_change_nothing(self, ollamas: Model) -> None:
        first = WRITE(ollamas, CREATED)
        read = reread(first)
        assert WRITE(read, read.facts.created).manifest.digest == first.manifest.digest

    @pytest.mark.parametrize("other", RAW, ids=lambda row: row.name)
    def test_digests_survive_the_voyage_through_another(self, ollamas: Model, other: Format) -> None:
        first = WRITE(ollamas, CREATED)
        read = reread(first)
        between = other.write(read, read.facts.created)
        back = other.read(between.manifest, between.config)
        assert WRITE(back, back.facts.created).manifest.digest == first.manifest.digest


def test_a_jinja_template_and_what_has_no_place_is_left_out_and_told(
    models: dict[str, Model], part: Callable[..., Part]
) -> None:
    parts = (*models["dressed"].parts, part(Role.DOC, "README.md"), part(Role.CONFIG, "config.json"))
    written = WRITE(Model(parts, models["dressed"].facts), None)
    assert [kind for kind, _name in types(written.manifest)] == ["model", "projector", "license", "license"]
    assert written.left_out == (
        "chat_template.jinja is left out: Ollama's templates are written in Go's language, this one in Jinja's",
        "Ollama's format has no place for README.md, config.json",
    )


@pytest.mark.parametrize(("name", "words"), [("folder", "safetensors weights in 2 files"), ("shards", "in 12 files")])
def test_what_is_no_single_gguf_is_refused(models: dict[str, Model], name: str, words: str) -> None:
    with pytest.raises(FormatError, match=words) as caught:
        WRITE(models[name], None)
    assert "docker" in caught.value.hint


def test_settings_become_ollamas_parameters_and_are_no_file_when_read_back(models: dict[str, Model]) -> None:
    settings = {"ctx_size": 256, "temperature": 0.7, "stop": ["</s>"]}
    model = Model(models["gguf"].parts, replace(models["gguf"].facts, settings=settings))
    written = WRITE(model, None)
    assert types(written.manifest) == [("model", "story.gguf"), ("params", None)]
    (params,) = written.blobs
    assert json.loads(params) == {"num_ctx": 256, "temperature": 0.7, "stop": ["</s>"]}
    assert written.manifest.layers[1].digest == Digest.of(params)
    read = reread(written)
    assert [part.name for part in read.parts] == ["story.gguf"]
    assert read.facts.settings == settings
    assert WRITE(read, None).manifest.digest == written.manifest.digest


def test_two_files_of_one_name_are_refused(ollamas: Model, part: Callable[..., Part]) -> None:
    written = WRITE(ollamas, None)
    twice = WRITE(Model((part(Role.WEIGHTS, "LICENSE", 7),), ollamas.facts), None).manifest.layers
    manifest = Manifest.build(written.manifest.config, (*written.manifest.layers, *twice))
    with pytest.raises(FormatError, match="has LICENSE twice"):
        READ(manifest, written.config)
