"""Resume: a pull of 2 GiB that was killed at the half, given again, beside a pull of the whole."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from lib import peers
from lib.measure import Contender, asked_runs, beside, once, rounds
from lib.models import GIB, write_gguf
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report
from lib.servers import registry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SIZE = 2 * GIB
LINE = "250M"
"""Bytes per second of a fast line, 2 Gbit/s, for --limit-rate."""

ABOUT = """The same layer and registry as above. The pull is killed (SIGKILL) when half of the bytes are in the store, and given again:
it hashes what is there, fetches the rest and checks the whole. The same over a line of 2 Gbit/s, kept to by `--limit-rate`."""


def kill_at_half(command: Sequence[str], own: Mapping[str, str], ingest: Path) -> None:
    """Start a pull and kill it once half of its bytes are there."""
    process = subprocess.Popen(command, env=own, stderr=subprocess.DEVNULL)
    while sum(part.stat().st_size for part in ingest.glob("sha256*")) < SIZE // 2:
        if process.poll() is not None:
            message = "the pull ended before half of it could be seen"
            raise SystemExit(message)
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.sync()


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    report = Report("resume", "resume of a pull of 2 GiB", ABOUT)
    report.peers = {"docker-registry": peers.version("docker-registry")}
    with workplace() as folder, registry(folder / "registry") as server:
        model, store = folder / "model.gguf", folder / "store"
        reference = f"{server.host}/bench/model:1"
        own = environment(folder)
        write_gguf(model, SIZE)
        once([LADING, "pack", str(model), "-t", reference], own)
        once([LADING, "push", reference], own)
        model.unlink()
        empty = emptied(store)
        pull = [LADING, "pull", reference]
        slow = [*pull, "--limit-rate", LINE]

        def halve() -> None:
            empty()
            kill_at_half(pull, own, store / "ingest")

        seen = rounds(
            [
                Contender("whole", pull, own, empty),
                Contender("after a kill at the half", pull, own, halve),
                Contender("whole, at 2 Gbit/s", slow, own, empty),
                Contender("after a kill at the half, at 2 Gbit/s", slow, own, halve),
            ],
            runs,
            server.cpu,
        )
    report.took(seen)
    report.figure(beside(seen["after a kill at the half"], seen["whole"]), "x a whole pull", 0.6)
    over_line = beside(seen["after a kill at the half, at 2 Gbit/s"], seen["whole, at 2 Gbit/s"])
    report.figure(over_line, "x a whole pull at 2 Gbit/s", 0.6)
    report.finish()


if __name__ == "__main__":
    main()
