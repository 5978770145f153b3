from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import pytest
from fault_table import KEY, SEED_KEY, pytest_terminal_summary
from trials import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from real_registry import RegistryProcess

__all__ = ["pytest_terminal_summary"]

SEED = int(os.environ.get("LADING_FAULT_SEED", "1"))


class Record(Protocol):
    def __call__(self, group: str, kind: str, command: str, count: int = 1) -> None: ...


@pytest.fixture(scope="session")
def fault_seed() -> int:
    """The seed that all faults follow from; LADING_FAULT_SEED gives another."""
    return SEED


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Count faulty runs for the table at the end."""
    request.node.user_properties.append((SEED_KEY, SEED))

    def note(group: str, kind: str, command: str, count: int = 1) -> None:
        request.node.user_properties.append((KEY, (group, kind, command, count)))

    return note


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, login_registry: RegistryProcess) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"), login_registry)
    yield made
    made.close()
