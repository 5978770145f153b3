"""The image that a build makes, at a real registry and on its way into a runtime."""

from __future__ import annotations

import json
import re
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from archives import files as archive_of
from outcomes import digest, made, outcome

from lading import media
from lading.manifest import Descriptor, Manifest
from lading.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

COMMAND = ("-m", "/app/story.gguf", "--temp", "0.25", "-c", "256", "--threads", "1", "--host", "0.0.0.0")
# What GGUF Packer writes into an image's config, as far as it is read.
PACKERS = {
    "Cmd": ["-m", "story.gguf", "-c", "256", "--temp", "0.25"],
    "Model": {
        "Architecture": "llama",
        "CmdParameterValue": "story.gguf",
        "CmdParameterIndex": 1,
        "Parameters": 1443584,
    },
}


@pytest.fixture
def built(lading: CommandLine, storyteller: Path) -> str:
    """A model in the store as a build makes it, for two platforms."""
    store = Store(lading.store)
    files = {"/app/story.gguf": storyteller.read_bytes(), "/LICENSE": b"CC0"}
    made(store, outcome(store, files, COMMAND), name="tale:1")
    return "tale:1"


def test_inspect_needs_no_more_than_the_config(
    lading: CommandLine, built: str, storyteller: Path, plain_registry: RegistryProcess
) -> None:
    place = f"{plain_registry.host}/built/{lading.folder.parent.name.lower().replace('_', '-')}:1"
    here = json.loads(lading("inspect", built, "--json").stdout)
    [one, _other] = here["variants"]
    lading("push", built, place)
    lading("rm", built)
    by_digest = f"{place.removesuffix(':1')}@{one['digest']}"
    # Manifest and config: two requests, and not a byte of any layer.
    told = lading("inspect", by_digest).stdout
    assert "not in the store (2 requests, " in told.splitlines()[0]
    assert f"  command    -m app/story.gguf {' '.join(COMMAND[2:])}" in told
    there = json.loads(lading("inspect", by_digest, "--json").stdout)
    for key in ("model", "parts", "settings", "command", "size"):
        assert there[key] == here[key], key
    assert there["settings"] == {"ctx_size": 256, "temperature": 0.25}
    [weights] = [part for part in there["parts"] if part["role"] == "weights"]
    assert weights["digest"] == digest(storyteller.read_bytes())
    # By its tag an index comes before, and the manifests that it names are shown, too; of the layers still nothing.
    first = lading("inspect", place).stdout.splitlines()[0]
    said = re.search(r"\((\d+) requests, ([0-9.]+) kB read\)", first)
    assert said is not None, first
    assert int(said[1]) <= 5
    assert float(said[2]) < 40


@contextmanager
def served(lading: CommandLine, name: str) -> Iterator[dict[str, object]]:
    told = json.loads(lading("serve", name, "--detach", "-p", "0", "--name", "it", "--json").stdout)
    try:
        with urllib.request.urlopen(f"{told['url']}/props", timeout=60) as answer:
            yield json.load(answer)
    finally:
        lading("stop", "it")


def test_a_server_takes_the_settings_that_its_command_may_decide(lading: CommandLine, built: str) -> None:
    with served(lading, built) as props:
        defaults = props["default_generation_settings"]
    assert isinstance(defaults, dict)
    assert defaults["n_ctx"] == 256
    assert defaults["params"]["temperature"] == pytest.approx(0.25)


def test_a_setting_of_its_command_that_is_not_taken_is_told(lading: CommandLine, storyteller: Path) -> None:
    store = Store(lading.store)
    command = ("-m", "story.gguf", "-c", "128", "--temp", "0.25", "--seed", "-1", "--mlock")
    made(store, outcome(store, {"/story.gguf": storyteller.read_bytes()}, command), name="narrow:1")
    told = lading("run", "narrow:1", "Once", "-n", "1").stderr
    assert "warning: the model's command asks in vain for ctx-size 128 (it may be 256 to 16,777,216)\n" in told
    assert told.count("in vain") == 1


def test_its_command_goes_along_into_other_formats_and_back(lading: CommandLine, storyteller: Path) -> None:
    store = Store(lading.store)
    done = outcome(store, {"/app/story.gguf": storyteller.read_bytes()}, COMMAND)
    made(store, done, "docker", "artifact:1")
    lading("copy", "artifact:1", "image:1", "--format", "image", "--platform", "linux/amd64")
    config = json.loads(lading("inspect", "image:1", "--config").stdout)["config"]
    assert config["Cmd"] == ["-m", "/models/app/story.gguf", *COMMAND[2:]]
    lading("copy", "image:1", "artifact:2", "--format", "docker")
    for name in ("artifact:1", "image:1", "artifact:2"):
        told = json.loads(lading("inspect", name, "--json").stdout)
        assert told["command"] == ["-m", "app/story.gguf", *COMMAND[2:]]
        assert told["settings"] == {"ctx_size": 256, "temperature": 0.25}
    assert told["digest"] == json.loads(lading("inspect", "artifact:1", "--json").stdout)["digest"]


def test_an_image_of_gguf_packer_is_served_as_its_command_says(lading: CommandLine, storyteller: Path) -> None:
    store = Store(lading.store)
    store.prepare()
    layer = archive_of(("story.gguf", storyteller.read_bytes()))
    config = {"architecture": "amd64", "os": "linux", "config": PACKERS}
    raw = json.dumps({**config, "rootfs": {"type": "layers", "diff_ids": [str(digest(layer))]}}).encode()
    blobs = [
        Descriptor(media_type=kind, digest=store.put_bytes(data), size=len(data))
        for kind, data in ((media.OCI_CONFIG, raw), ("application/vnd.oci.image.layer.v1.tar", layer))
    ]
    store.put_document(Manifest.build(blobs[0], (blobs[1],)), "packed:1")
    with served(lading, "packed:1") as props:
        defaults = props["default_generation_settings"]
    assert isinstance(defaults, dict)
    assert defaults["n_ctx"] == 256


def test_a_chat_template_that_is_written_out_in_the_command_is_the_one_in_force(
    lading: CommandLine, storyteller: Path
) -> None:
    template = "{% for m in messages %}<<{{ m.content }}>>{% endfor %}"
    store = Store(lading.store)
    files = {"/story.gguf": storyteller.read_bytes()}
    done = outcome(store, files, ("-m", "story.gguf", "--chat-template", template))
    made(store, done, name="tale:2")
    with served(lading, "tale:2") as props:
        assert props["chat_template"] == template
    lading("prune")
    with served(lading, "tale:2") as props:
        assert props["chat_template"] == template
