"""What a packager says of a model, in every format: settings, annotations, and words that differ from the header's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from bare_configs import BARE

from lading import media
from lading.artifact import RAW, Format, docker, modelpack
from lading.artifact.format import MAX_OUTLINE, OUTLINE
from lading.errors import FormatError
from lading.manifest import Manifest
from lading.model import Model, ModelFacts, Part, Role

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS: dict[str, object] = {"ctx_size": 256, "stop": ["\n", "ü"], "temperature": 0.7}
SAID: dict[str, Any] = {
    "name": "Tales",
    "licence": "MIT OR Apache-2.0",
    "vendor": "Another",
    "description": "Told",
    "settings": SETTINGS,
    "outline": '{"format":"gguf","architecture":"llama"}',
    "annotations": {"org.example.team": "chat", "org.opencontainers.image.title": "Tales"},
}


@pytest.fixture(params=RAW, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


@pytest.fixture
def said(model: Model) -> Model:
    return Model(model.parts, replace(model.facts, **SAID))


def test_it_is_read_back(row: Format, said: Model) -> None:
    written = row.write(said, None)
    facts = row.read(written.manifest, written.config).facts
    assert {fact: getattr(facts, fact) for fact in SAID} == SAID
    assert facts.context_length == said.facts.context_length


def test_digests_survive_the_voyage_through_any_other(row: Format, said: Model) -> None:
    first = row.write(said, None)
    for other in RAW:
        read = row.read(first.manifest, first.config)
        between = other.write(read, None)
        back = other.read(between.manifest, between.config)
        assert row.write(back, None).manifest.digest == first.manifest.digest


def test_what_was_not_said_adds_nothing(row: Format, models: dict[str, Model]) -> None:
    keys = row.write(models["gguf"], None).manifest.annotations
    assert not {key for key in keys if key.removeprefix("io.lading.") in ("settings", "name", "licence", "vendor")}


def test_an_outline_out_of_all_proportion_is_left_out(row: Format, models: dict[str, Model]) -> None:
    for length, kept in ((MAX_OUTLINE, True), (MAX_OUTLINE + 1, False), (0, False)):
        model = Model(models["gguf"].parts, replace(models["gguf"].facts, outline="x" * length))
        assert (OUTLINE in row.write(model, None).manifest.annotations) is kept


def test_the_context_that_is_wished_is_dockers_context_size(models: dict[str, Model]) -> None:
    model = Model(models["gguf"].parts, replace(models["gguf"].facts, settings={"ctx_size": 256}))
    written = docker.ROW.write(model, None)
    assert b'"context_size":256' in written.config
    facts = docker.ROW.read(written.manifest, written.config).facts
    assert (facts.context_length, facts.settings) == (512, {"ctx_size": 256})


@pytest.mark.parametrize(("size", "wish"), [(256, {"ctx_size": 256}), (512, {}), (0, {})])
def test_a_context_size_that_model_runner_was_told_is_a_wish(
    made: Callable[..., Manifest], size: int, wish: dict[str, object]
) -> None:
    raw = b'{"config":{"format":"gguf","architecture":"llama","context_size":%d,"gguf":{"llama.context_length":"512"}}}'
    manifest = made(docker.CONFIG_V01, ("application/vnd.docker.ai.gguf.v3", {}))
    facts = docker.ROW.read(manifest, raw % size).facts
    assert facts.settings == wish
    assert facts.context_length == (512 if size else None)


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"a":' * 100_000])
def test_settings_that_are_no_object_are_refused(row: Format, models: dict[str, Model], text: str) -> None:
    written = row.write(models["gguf"], None)
    manifest = Manifest.build(
        written.manifest.config, written.manifest.layers, annotations={"io.lading.settings": text}
    )
    with pytest.raises(FormatError, match=r"annotation io\.lading\.settings .* malformed"):
        row.read(manifest, written.config)


class TestOpaque:
    """A checkpoint that is kept as it is, and never opened."""

    def test_it_is_a_raw_layer_and_no_weights(self, row: Format, part: Callable[..., Part]) -> None:
        parts = (part(Role.CONFIG, "config.json"), part(Role.BIN, "pytorch_model.bin"))
        written = row.write(Model(parts, ModelFacts(format="bin", architecture="bert")), None)
        types = {layer.annotations[media.FILE_PATH]: layer.media_type for layer in written.manifest.layers}
        kinds = {
            "docker": "application/vnd.docker.ai.model.file",
            "modelpack": "application/vnd.cncf.model.weight.v1.raw",
        }
        assert types["pytorch_model.bin"] == kinds[row.name]
        read = row.read(written.manifest, written.config)
        assert {part.name: part.role for part in read.parts} == {
            "config.json": Role.CONFIG,
            "pytorch_model.bin": Role.BIN,
        }
        assert read.facts.format == "bin"

    def test_beside_weights_it_is_one_more_file(self, row: Format, models: dict[str, Model], part: Any) -> None:
        parts = (*models["folder"].parts, part(Role.BIN, "pytorch_model.bin"))
        written = row.write(Model(parts, models["folder"].facts), None)
        read = row.read(written.manifest, written.config)
        assert [one.name for one in read.of(Role.BIN)] == ["pytorch_model.bin"]
        assert len(read.of(Role.WEIGHTS)) == 2
        assert read.facts.format == "safetensors"

    def test_others_weights_in_a_bin_are_not_opened(self, made: Callable[..., Manifest]) -> None:
        layer = ("application/vnd.cncf.model.weight.v1.raw", {media.FILE_PATH: "pytorch_model.bin"})
        model = modelpack.ROW.read(made(modelpack.CONFIG_TYPE, layer), BARE["modelpack"])
        assert [part.role for part in model.parts] == [Role.BIN]
        assert model.facts.format == "bin"
