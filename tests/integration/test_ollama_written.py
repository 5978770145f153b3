"""A model written in Ollama's format: a real registry takes it, and what pulls from Ollama's registries reads it."""

from __future__ import annotations

import hashlib
import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
KIND = "application/vnd.ollama.image."


def get(registry: RegistryProcess, path: str) -> tuple[str, Any]:
    connection = HTTPConnection(registry.host)
    connection.request("GET", path, headers={"Accept": DOCKER_MANIFEST})
    response = connection.getresponse()
    data = json.loads(response.read())
    connection.close()
    return response.headers.get("Content-Type", ""), data


def test_it_is_pushed_pulled_and_run(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess, tmp_path: Path
) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0]['content'] }}")
    terms = tmp_path / "LICENSE"
    terms.write_text("CC0")
    lading(
        "pack", story, "-t", "story:1", "--template", template, "--license", terms,
        "--param", "ctx-size=256", "--param", "temp=0.5",
    )  # fmt: skip
    reference = f"{plain_registry.host}/library/written:1"
    told = lading("push", "story:1", reference, "--format", "ollama").stderr
    assert "t.jinja is left out" in told

    kind, manifest = get(plain_registry, "/v2/library/written/manifests/1")
    assert kind == DOCKER_MANIFEST
    assert manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    digests = {layer["mediaType"].removeprefix(KIND): layer["digest"] for layer in manifest["layers"]}
    assert list(digests) == ["model", "license", "params"]
    assert digests["model"] == f"sha256:{hashlib.sha256(story.read_bytes()).hexdigest()}"
    _kind, params = get(plain_registry, f"/v2/library/written/blobs/{digests['params']}")
    assert params == {"num_ctx": 256, "temperature": 0.5}
    _kind, config = get(plain_registry, f"/v2/library/written/blobs/{manifest['config']['digest']}")
    assert (config["model_family"], config["rootfs"]["diff_ids"]) == ("llama", list(digests.values()))

    lading.environment["LADING_STORE"] = str(tmp_path / "other")
    lading("pull", f"ollama://{plain_registry.host}/written:1", "-t", "pulled:1")
    found = json.loads(lading("inspect", "pulled:1", "--json").stdout)
    assert (found["format"], found["settings"]) == ("ollama", {"ctx_size": 256, "temperature": 0.5})
    assert [(part["role"], part["name"]) for part in found["parts"]] == [
        ("weights", "story.gguf"),
        ("licence", "LICENSE"),
    ]
    assert lading("run", "pulled:1", "Once upon a time", "-n", "4").stdout.strip()


def test_what_it_cannot_hold_is_refused_before_anything_is_sent(
    lading: CommandLine, plain_registry: RegistryProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    lading("pack", folder, "-t", "bert:1")
    told = lading("push", "bert:1", f"{plain_registry.host}/library/bert:1", "--format", "ollama", code=6).stderr
    assert "Ollama's format holds one GGUF file" in told
    assert get(plain_registry, "/v2/library/bert/manifests/1")[1]["errors"]
