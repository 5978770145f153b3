"""Ctrl-C while a server says nothing: the command ends all the same, and keeps what came."""

from __future__ import annotations

import json
import signal
import uuid
from typing import TYPE_CHECKING

import pytest
from slow_proxy import Asked, Instead, SlowProxy
from trials import weights

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

MEBIBYTE = 1 << 20
SIZE = 8 * MEBIBYTE
LONGEST = 20.0
"""Seconds; a silent server is borne for thirty."""


@pytest.fixture
def place(lading: CommandLine, plain_registry: RegistryProcess, tmp_path: Path) -> str:
    """A repository of a registry with a model of two big files."""
    folder = lading.folder / "model"
    folder.mkdir()
    for name, seed in (("weights.gguf", 1), ("mmproj.gguf", 2)):
        (folder / name).write_bytes(weights(SIZE)[:-1] + bytes([seed]))
    elsewhere = {"LADING_STORE": str(tmp_path / "elsewhere")}
    lading("pack", folder / "weights.gguf", "--mmproj", folder / "mmproj.gguf", "-t", "two:1", more=elsewhere)
    repository = f"silent/{uuid.uuid4().hex[:12]}:1"
    lading("push", "two:1", f"{plain_registry.host}/{repository}", more=elsewhere)
    return repository


def until(process: subprocess.Popen[str], event: str, count: int) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        count -= json.loads(line)["event"] == event
        if not count:
            return
    message = f"it ended with {process.wait()}"
    raise AssertionError(message)


def test_ctrl_c_ends_a_pull_of_several_files_from_a_server_that_keeps_it_waiting(
    lading: CommandLine, plain_registry: RegistryProcess, place: str
) -> None:
    proxy = SlowProxy(plain_registry.host)
    files = json.loads(lading("inspect", f"{plain_registry.host}/{place}", "--json").stdout)["parts"]
    big = {part["digest"] for part in files if part["size"] >= SIZE}
    assert len(big) == 2
    kept_waiting: list[Asked] = []

    def interfere(asked: Asked) -> Instead | None:
        if asked.path.rpartition("/")[2] not in big:
            return None
        kept_waiting.append(asked)
        return Instead(stall=64 * 1024)

    proxy.interfere = interfere
    process = lading.start("pull", f"{proxy.host}/{place}", "--progress", "json")
    try:
        until(process, "started", 2)
        while len(kept_waiting) < 2:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _out, told = process.communicate(timeout=LONGEST)
    finally:
        process.kill()
        process.communicate()
        proxy.stop()
    assert process.returncode == 130
    assert "interrupted: " in told
    assert "Traceback" not in told
