from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from archives import Layers, files

from lading.artifact import FORMATS, READ_ONLY, kitops
from lading.artifact.layers import list_archives
from lading.digest import Digest
from lading.errors import FormatError, UsageError
from lading.manifest import Manifest
from lading.model import Model, ModelFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

KIT = "application/vnd.kitops.modelkit."
ROW = kitops.ROW


def kit(source: Layers, kitfile: Mapping[str, Any], *layers: tuple[str, bytes]) -> tuple[Manifest, bytes]:
    """Make a ModelKit as kit does: a tar for each entry of the Kitfile, whose JSON is the config."""
    blobs = tuple(source.add(archive, f"{KIT}{kind}.v1.tar") for kind, archive in layers)
    config = json.dumps(kitfile).encode()
    return Manifest.build(source.add(config, KIT + "config.v1+json"), blobs), config


def read(kitfile: Mapping[str, Any], *layers: tuple[str, bytes]) -> Model:
    source = Layers()
    manifest, config = kit(source, kitfile, *layers)
    assert [row.name for row in (*FORMATS, *READ_ONLY) if row.detect(manifest)] == ["kitops"]
    return ROW.read(manifest, config, list_archives(ROW.archives(manifest, config), source))


def names(model: Model) -> list[tuple[str, str]]:
    return [(part.role.value, part.name) for part in model.parts]


PROJECT = {
    "manifestVersion": "1.0.0",
    "package": {"name": "chat", "version": "1.2", "authors": ["A"], "license": "MIT", "description": "A chat model"},
    "model": {
        "name": "llama3",
        "path": "./weights/llama.gguf",
        "framework": "llama.cpp",
        "license": "llama3",
        "parts": [
            {"name": "style", "path": "adapters/style.gguf", "type": "LoRA"},
            {"name": "eyes", "path": "mmproj-f16.gguf"},
        ],
        "parameters": {"anything": [1, {"goes": None}]},
    },
    "code": [{"path": "src"}],
    "datasets": [{"name": "train", "path": "data/train.jsonl"}],
    "docs": [{"path": "README.md"}, {"path": "LICENSE"}],
    "prompts": [{"path": "system.md"}],
}
LAYERS = (
    ("model", files(("weights/llama.gguf", b"GGUF"))),
    ("modelpart", files(("adapters/style.gguf", b"GGUF"))),
    ("modelpart", files(("mmproj-f16.gguf", b"GGUF"))),
    ("code", files(("src/run.py", b"#"), ("src/config.json", b"{}"), ("src/LICENSE", b"MIT"))),
    ("datasets", files(("data/train.jsonl", b"{}"))),
    ("docs", files(("README.md", b"#"))),
    ("docs", files(("LICENSE", b"MIT"))),
    ("prompts", files(("system.md", b"Be kind"))),
)


def test_a_whole_project_is_read() -> None:
    assert names(read(PROJECT, *LAYERS)) == [
        ("weights", "weights/llama.gguf"),
        ("adapter", "adapters/style.gguf"),
        ("projector", "mmproj-f16.gguf"),
        ("other", "src/run.py"),
        ("other", "src/config.json"),
        ("licence", "src/LICENSE"),
        ("other", "data/train.jsonl"),
        ("doc", "README.md"),
        ("licence", "LICENSE"),
        ("other", "system.md"),
    ]


def test_the_kitfile_tells_facts() -> None:
    assert read(PROJECT, *LAYERS).facts == ModelFacts(
        format="gguf", name="llama3", licence="llama3", description="A chat model"
    )


def test_a_folder_of_a_model_is_read_file_by_file() -> None:
    folder = files(
        ("m/config.json", b"{}"), ("m/model.safetensors", b"x"), ("m/tokenizer.json", b"{}"), ("m/README.md", b"#")
    )
    model = read({"model": {"path": "m"}}, ("model", folder))
    assert names(model) == [
        ("config", "m/config.json"),
        ("weights", "m/model.safetensors"),
        ("tokenizer", "m/tokenizer.json"),
        ("doc", "m/README.md"),
    ]
    assert model.facts.format == "safetensors"


def test_a_model_in_a_file_of_another_kind_is_known_by_its_path() -> None:
    model = read({"model": {"path": "./m.onnx", "format": "ONNX"}}, ("model", files(("m.onnx", b"x"))))
    assert names(model) == [("weights", "m.onnx")]
    assert model.facts.format == "onnx"


@pytest.mark.parametrize("kitfile", [{}, {"model": None, "docs": None}, {"package": None, "model": {"parts": None}}])
def test_a_kitfile_that_says_little_is_enough(kitfile: dict[str, Any]) -> None:
    assert names(read(kitfile, ("model", files(("a.gguf", b"GGUF"))))) == [("weights", "a.gguf")]


def test_a_kit_that_stands_for_anothers_model_is_refused_by_that_name() -> None:
    with pytest.raises(
        FormatError, match=r"no model of its own: it stands for the one of jozu.ml/x/llama:8b"
    ) as caught:
        read({"model": {"path": "jozu.ml/x/llama:8b"}}, ("docs", files(("README.md", b"#"))))
    assert "name the ModelKit" in caught.value.hint
    with pytest.raises(FormatError, match=r"no model of its own$"):
        read({}, ("docs", files(("README.md", b"#"))))


def test_each_layer_is_held_to_its_own_diff_id() -> None:
    source = Layers()
    archive = files(("a.gguf", b"GGUF"))
    kitfile = {"model": {"digest": Digest.of(archive), "diffId": "sha256:" + "0" * 64}}
    manifest, config = kit(source, kitfile, ("model", archive))
    assert [one.diff_id for one in ROW.archives(manifest, config)] == ["sha256:" + "0" * 64]
    with pytest.raises(FormatError, match="has the malformed diff_id `sha256:"):
        ROW.archives(manifest, config.replace(b"sha256:" + b"0" * 64, b"sha256:../.."))


@pytest.mark.parametrize("kind", ["model.v1.zip", "model.v2.tar", "model.v1.tar+xz", "MODEL.v1.tar"])
def test_a_layer_of_an_unknown_type_is_refused(kind: str) -> None:
    source = Layers()
    manifest = Manifest.build(source.add(b"{}", KIT + "config.v1+json"), (source.add(b"x", KIT + kind),))
    with pytest.raises(FormatError, match="has the unknown media type"):
        ROW.archives(manifest, b"{}")


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"model":[]}', b'{"package":{"name":7}}', b"\xff"])
def test_a_config_that_is_no_kitfile_is_refused(raw: bytes) -> None:
    source = Layers()
    manifest, _config = kit(source, {}, *LAYERS)
    with pytest.raises(FormatError, match="the ModelKit config is malformed"):
        ROW.archives(manifest, raw)


def test_none_is_written() -> None:
    with pytest.raises(UsageError):
        ROW.write(read(PROJECT, *LAYERS), None)
