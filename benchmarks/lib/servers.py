"""The servers that models are pulled from, each a process of its own on a loopback port: a registry, and a hub."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib.machine import ROOT
from lib.peers import installed

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A server that runs: `host` with its port, and its process."""

    host: str
    pid: int

    def cpu(self) -> float:
        """Return the CPU seconds it has spent so far, by proc(5)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def registry(folder: Path) -> Iterator[Server]:
    """Run docker-registry with its data in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    environment = {"PATH": os.defpath, "HOME": str(folder), "OTEL_TRACES_EXPORTER": "none"}
    process = subprocess.Popen(
        [installed("docker-registry"), "serve", str(config)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(port, process)
        yield Server(f"localhost:{port}", process.pid)
    finally:
        _stop(process)


@contextmanager
def hub(repository: str, *files: Path, delay: float = 0.0) -> Iterator[Server]:
    """Run the tests' hub with a repository of these files; each answer waits for `delay` seconds."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "benchmarks/lib/serve_hub.py"), repository, str(delay), *map(str, files)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests/support")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        host = process.stdout.readline().strip() if process.stdout else ""
        if not host:
            message = "the hub did not start"
            raise SystemExit(message)
        yield Server(host, process.pid)
    finally:
        _stop(process)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    message = "docker-registry did not start"
    raise SystemExit(message)


def _stop(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait()
