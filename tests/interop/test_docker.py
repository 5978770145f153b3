"""docker with a real daemon, which takes images and nothing else."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from interop_table import READS, WRITES, Row, rows
from written import ALL, ONE, tag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engines import Docker
    from real_registry import RegistryProcess
    from written import Ours

    from conftest import CommandLine

pytestmark = pytest.mark.integration

NO_LAYOUT = "blobs/json: no such file or directory"


def weights_in(docker: Docker, image: str) -> str:
    """Return what the model's file in an image hashes to."""
    container = docker("create", image, "none").strip()
    target = docker.run.folder / container
    docker("cp", f"{container}:/models/story.gguf", target)
    return sha256(target.read_bytes()).hexdigest()


@rows(
    Row("docker", READS, "image", "registry"),
    Row("docker", READS, ALL, "registry"),
    Row("docker", READS, "docker", "registry", "archive/tar: invalid tar header"),
    Row("docker", READS, "modelpack", "registry", "unsupported media type application/vnd.cncf.model.config.v1+json"),
)
def test_docker_pulls_our_image(row: Row, ours: Ours, docker: Docker, tried: Callable[[str], None]) -> None:
    place = ours.place(row.form)
    if row.cannot:
        assert row.cannot in docker.refused("pull", place)
    else:
        docker("pull", "--quiet", place)
        assert weights_in(docker, place) == ours.weights
    tried(docker.version)


@rows(
    *(Row("docker", READS, form, "archive") for form in ("image", ONE, ALL)),
    *(Row("docker", READS, form, "archive", NO_LAYOUT) for form in ("docker", "modelpack")),
)
def test_a_docker_of_before_image_layouts_loads_images_alone(
    row: Row, ours: Ours, docker: Docker, tried: Callable[[str], None]
) -> None:
    if row.cannot:
        assert row.cannot in docker.refused("load", "--input", ours.archive(row.form))
    else:
        name = f"story:{tag(row.form)}"
        assert docker("load", "--quiet", "--input", ours.archive(row.form)).split() == ["Loaded", "image:", name]
        assert weights_in(docker, name) == ours.weights
    tried(docker.version)


@rows(Row("docker", READS, "image", "FROM"))
def test_docker_builds_upon_our_image(row: Row, ours: Ours, docker: Docker, tried: Callable[[str], None]) -> None:
    context = docker.run.folder / "upon"
    context.mkdir()
    (context / "Dockerfile").write_text(f"{row.through} {ours.place('image')}\nCOPY Dockerfile /\n")
    docker("build", "--quiet", "--tag", "upon", context)
    assert weights_in(docker, "upon") == ours.weights
    tried(docker.version)


@rows(Row("docker", WRITES, "image, gzip", "registry"), Row("docker", WRITES, "image", "docker-archive"))
def test_a_model_in_an_image_that_docker_built_is_read(
    row: Row,
    ours: Ours,
    docker: Docker,
    storyteller: Path,
    lading: CommandLine,
    plain_registry: RegistryProcess,
    tried: Callable[[str], None],
) -> None:
    context = docker.run.folder / row.name
    context.mkdir()
    (context / "story.gguf").write_bytes(storyteller.read_bytes())
    (context / "Dockerfile").write_text("FROM scratch\nCOPY story.gguf /models/\n")
    place = f"{plain_registry.host}/docker/{row.through}:1"
    docker("build", "--quiet", "--tag", place, context)
    if row.through == "registry":
        docker("push", "--quiet", place)
        lading("pull", place)
    else:
        docker("save", "--output", context / "saved.tar", place)
        lading("load", context / "saved.tar")
    [found] = json.loads(lading("list", "--json").stdout)
    assert (found["reference"], found["format"]) == (place, "image")
    assert lading("run", place, "Once upon a time", "-n", "2").stdout.strip()
    [unpacked] = lading.store.glob("models/*/story.gguf")
    assert sha256(unpacked.read_bytes()).hexdigest() == ours.weights
    tried(docker.version)
