"""Lanes: one blob behind a proxy that sends 20 MB/s over each connection, over one connection and over several."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lib import peers
from lib.machine import ROOT
from lib.measure import GB, Contender, asked_runs, beside, once, rounds
from lib.models import GIB, write_gguf
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report
from lib.servers import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = GIB
RATE = 20e6
"""Bytes per second over each connection."""
DELAY = 0.02
"""Seconds before each answer, as from a server some way off."""

ABOUT = """One layer of 1 GiB from the same registry, through a proxy that sends no more than 20 MB/s over each connection: with
`--parallel 1`, with the four connections of `--parallel 4`, which is the default, and with four where each answer also begins
20 ms late, beside one stream through the same proxy."""


@contextmanager
def slow_proxy(upstream: str, delay: float) -> Iterator[str]:
    """Run the tests' slow proxy and yield its host."""
    command = [sys.executable, str(ROOT / "tests/support/slow_proxy.py"), upstream, str(RATE), str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        host = process.stdout.readline().strip() if process.stdout else ""
        if not host:
            message = "the slow proxy did not start"
            raise SystemExit(message)
        yield host
        if process.stdin:
            process.stdin.close()


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    report = Report("lanes", "pull of one layer of 1 GiB at 20 MB/s per connection", ABOUT)
    report.peers = {"docker-registry": peers.version("docker-registry")}
    with (
        workplace() as folder,
        registry(folder / "registry") as server,
        slow_proxy(server.host, 0.0) as near,
        slow_proxy(server.host, DELAY) as far,
    ):
        model, store = folder / "model.gguf", folder / "store"
        reference = f"{server.host}/bench/model:1"
        own = environment(folder)
        write_gguf(model, SIZE)
        once([LADING, "pack", str(model), "-t", reference], own)
        once([LADING, "push", reference], own)
        model.unlink()
        empty = emptied(store)

        def pull(name: str, host: str, parallel: int) -> Contender:
            command = [LADING, "pull", f"{host}/bench/model:1", "--parallel", str(parallel)]
            return Contender(name, command, own, empty)

        seen = rounds(
            [
                pull("one stream", near, 1),
                pull("up to 4 connections", near, 4),
                pull("one stream, 20 ms away", far, 1),
                pull("up to 4 connections, 20 ms away", far, 4),
            ],
            runs,
        )
    medians = report.took(seen)
    times = 1 / beside(seen["up to 4 connections"], seen["one stream"])
    distant = 1 / beside(seen["up to 4 connections, 20 ms away"], seen["one stream, 20 ms away"])
    print(f"  lanes: {times:.1f}x one stream (bar 3x), {distant:.1f}x at 20 ms")
    report.figure(1 / times, "x the time of one stream", 1 / 3)
    report.figure(1 / distant, "x at 20 ms")
    report.figure(medians["up to 4 connections"].cpu / (SIZE / GB), " CPU-s per GB")
    report.figure(max(run.peak for run in medians.values()), " MiB of memory", 64)
    report.finish()


if __name__ == "__main__":
    main()
