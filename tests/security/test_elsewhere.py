"""Addresses from strangers: what a manifest or a hub points at is not followed with a secret, or not at all (S10, S27)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from checker import check_store, snapshot
from small_artifact import CONFIG, WEIGHTS, manifest

from lading.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from hostile_server import Hostile, Reply
    from hub import LoopbackHub

    from conftest import CommandLine

    from .conftest import Registry

HOSTILE_NAMES = {
    "parent": "../../escape-Q4_K_M.gguf",
    "parent inside": "a/../../../escape-Q4_K_M.gguf",
    "absolute": "/tmp/escape-Q4_K_M.gguf",
    "NUL": "escape\0-Q4_K_M.gguf",
    "newline": "escape\nerror: all is well-Q4_K_M.gguf",
    "ESC": "escape\x1b]0;owned\x07\x1b[2J-Q4_K_M.gguf",
    "backslash": "..\\escape-Q4_K_M.gguf",
    "300 bytes": "escape" + "x" * 300 + "-Q4_K_M.gguf",
}
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def with_urls(canary: Hostile, media_type: str | None = None) -> dict[str, Any]:
    """Return a manifest whose config and layer say that they are to be had from the canary."""
    tree = manifest()
    for blob in (tree["config"], *tree["layers"]):
        blob["urls"] = [f"{canary.url}/{blob['digest']}", "file:///etc/passwd"]
    if media_type:
        tree["layers"][0]["mediaType"] = media_type
    return tree


def login(lading: CommandLine, host: str) -> None:
    folder = lading.folder / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": "c2FtOmNhbmFyeQ=="}}}))


def test_the_urls_of_a_layer_are_never_asked(
    lading: CommandLine, registry: Registry, canary: Hostile, reply: type[Reply]
) -> None:
    """S10: foreign layers. What the registry has is taken from it; what it lacks is missing, not fetched elsewhere."""
    for data in (CONFIG, WEIGHTS):
        canary.on("GET", f"/{Digest.of(data)}", reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
    login(lading, registry.server.host)
    reference = registry.serve(with_urls(canary))
    assert lading("pull", reference).stdout.startswith("pulled")
    for data in (CONFIG, WEIGHTS):
        lading("rm", reference)
        lading("prune")
        registry.serve(with_urls(canary))
        registry.server.on("GET", f"/v2/team/small/blobs/{Digest.of(data)}", reply(404))
        lading("pull", reference, code=3)
        registry.serve(with_urls(canary))
        lading("pull", reference)
    lading("pull", registry.serve(with_urls(canary, FOREIGN)), code=6)
    assert canary.asked == []


def test_a_pushed_manifest_gets_no_blob_from_its_urls(
    lading: CommandLine, registry: Registry, canary: Hostile, reply: type[Reply]
) -> None:
    """S10: nor does a push ask there for what it sends."""
    reference = registry.serve(with_urls(canary))
    lading("pull", reference)
    taken: list[str] = []

    def take(asked: Any) -> Reply:
        taken.append(asked.target)
        return reply(201)

    for data in (CONFIG, WEIGHTS):
        registry.server.on("HEAD", f"/v2/team/copy/blobs/{Digest.of(data)}", reply(404))
    registry.server.on("POST", "/v2/team/copy/blobs/uploads/", reply(202, b"", {"Location": "/up"}))
    for method, path in (("PUT", "/up"), ("PATCH", "/up"), ("PUT", "/v2/team/copy/manifests/1")):
        registry.server.on(method, path, take)
    lading("push", reference, f"{registry.server.host}/team/copy:1")
    assert any("/up" in target for target in taken)
    assert canary.asked == []


@pytest.mark.parametrize("kind", HOSTILE_NAMES)
@pytest.mark.parametrize("transport", ["hf", "ms"])
def test_a_hostile_name_in_a_hubs_listing_writes_nothing_and_reaches_no_terminal(
    lading: CommandLine, hub: LoopbackHub, tmp_path: Path, transport: str, kind: str
) -> None:
    """S27: names from a listing are refused before anything is fetched, and told without their control characters."""
    name = HOSTILE_NAMES[kind]
    lading.environment |= {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
    hub.add("team/bad", {"good-Q4_K_M.gguf": WEIGHTS}, listed={"good-Q4_K_M.gguf": name})
    before = snapshot(tmp_path)
    for command in ("pull", "inspect"):
        done = lading(command, f"{transport}://team/bad:Q4_K_M", code=6)
        assert done.stderr.replace("\n", "").isprintable()
        assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == done.stderr.splitlines()[:1]
    assert not hub.sent
    assert snapshot(tmp_path, without=[lading.store]) == before
    assert check_store(lading.store) == {}
    assert not list(tmp_path.parent.glob("**/*escape*"))


@pytest.mark.parametrize("kind", HOSTILE_NAMES)
def test_a_hostile_name_in_a_manifest_writes_nothing_and_reaches_no_terminal(
    lading: CommandLine, registry: Registry, tmp_path: Path, kind: str
) -> None:
    """S27: the same for the file names in a manifest's annotations."""
    layer = manifest()["layers"][0] | {"annotations": {"org.cncf.model.filepath": HOSTILE_NAMES[kind]}}
    reference = registry.serve(manifest(layers=[layer]))
    before = snapshot(tmp_path)
    for command, code in (("pull", 6), ("list", 0)):
        done = lading(command, *([reference] if code else []), code=code)
        assert (done.stdout + done.stderr).replace("\n", "").isprintable()
    assert snapshot(tmp_path, without=[lading.store]) == before
    assert check_store(lading.store) == {}
    assert not list(tmp_path.parent.glob("**/*escape*"))


def test_names_that_differ_only_in_case_are_refused_together(lading: CommandLine, hub: LoopbackHub) -> None:
    """S27: two files that some disks would make one; neither is fetched."""
    lading.environment["HF_ENDPOINT"] = hub.url
    files = {"small-Q4_K_M.gguf": WEIGHTS, "LICENSE": b"CC0", "LICENSE.txt": b"CC0"}
    hub.add("team/case", files, listed={"LICENSE.txt": "license"})
    assert "one file on many disks" in lading("pull", "hf://team/case:Q4_K_M", code=6).stderr
    assert not hub.sent
