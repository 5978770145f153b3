"""One file, four places to pull it from: the store keeps its bytes once."""

from __future__ import annotations

import json
import subprocess
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from checker import check_store
from ollama_push import push_ollama

if TYPE_CHECKING:
    from pathlib import Path

    from hostile_server import Hostile, Reply
    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

SMALL = 512 * 1024
"""More than all manifests, configs, templates, locks and the reserve together."""


def used(folder: Path) -> int:
    """Return the bytes that du counts on the disk."""
    done = subprocess.run(["du", "-s", "--block-size=1", folder], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def test_four_transports_of_one_file_end_in_one_blob_and_four_names(
    lading: CommandLine,
    hub: LoopbackHub,
    plain_registry: RegistryProcess,
    hostile: Hostile,
    reply: type[Reply],
    story: Path,
    tmp_path: Path,
) -> None:
    data = story.read_bytes()
    digest = f"sha256:{sha256(data).hexdigest()}"
    hub.add("team/story-GGUF", {"story-F16.gguf": data})
    lading.environment["HF_ENDPOINT"] = hub.url
    push_ollama(plain_registry, "library/same", "1", data)
    for method in ("HEAD", "GET"):
        hostile.on(method, "/story.gguf", reply(200, data, {"ETag": '"one"'}))
    elsewhere = {"LADING_STORE": str(tmp_path / "elsewhere")}
    lading("pack", story, "-t", "story:1", more=elsewhere)
    lading("push", "story:1", f"{plain_registry.host}/team/same:1", more=elsewhere)

    def pulled(reference: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(lading("pull", reference, "--json").stdout)[0]
        return answer

    first = pulled("hf://team/story-GGUF:F16")
    assert first["new_bytes"] >= len(data)
    alone = used(lading.store)
    for reference in (
        f"ollama://{plain_registry.host}/library/same:1",
        f"oci://{plain_registry.host}/team/same:1",
    ):
        assert pulled(reference)["new_bytes"] < SMALL, f"{reference} names a digest that is here"
    # A plain URL tells no digest: its bytes are fetched, and are found to be here.
    pulled(f"{hostile.url}/story.gguf")

    listed = json.loads(lading("list", "--json").stdout)
    assert sorted(one["reference"].partition(":")[0] for one in listed) == ["hf", "localhost", "ollama", "url"]
    assert len({one["digest"] for one in listed}) == 4
    for one in listed:
        shown = json.loads(lading("inspect", one["reference"], "--json").stdout)
        assert [part["digest"] for part in shown["parts"] if part["role"] == "weights"] == [digest]
    large = [path for path in lading.store.rglob("*") if path.is_file() and path.stat().st_size >= len(data)]
    assert large == [lading.store / "blobs" / digest.replace(":", "/")]
    assert large[0].stat().st_nlink == 1
    assert len(data) <= used(lading.store) <= len(data) + SMALL
    assert used(lading.store) - alone < SMALL // 4
    check_store(lading.store, committed=[digest], arriving=0)
    assert "no faults" in lading("verify").stdout
    # Each name keeps the bytes by itself.
    for one in listed[:-1]:
        lading("rm", one["reference"])
    lading("prune")
    assert large[0].exists()
    assert lading("run", listed[-1]["reference"], "Once upon a time", "-n", "4").stdout.strip()
