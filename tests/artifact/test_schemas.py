"""Every manifest and config that is written is valid under the schemas that their projects publish, whatever was said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lading.artifact import FORMATS, Format, Written, ollama
from lading.artifact.layers import wrapped_part
from lading.digest import Digest
from lading.errors import FormatError
from lading.manifest import Platform
from lading.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIGS = {
    "docker": str(Path(__file__).parents[2] / "docs/spec/docker-model-config.schema.json"),
    "modelpack": "modelpack/config-schema.json",
    "image": "oci/config-schema.json",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "said": {
        "name": "Tales",
        "licence": "MIT",
        "settings": {"ctx_size": 256, "stop": ["x"], "temperature": 0.7},
        "annotations": {"org.example.team": "chat"},
    },
}


def write(row: Format, model: Model, created: str | None = None) -> Written:
    """Write a model, its files first wrapped where layers are not files."""
    wrap = row.wrap
    if wrap is None:
        return row.write(model, created)
    parts = (wrapped_part(part, wrap(part.name, part.size), Digest.of(part.name.encode())) for part in model.parts)
    return row.write(Model(tuple(parts), model.facts), created)


@pytest.mark.parametrize("created", [None, "2026-01-02T03:04:05Z"])
@pytest.mark.parametrize("said", OPTIONS)
@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_manifest_and_config(
    row: Format, model: Model, valid: Callable[[str, bytes], Any], said: str, created: str | None
) -> None:
    written = write(row, Model(model.parts, replace(model.facts, **OPTIONS[said])), created)
    valid("oci/image-manifest-schema.json", written.manifest.raw)
    valid(CONFIGS[row.name], written.config)


@pytest.mark.parametrize("said", OPTIONS)
def test_ollamas_manifest_is_of_the_same_shape(model: Model, valid: Callable[[str, bytes], Any], said: str) -> None:
    try:
        written = ollama.ROW.write(Model(model.parts, replace(model.facts, **OPTIONS[said])), None)
    except FormatError:
        assert model.facts.format != "gguf" or len(model.parts) > 1
        return
    valid("oci/image-manifest-schema.json", written.manifest.raw)


def test_images_for_other_platforms(models: dict[str, Model], valid: Callable[[str, bytes], Any]) -> None:
    model = Model((), models["gguf"].facts)
    (write_for,) = filter(None, (row.write_for for row in FORMATS))
    for platform in (Platform("arm64", "linux", "v8"), Platform("amd64", "windows")):
        tree = valid("oci/config-schema.json", write_for(model, None, platform).config)
        assert (tree["architecture"], tree["os"]) == (platform.architecture, platform.os)
