"""The voyage of one model, as `make demo` shows it: built, pushed, removed, pulled back, looked at and asked.

Every command is printed before it runs. All happens in a temporary folder; a registry takes part if one answers on
localhost:5000, or if docker-registry is installed, which then runs for as long as the demo.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, build_opener  # noqa: TID251 - the demo stands outside of the library

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "examples/storyteller"
LADING = str(Path(sys.executable).with_name("lading"))
QUESTION = "Once upon a time"
SEED = "3"
STANDARD_REGISTRY = "localhost:5000"


def main() -> int:
    """Run the voyage; the exit code is that of the first command that fails."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="lading-demo-") as name, registry(Path(name)) as host:
        folder = Path(name)
        ship = Ship(folder)
        layout = f"oci-layout:{folder / 'layout'}:story"
        remote = f"{host}/lading-demo/storyteller:1"
        try:
            ship.lading("build", "-t", "story:1", RECIPE)
            ship.lading("push", "story:1", layout)
            if host:
                ship.lading("push", "story:1", remote)
            ship.lading("rm", "story:1")
            ship.lading("prune", "--build-cache")
            ship.lading("pull", layout, "-t", "story:1")
            if host:
                ship.lading("rm", "story:1")
                ship.lading("prune")
                ship.lading("pull", remote, "-t", "story:1")
            ship.lading("list")
            ship.lading("inspect", "story:1")
            ship.ask("run", "story:1", "--temp", "0.7", "--seed", SEED, "--max-tokens", "128", QUESTION)
        except subprocess.CalledProcessError as error:
            print(f"demo failed: the last command ended with {error.returncode}", file=sys.stderr)
            return int(error.returncode)
    print(f"demo ok in {time.monotonic() - began:.0f} s")
    return 0


class Ship:
    """Runs lading with a store of its own, showing each command."""

    def __init__(self, folder: Path) -> None:
        # Nothing that the user has set for daily work takes part in the demo.
        environment = os.environ  # noqa: TID251 - as above
        kept = {key: value for key, value in environment.items() if not key.startswith("LADING_")}
        self._environment = {**kept, "LADING_STORE": str(folder / "store")}

    def lading(self, *arguments: str) -> None:
        """Run a command; raise CalledProcessError if it fails."""
        self._show(arguments)
        subprocess.run([LADING, *arguments], check=True, cwd=ROOT, env=self._environment)
        print(flush=True)

    def ask(self, *arguments: str) -> None:
        """Run a command whose stdout is an answer, and print that below its heading as it comes."""
        self._show(arguments)
        command = [LADING, *arguments]
        said = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=self._environment) as process:
            if process.stdout is None:
                raise subprocess.CalledProcessError(1, command)
            while piece := os.read(process.stdout.fileno(), 4096):
                if not said:
                    print("answer:", flush=True)
                said += len(piece.strip())
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        if process.returncode or not said:
            raise subprocess.CalledProcessError(process.returncode or 1, command)

    @staticmethod
    def _show(arguments: tuple[str, ...]) -> None:
        print(f"$ lading {shlex.join(arguments)}", flush=True)


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Yield the host of a registry for the demo, empty if there is none."""
    program = shutil.which("docker-registry") or shutil.which("docker-registry", path="/usr/bin")
    if answers(STANDARD_REGISTRY):
        print(f"a registry answers on {STANDARD_REGISTRY} and takes part\n", flush=True)
        yield STANDARD_REGISTRY
    elif program is None:
        print(
            "no registry on localhost:5000 and no docker-registry installed: an OCI layout takes its part\n", flush=True
        )
        yield ""
    else:
        with started(program, folder / "registry") as host:
            print(f"docker-registry runs on {host} for as long as this\n", flush=True)
            yield host


@contextmanager
def started(program: str, folder: Path) -> Iterator[str]:
    """Run docker-registry on a free port of loopback until the block ends."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        host = f"localhost:{probe.getsockname()[1]}"
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{host.partition(':')[2]}}}\n"
    )
    log = folder / "log"
    with log.open("wb") as sink, subprocess.Popen([program, "serve", config], stdout=sink, stderr=sink) as process:
        try:
            for _ in range(200):
                if process.poll() is not None or answers(host):
                    break
                time.sleep(0.05)
            if not answers(host):
                sys.exit(f"docker-registry did not start: {log.read_text(errors='replace').strip()[-300:]}")
            yield host
        finally:
            process.terminate()


def answers(host: str) -> bool:
    """Say whether a registry that needs no login answers on a host of loopback."""
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"http://{host}/v2/", timeout=2) as reply:
            return bool(reply.status == HTTPStatus.OK and reply.headers.get("Docker-Distribution-Api-Version"))
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(main())
