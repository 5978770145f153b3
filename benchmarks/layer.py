"""One layer of 2 GiB pushed to and pulled from a real registry (docker-registry) on loopback: time and peak memory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lib.measure import Run, bar, once, show
from pack import write_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 2 * 1024**3
PATIENCE = 10.0


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run docker-registry on a free port and yield its host."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"localhost:{probe.getsockname()[1]}"
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{host.partition(':')[2]}}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(host.partition(":")[2]))) == 0:
                    break
            time.sleep(0.05)
        yield host
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def main() -> None:
    """Print the figures."""
    if shutil.which("docker-registry") is None:
        print("layer: skipped, docker-registry is not installed (`make system`)")
        return
    lading = str(Path(sys.executable).with_name("lading"))
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name, registry(Path(name)) as host:
        folder = Path(name)
        write_gguf(folder / "model.gguf", SIZE)
        environment = {**os.environ, "LADING_STORE": str(folder / "store"), "HOME": name}
        reference = f"{host}/bench/model:1"
        results: dict[str, Run] = {}
        once([lading, "pack", str(folder / "model.gguf"), "-t", reference], environment)
        results["push"] = once([lading, "push", reference], environment)
        (folder / "model.gguf").unlink()
        once([lading, "rm", reference], environment)
        once([lading, "prune"], environment)
        results["pull"] = once([lading, "pull", reference], environment)
        results["pull, up to date"] = once([lading, "pull", reference], environment)
        show("one layer of 2 GiB", results)
        bar("peak memory of push", results["push"].peak, 64, " MiB")
        bar("peak memory of pull", results["pull"].peak, 64, " MiB")


if __name__ == "__main__":
    main()
