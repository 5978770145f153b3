"""`lading inspect` at a real registry: raw documents, an index's variants, a repository's tags."""

from __future__ import annotations

import hashlib
import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def get(registry: RegistryProcess, path: str) -> bytes:
    connection = HTTPConnection(registry.host)
    connection.request("GET", path, headers={"Accept": f"{MANIFEST}, {INDEX}"})
    data = connection.getresponse().read()
    connection.close()
    return data


@pytest.fixture
def repository(lading: CommandLine, story: Path, plain_registry: RegistryProcess) -> str:
    """A repository with the example model in two formats, and an index of both under `both`; the store has none of it."""
    name = f"{plain_registry.host}/inspect/{lading.folder.parent.name.lower().replace('_', '-')}"
    entries = []
    for form in ("docker", "modelpack"):
        lading("pack", story, "-t", f"{name}:{form}", "--format", form)
        lading("push", f"{name}:{form}")
        raw = lading("inspect", f"{name}:{form}", "--manifest").stdout.encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        entries.append(
            {
                "mediaType": MANIFEST,
                "digest": digest,
                "size": len(raw),
                "annotations": {"io.lading.form": form},
            }
        )
        lading("rm", f"{name}:{form}")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    connection = HTTPConnection(plain_registry.host)
    path = name.partition("/")[2]
    connection.request("PUT", f"/v2/{path}/manifests/both", body=index, headers={"Content-Type": INDEX})
    assert connection.getresponse().status == 201
    connection.close()
    lading("prune")
    return name


def test_a_repository_without_a_tag_is_its_tags(lading: CommandLine, repository: str) -> None:
    told = lading("pull", f"{repository}:9", code=3).stderr
    assert f"hint: lading inspect {repository} lists them" in told
    page = lading("inspect", repository).stdout
    assert "repository" in page.splitlines()[0]
    assert "  tags       both, docker, modelpack" in page
    document = json.loads(lading("inspect", repository, "--json").stdout)
    assert (document["format"], document["digest"]) == ("repository", None)
    assert document["tags"] == ["both", "docker", "modelpack"]
    assert json.loads(lading("inspect", f"{repository}:docker", "--json").stdout)["tags"] is None


def test_latest_is_shown_with_the_tags_beside_it(
    lading: CommandLine, repository: str, plain_registry: RegistryProcess
) -> None:
    path = repository.partition("/")[2]
    raw = get(plain_registry, f"/v2/{path}/manifests/docker")
    connection = HTTPConnection(plain_registry.host)
    connection.request("PUT", f"/v2/{path}/manifests/latest", body=raw, headers={"Content-Type": MANIFEST})
    assert connection.getresponse().status == 201
    connection.close()
    page = lading("inspect", repository).stdout
    assert "Storyteller, llama" in page
    assert "  tags       both, docker, latest, modelpack" in page


def test_raw_documents_are_those_of_the_registry(
    lading: CommandLine, repository: str, plain_registry: RegistryProcess
) -> None:
    path = repository.partition("/")[2]
    for tag in ("docker", "modelpack", "both"):
        raw = get(plain_registry, f"/v2/{path}/manifests/{tag}")
        assert lading("inspect", f"{repository}:{tag}", "--manifest").stdout.encode() == raw
    config = json.loads(get(plain_registry, f"/v2/{path}/manifests/docker"))["config"]["digest"]
    raw = get(plain_registry, f"/v2/{path}/blobs/{config}")
    assert lading("inspect", f"{repository}:docker", "--config").stdout.encode() == raw
    assert "name one of its manifests" in lading("inspect", f"{repository}:both", "--config", code=6).stderr


def test_an_index_shows_its_variants_and_the_model(lading: CommandLine, repository: str) -> None:
    page = lading("inspect", f"{repository}:both").stdout
    assert "docker,modelpack   not in the store" in page.splitlines()[0]
    assert "Storyteller, llama" in page
    assert "  variants   docker " in page
    tree = lading("inspect", f"{repository}:both", "--tree").stdout.splitlines()
    assert [line.split()[:2] for line in tree[1:3]] == [["index", tree[1].split()[1]], ["├─", "manifest"]]
    assert sum("shared" in line for line in tree) == 2
    assert not (lading.store / "blobs/sha256").exists() or not any((lading.store / "blobs/sha256").iterdir())


def test_one_view_at_a_time(lading: CommandLine, repository: str) -> None:
    told = lading("inspect", f"{repository}:both", "--tree", "--json", code=2).stderr
    assert "one at a time" in told
