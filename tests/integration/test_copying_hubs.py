"""`lading copy` from a hub straight to a registry: what is between them stays small."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
# Not ru_maxrss, which begins with what the parent had.
PEAK = """
import atexit, sys
from lading.cli.entry import main

@atexit.register
def tell():
    sys.stderr.write(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))

sys.exit(main())
"""


@pytest.fixture
def large_hub(hub: LoopbackHub, storyteller: Path) -> LoopbackHub:
    """A hub whose model has 128 MiB in files that it lists without their sha256."""
    noise = random.Random(4).randbytes(MIB)
    files = {f"extra-{number:02}.json": bytes([number]) + noise * 8 for number in range(16)}
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        files[name] = (storyteller.parent / name).read_bytes()
    hub.add("team/large", files)
    return hub


def test_a_hubs_many_small_files_are_never_all_in_memory(
    lading: CommandLine, large_hub: LoopbackHub, plain_registry: RegistryProcess
) -> None:
    place = f"{plain_registry.host}/{uuid.uuid4().hex[:12]}/large:1"
    store = lading.folder / "untouched"
    environment = {**lading.environment, "HF_ENDPOINT": large_hub.url, "LADING_STORE": str(store)}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "copy", "hf://team/large", place, "--json", "--quiet"],
        env=environment, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    peak = int(done.stderr.split("VmHWM:")[1].split()[0]) * 1024
    assert peak < 144 * MIB
    assert not store.exists()
    manifest = json.loads(
        subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{place}"], check=True, capture_output=True
        ).stdout
    )
    content = large_hub.repositories["team/large"].at("main")
    assert content is not None
    sums = {name: f"sha256:{one.sha256}" for name, one in content[1].items()}
    made = {layer["annotations"]["org.opencontainers.image.title"]: layer["digest"] for layer in manifest["layers"]}
    assert made == sums
