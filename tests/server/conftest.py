from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lading.runtime import Runtime, choose
from lading.server import Probe, Server, http_probe, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lading.runtime import ServeSettings

ROOT = Path(__file__).parents[2]


def llama_server_folder(environment: dict[str, str]) -> Path:
    """Return where scripts/fetch_llama_server.sh put its program."""
    named = environment.get("LADING_TEST_LLAMA_SERVER")
    return Path(named).parent if named else ROOT / ".tools" / "llama" / "bin"


@pytest.fixture(scope="session")
def story() -> Path:
    """The example model, a Llama of 1.4 M parameters."""
    return ROOT / "examples" / "storyteller" / "storyteller-f16.gguf"


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What a child of the tests gets: this process's environment, the tested package, and a llama-server if fetched."""
    mine = dict(os.environ)  # tests stand where the surface does
    return {**mine, "PYTHONPATH": str(ROOT / "src"), "PATH": f"{llama_server_folder(mine)}:{mine.get('PATH', '')}"}


@pytest.fixture(params=["embedded", "llama-server"])
def runtime(request: pytest.FixtureRequest, environment: dict[str, str]) -> Runtime:
    """Each runtime in turn, the real one."""
    folder = llama_server_folder(environment)
    if request.param == "llama-server" and not (folder / "llama-server").exists():
        pytest.skip("no llama-server: scripts/fetch_llama_server.sh .tools/llama")
    return choose(request.param, environment)


@pytest.fixture(scope="session")
def probe() -> Probe:
    """The real one."""
    return http_probe()


@pytest.fixture
def started(runtime: Runtime, probe: Probe) -> Iterator[Callable[[ServeSettings], Server]]:
    """Starts servers, which end with the test."""
    mine: list[Server] = []

    def begin(settings: ServeSettings) -> Server:
        mine.append(start(runtime, settings, probe))
        return mine[-1]

    yield begin
    for server in mine:
        server.stop()
