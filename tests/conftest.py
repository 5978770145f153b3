from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import fault_table
import interop_table
import pytest
from hostile_server import Hostile, Reply
from hub import LoopbackHub
from real_registry import RegistryProcess, start_registry

from lading.http import Client, Patience

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[1]
STORYTELLER = ROOT / "examples/storyteller/storyteller-f16.gguf"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell begins what runs in the background, and children inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables; the controller of a parallel run loads this file alone."""
    fault_table.pytest_terminal_summary(terminalreporter)
    interop_table.pytest_terminal_summary(terminalreporter)


@pytest.fixture(scope="session")
def storyteller() -> Path:
    """The example model: 1.4 M parameters, F16, made of English words."""
    return STORYTELLER


@dataclass
class CommandLine:
    """Runs `lading` as a user would: a process of its own, with a home, a store and an environment of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "LADING_STORE": str(self.folder / "store"),
            "LADING_STATE": str(self.folder / "state"),
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            # What fits must not depend on what else runs here.
            "LADING_MEMORY": "8GiB",
            "LADING_DEVICES": "none",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            **self.environment,
        }

    @property
    def store(self) -> Path:
        return Path(self.environment["LADING_STORE"])

    def __call__(
        self,
        *arguments: str | Path,
        code: int = 0,
        stdin: str = "",
        more: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command and require its exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "lading", *map(str, arguments)],
            cwd=self.folder,
            env={**self.environment, **(more or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start one command and return its process, for the caller to end."""
        return subprocess.Popen(
            [sys.executable, "-m", "lading", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="session")
def command_line() -> type[CommandLine]:
    """For those who need another home than their own test's."""
    return CommandLine


@pytest.fixture
def lading(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


@pytest.fixture
def story(lading: CommandLine, storyteller: Path) -> Path:
    """A copy of the example model in the user's folder, which a test may change."""
    return Path(shutil.copyfile(storyteller, lading.folder / "story.gguf"))


@pytest.fixture(scope="session")
def plain_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    registry = start_registry(tmp_path_factory.mktemp("plain"))
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def login_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    registry = start_registry(tmp_path_factory.mktemp("login"), htpasswd=True)
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def tls_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    registry = start_registry(tmp_path_factory.mktemp("tls"), htpasswd=True, tls=True)
    yield registry
    registry.stop()


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    yield server
    server.stop()


@pytest.fixture
def canary() -> Iterator[Hostile]:
    """Another origin: it must never hear a secret."""
    server = Hostile()
    yield server
    server.stop()


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def naps() -> list[float]:
    """How long the client would have slept."""
    return []


@pytest.fixture
def client(naps: list[float]) -> Iterator[Client]:
    made = Client(patience=Patience(tries=3, connect=5, read=5), sleep=naps.append)
    yield made
    made.close()


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """A hub of models on loopback, with a storage of another origin."""
    server = LoopbackHub()
    yield server
    server.stop()
