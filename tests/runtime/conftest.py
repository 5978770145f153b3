from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def story() -> Path:
    """The example model, a Llama of 1.4 M parameters."""
    return Path(__file__).parents[2] / "examples" / "storyteller" / "storyteller-f16.gguf"


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What a child of the tests gets: this process's environment, and the package that is tested."""
    source = str(Path(__file__).parents[2] / "src")
    return {**os.environ, "PYTHONPATH": source}  # tests stand where the surface does
