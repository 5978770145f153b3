"""Checkpoints of other architectures, as transformers writes them: packed as folders, carried and looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from real_registry import RegistryProcess

    from conftest import CommandLine

MODELS = Path(__file__).parents[2] / ".tools/tiny/models"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not MODELS.is_dir(), reason="no tiny models: `make system` makes them with torch"),
]

EXPECTED: dict[str, dict[str, Any]] = {
    "llama-bpe": {"architecture": "llama", "file_type": "BF16", "context_length": 2048, "chat_template": True},
    "llama-spm": {"architecture": "llama", "file_type": "F16", "context_length": 2048, "chat_template": True},
    "qwen2": {"architecture": "qwen2", "file_type": "BF16", "context_length": 2048, "chat_template": True},
    "bert": {"architecture": "bert", "file_type": "F32", "context_length": 512, "chat_template": False},
}


def inspected(lading: CommandLine, reference: str | Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(lading("inspect", reference, "--json").stdout)
    return document


@pytest.mark.parametrize("name", EXPECTED)
def test_a_folder_tells_what_it_is(lading: CommandLine, name: str) -> None:
    model = inspected(lading, MODELS / name)["model"]
    assert {key: model[key] for key in EXPECTED[name]} == EXPECTED[name]
    assert model["parameters"] > 1_000_000
    assert model["vocabulary_size"] == 4096


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("form", ["docker", "modelpack"])
def test_a_folder_is_carried_whole(lading: CommandLine, plain_registry: RegistryProcess, name: str, form: str) -> None:
    reference = f"{plain_registry.host}/tiny/{name}:{form}"
    lading("pack", MODELS / name, "-t", reference, "--format", form)
    packed = inspected(lading, reference)
    lading("push", reference)
    lading("rm", reference)
    lading("prune")
    lading("pull", reference)
    pulled = inspected(lading, reference)
    assert pulled["digest"] == packed["digest"]
    assert pulled["model"] == packed["model"]
    assert {part["name"] for part in pulled["parts"]} == {file.name for file in (MODELS / name).iterdir()}
    assert "no faults" in lading("verify").stdout


def test_what_no_runtime_here_serves_is_said(lading: CommandLine) -> None:
    lading("pack", MODELS / "qwen2", "-t", "qwen2:1")
    assert "GGUF" in lading("run", "qwen2:1", "hello", code=8).stderr


def test_an_adapter_alone_is_no_model(lading: CommandLine) -> None:
    assert "weights" in lading("pack", MODELS / "llama-lora", "-t", "lora:1", code=6).stderr
