from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lading import api
from lading.events import Silent

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def session(tmp_path: Path) -> api.Session:
    """A session with a home, a store and settings of its own."""
    environment = {"HOME": str(tmp_path), "LADING_STORE": str(tmp_path / "store"), "LADING_MEMORY": "8GiB"}
    return api.Session(api.load_config(environment), Silent())
