"""One command brings a hub's model to a registry in three formats, and every kind of reader finds its own there."""

from __future__ import annotations

import json
import subprocess
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from engines import from_pypi

if TYPE_CHECKING:
    from pathlib import Path

    from engines import Engines
    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

FORMATS = ("docker", "modelpack", "image")
PULL = "import sys, oras.client as c; print(c.OrasClient(insecure=True).pull(sys.argv[1], outdir=sys.argv[2]))"


@pytest.fixture
def place(
    lading: CommandLine, hub: LoopbackHub, storyteller: Path, plain_registry: RegistryProcess, tmp_path: Path
) -> str:
    """What a new user types, and where the model is then."""
    hub.add("team/story-GGUF", {"story-Q4_K_M.gguf": storyteller.read_bytes(), "LICENSE": b"CC0 1.0 Universal\n"})
    lading.environment["HF_ENDPOINT"] = hub.url
    host = plain_registry.host.replace("localhost", "127.0.0.1")
    where = f"{host}/team-{sha256(str(tmp_path).encode()).hexdigest()[:8]}/model:q4"
    told = lading("copy", "hf://team/story-GGUF", f"oci://{where}", "--format", ",".join(FORMATS)).stdout
    assert [f"{where}-{form}" in told for form in FORMATS] == [True, True, True]
    assert not lading.store.exists()
    return where


def test_every_reader_takes_its_own_form_of_a_model(
    lading: CommandLine, place: str, engines: Engines, shell: str, storyteller: Path, tmp_path: Path
) -> None:
    weights = sha256(storyteller.read_bytes()).hexdigest()

    # podman mounts the image in a container.
    engines("podman", "pull", "--quiet", "--tls-verify=false", f"{place}-image")
    mount = f"type=image,source={place}-image,destination=/model"
    told = ("/bin/sha256sum", "/model/models/story-Q4_K_M.gguf")
    container = engines("podman", "run", "--detach", "--ipc=host", "--mount", mount, shell, *told).strip()
    deadline = time.monotonic() + 120
    while not (said := engines("podman", "logs", container)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert said.split() == [weights, told[1]]

    # One who reads Docker's format finds a manifest of its types, and one who reads ModelPack the like.
    types = {"docker": "application/vnd.docker.ai.", "modelpack": "application/vnd.cncf.model."}
    for form, prefix in types.items():
        source = f"docker://{place}-{form}"
        manifest = json.loads(engines("skopeo", "inspect", "--raw", "--tls-verify=false", source))
        assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        assert all(one["mediaType"].startswith(prefix) for one in (manifest["config"], *manifest["layers"]))
        out = tmp_path / form
        command = [from_pypi("oras", "python"), "-c", PULL, f"{place}-{form}", str(out)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        files = {path.name: sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}
        assert files["story-Q4_K_M.gguf"] == weights
        assert len(files) == 2

    # lading chooses for itself: the first whose files need no unpacking.
    assert lading("run", place, "hello", "-n", "4").stdout.strip()
    [found] = json.loads(lading("list", "--json").stdout)
    assert (found["reference"], found["format"]) == (place, "docker")
