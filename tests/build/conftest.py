from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lading import api, artifact
from lading.artifact.contents import read_part
from lading.artifact.unpack import read_stored
from lading.build.converter import Converter, prepare
from lading.config import ConverterSettings
from lading.events import Advanced, Event, Finished, Noted, Started, StepEnded
from lading.plan import single_manifest

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


class Builder:
    """Builds the recipe of a context of its own into a store of its own, and keeps what the last build told."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.context = folder / "context"
        self.context.mkdir()
        self.environment = {
            **environment,
            "HOME": str(folder),
            "LADING_STORE": str(folder / "store"),
            "LADING_CACHE": str(TINY / "cache"),
            "LADING_CONVERT_PYTHON": str(TINY / "venv/bin/python"),
        }
        self.heard = Heard()

    def session(self, *, offline: bool = False) -> api.Session:
        self.heard = Heard()
        return api.Session(api.load_config(self.environment), self.heard, offline=offline)

    def write(self, **files: str | bytes) -> None:
        for name, data in files.items():
            (self.context / name).write_bytes(data.encode() if isinstance(data, str) else data)

    def __call__(self, recipe: str, *, offline: bool = False, **wanted: Any) -> api.Built:
        file = self.context.parent / "GGUFPackerfile"
        file.write_text(recipe)
        names = wanted.pop("names", ("built:1",))
        return api.build(
            self.session(offline=offline), self.context, names, api.Recipe(file=file, **wanted), self.environment
        )

    @property
    def made(self) -> list[str]:
        """The instructions that were carried out, for they were not cached."""
        return [event.text for event in self.heard.events if isinstance(event, StepEnded) and not event.cached]

    @property
    def cached(self) -> list[str]:
        return [event.text for event in self.heard.events if isinstance(event, StepEnded) and event.cached]

    def files(self, name: str = "built:1") -> dict[str, bytes]:
        """The files of the model that has a name in the store."""
        store = self.session().store
        manifest = single_manifest(store.document(name), store.document, name)
        model = read_stored(artifact.detect(manifest, name), manifest, store)
        return {part.name: read_part(part, store, 1 << 30) for part in model.parts}


@pytest.fixture
def builder(tmp_path: Path, bare: dict[str, str]) -> Builder:
    return Builder(tmp_path, bare)


@pytest.fixture(scope="session")
def builders() -> type[Builder]:
    """For those who need another builder than their own test's."""
    return Builder
