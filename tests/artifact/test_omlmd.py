from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lading import media
from lading.artifact import FORMATS, READ_ONLY, omlmd
from lading.errors import FormatError, UsageError
from lading.model import ModelFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.manifest import Manifest

MODEL, CONFIG = "application/x-mlmodel", "application/x-config"
ROW = omlmd.ROW
# What omlmd 0.1.6 pushes: null where nothing was given.
METADATA = {
    "name": "Story",
    "description": "Tells stories",
    "author": "A. N. Author",
    "customProperties": {"accuracy": 0.9},
    "uri": None,
    "model_format_name": "gguf",
    "model_format_version": "3",
}
DOCUMENTS = (
    (CONFIG, {media.TITLE: "model_metadata.omlmd.json"}),
    (CONFIG, {media.TITLE: "model_metadata.omlmd.yaml"}),
)


def pushed(made: Callable[..., Manifest], name: str) -> Manifest:
    return made(CONFIG, (MODEL, {media.TITLE: name}), *DOCUMENTS)


def test_a_pushed_model_is_read(made: Callable[..., Manifest]) -> None:
    manifest = pushed(made, "story.gguf")
    assert [row.name for row in (*FORMATS, *READ_ONLY) if row.detect(manifest)] == ["omlmd"]
    model = ROW.read(manifest, json.dumps(METADATA).encode())
    assert [(part.role.value, part.name) for part in model.parts] == [
        ("weights", "story.gguf"),
        ("doc", "model_metadata.omlmd.json"),
        ("doc", "model_metadata.omlmd.yaml"),
    ]
    assert model.facts == ModelFacts(format="gguf", name="Story", vendor="A. N. Author", description="Tells stories")
    assert ROW.archives(manifest, b"{}") == ()


def test_the_format_is_that_of_the_file_where_its_name_tells(made: Callable[..., Manifest]) -> None:
    said = b'{"model_format_name":"ONNX"}'
    assert ROW.read(pushed(made, "a.safetensors"), said).facts.format == "safetensors"
    assert ROW.read(pushed(made, "a.onnx"), said).facts.format == "onnx"
    assert ROW.read(pushed(made, "a.onnx"), b"{}").facts.format == ""


def test_other_configs_of_that_common_name_are_none_of_ours(made: Callable[..., Manifest]) -> None:
    assert not ROW.detect(made(CONFIG, *DOCUMENTS))
    assert not ROW.detect(made("application/json", (MODEL, {media.TITLE: "a.gguf"})))


def test_a_layer_without_a_name_is_refused(made: Callable[..., Manifest]) -> None:
    with pytest.raises(FormatError, match="names no file"):
        ROW.read(made(CONFIG, (MODEL, {})), b"{}")


@pytest.mark.parametrize("name", ["../a.gguf", "/a.gguf", "a\\b"])
def test_a_name_that_leads_elsewhere_is_refused(made: Callable[..., Manifest], name: str) -> None:
    with pytest.raises(FormatError, match="impossible name"):
        ROW.read(pushed(made, name), b"{}")


def test_an_adapter_alone_is_no_model(made: Callable[..., Manifest]) -> None:
    with pytest.raises(FormatError, match="no weights"):
        ROW.read(pushed(made, "adapter_model.safetensors"), b"{}")


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"name":7}', b"name: yaml"])
def test_a_config_that_is_no_metadata_is_refused(made: Callable[..., Manifest], raw: bytes) -> None:
    with pytest.raises(FormatError, match="the omlmd config is malformed"):
        ROW.read(pushed(made, "a.gguf"), raw)


def test_a_packed_layer_is_refused(made: Callable[..., Manifest]) -> None:
    with pytest.raises(FormatError, match="is packed"):
        ROW.read(made(CONFIG, (MODEL, {media.TITLE: "a.gguf"}), ("application/gzip", {media.TITLE: "b"})), b"{}")


def test_none_is_written(made: Callable[..., Manifest]) -> None:
    with pytest.raises(UsageError):
        ROW.write(ROW.read(pushed(made, "a.gguf"), b"{}"), None)
