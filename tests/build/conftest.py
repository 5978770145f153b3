from __future__ import annotations

import os
from pathlib import Path

import pytest

from lading.build.converter import Converter, prepare
from lading.config import ConverterSettings
from lading.events import Advanced, Event, Finished, Noted, Started

ROOT = Path(__file__).parents[2]
TINY = ROOT / ".tools/tiny"


class Heard:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Noted)]

    def went_from_start_to_end(self) -> bool:
        kinds = [type(event) for event in self.events if not isinstance(event, Noted)]
        return kinds[0] is Started and kinds[-1] is Finished and Advanced in kinds[1:-1]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="session")
def bare() -> dict[str, str]:
    """An environment whose PATH has none of llama.cpp's programs."""
    return {**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src")}


@pytest.fixture(scope="session")
def tools(bare: dict[str, str]) -> dict[str, str]:
    """An environment with the programs that scripts/fetch_llama_server.sh fetched."""
    folder = ROOT / ".tools/llama/bin"
    if not (folder / "llama-quantize").exists():
        pytest.skip("no llama-quantize: scripts/fetch_llama_server.sh .tools/llama")
    return {**bare, "PATH": f"{folder}:{bare['PATH']}"}


@pytest.fixture(scope="session")
def tiny() -> Path:
    if not (TINY / "done").exists():
        pytest.skip("no tiny models: scripts/tiny_models.sh .tools/tiny")
    return TINY / "models"


@pytest.fixture(scope="session")
def converter(tiny: Path, bare: dict[str, str]) -> Converter:
    """The pinned converter, run by the Python that made the tiny models, as LADING_CONVERT_PYTHON does."""
    wheels = tiny.parent / "wheels"
    if not (wheels / "done").exists():
        pytest.skip("no converter: scripts/tiny_models.sh .tools/tiny")
    settings = ConverterSettings(TINY / "cache", python=tiny.parent / "venv/bin/python")
    return prepare(settings, {**bare, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}, Heard())
