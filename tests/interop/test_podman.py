"""podman and buildah: a model as an image is pulled, mounted and built upon; what they build is a model here."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_table import READS, WRITES, Row, rows
from written import ALL

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines import Engines
    from real_registry import RegistryProcess
    from written import Ours

    from conftest import CommandLine

pytestmark = pytest.mark.integration

WAYS = ("registry", "layout", "archive")
NO_IMAGE = 'unsupported image-specific operation on artifact with type "{}"'
CONFIGS = {
    "docker": NO_IMAGE.format("application/vnd.docker.ai.model.config.v0.1+json"),
    "modelpack": NO_IMAGE.format("application/vnd.cncf.model.config.v1+json"),
}


def weights_in(folder: str) -> str:
    """Return what the model's file below an image's mounted root hashes to."""
    return sha256((Path(folder.strip()) / "models/story.gguf").read_bytes()).hexdigest()


@rows(*(Row("podman", READS, form, way) for form, way in product(("image", ALL), WAYS)))
def test_podman_has_the_model_of_our_image(
    row: Row, ours: Ours, engines: Engines, tried: Callable[[str], None]
) -> None:
    pulled = engines("podman", "pull", "--quiet", "--tls-verify=false", ours.at(row.form, row.through)).strip()
    assert weights_in(engines("podman", "image", "mount", pulled)) == ours.weights
    tried(engines("podman", "--version"))


@rows(*(Row("podman", READS, form, way, CONFIGS[form]) for form, way in product(CONFIGS, WAYS)))
def test_podman_takes_an_artifact_for_no_image(
    row: Row, ours: Ours, engines: Engines, tried: Callable[[str], None]
) -> None:
    assert row.cannot in engines.refused("podman", "pull", "--tls-verify=false", ours.at(row.form, row.through))
    tried(engines("podman", "--version"))


@rows(Row("podman", READS, "image", "run --mount type=image"))
def test_podman_mounts_our_image_in_a_container(
    row: Row, ours: Ours, engines: Engines, shell: str, tried: Callable[[str], None]
) -> None:
    place = ours.place("image")
    engines("podman", "pull", "--quiet", "--tls-verify=false", place)
    mount = f"type=image,source={place},destination=/model"
    told = ("/bin/sha256sum", "/model/models/story.gguf")
    # Waiting for the end of a container takes this podman 20 s where it ends at once.
    container = engines("podman", "run", "--detach", "--ipc=host", "--mount", mount, shell, *told).strip()
    deadline = time.monotonic() + 30
    while not (said := engines("podman", "logs", container)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert said.split() == [ours.weights, told[1]]
    tried(engines("podman", "--version"))


@rows(Row("podman", READS, "image", "FROM"), Row("podman", READS, "image", "COPY --from"))
def test_podman_builds_upon_our_image(
    row: Row, ours: Ours, engines: Engines, shell: str, tried: Callable[[str], None]
) -> None:
    place = ours.place("image")
    engines("podman", "pull", "--quiet", "--tls-verify=false", place)
    lines = {
        "FROM": [f"FROM {place}", "COPY README.md /models/"],
        "COPY --from": [f"FROM {shell}", f"COPY --from={place} /models /models", "RUN sha256sum /models/story.gguf"],
    }[row.through]
    built = f"localhost/{row.name}"
    engines.build(built.lower(), program="podman", files={"README.md": b"#"}, lines=lines)
    assert weights_in(engines("podman", "image", "mount", built.lower())) == ours.weights
    tried(engines("podman", "--version"))


@rows(*(Row("buildah", READS, form, way) for form, way in product(("image", ALL), WAYS)))
def test_buildah_has_the_model_of_our_image(
    row: Row, ours: Ours, engines: Engines, tried: Callable[[str], None]
) -> None:
    container = engines("buildah", "from", "--quiet", "--tls-verify=false", ours.at(row.form, row.through)).split()[-1]
    assert weights_in(engines("buildah", "mount", container)) == ours.weights
    tried(engines("buildah", "--version"))


@rows(*(Row("buildah", READS, form, way, CONFIGS[form]) for form, way in product(CONFIGS, WAYS)))
def test_buildah_takes_an_artifact_for_no_image(
    row: Row, ours: Ours, engines: Engines, tried: Callable[[str], None]
) -> None:
    assert row.cannot in engines.refused("buildah", "from", "--tls-verify=false", ours.at(row.form, row.through))
    tried(engines("buildah", "--version"))


@rows(
    Row("buildah", WRITES, "image, gzip", "registry"),
    Row("buildah", WRITES, "image, zstd", "registry"),
    Row("buildah", WRITES, "image, gzip", "layout"),
    Row("podman", WRITES, "image, gzip", "registry"),
    Row("podman", WRITES, "image, zstd", "registry"),
    Row("podman", WRITES, "image, gzip", "layout"),
    Row("podman", WRITES, "image, gzip", "archive"),
    Row("podman", WRITES, "image", "docker-archive"),
)
def test_a_model_in_an_image_that_was_built_is_read(
    row: Row,
    ours: Ours,
    engines: Engines,
    storyteller: Path,
    lading: CommandLine,
    plain_registry: RegistryProcess,
    tried: Callable[[str], None],
) -> None:
    # Something of its own in each, or a layer is taken from where it was pushed to before, compressed as it was then.
    files = {"story.gguf": storyteller.read_bytes(), "NOTES.md": f"{row.peer} {row.name}".encode()}
    lines = ["FROM scratch", "COPY . /models/"]
    built = engines.build(f"localhost/{row.peer}/{row.name}:1", program=row.peer, files=files, lines=lines)
    place = f"{plain_registry.host}/{row.peer}/{row.name}:1"
    target = f"{engines.folder}/{row.peer}-{row.name}"
    compression = row.form.partition(", ")[2] or "gzip"
    push = ("push", "--quiet", "--tls-verify=false", "--compression-format", compression)
    match row.through:
        case "registry":
            engines(row.peer, *push, built, f"docker://{place}")
            lading("pull", place)
        case "layout":
            engines(row.peer, *push, built, f"oci:{target}:1")
            lading("pull", f"oci-layout:{target}:1", "-t", "built:1")
        case archive:
            kind = "oci-archive" if archive == "archive" else archive
            engines("podman", "save", "--quiet", "--format", kind, "--output", target, built)
            lading("load", target)
    [found] = json.loads(lading("list", "--json").stdout)
    assert found["format"] == "image"
    assert [part["name"] for part in found["parts"]] == ["NOTES.md", "story.gguf"]
    assert lading("run", found["reference"], "Once upon a time", "-n", "2").stdout.strip()
    [unpacked] = lading.store.glob("models/*/story.gguf")
    assert sha256(unpacked.read_bytes()).hexdigest() == ours.weights
    tried(engines(row.peer, "--version"))
