"""Verify: a store of 2 GiB in blobs of many sizes, beside openssl and sha256sum over the same files on all cores."""

from __future__ import annotations

import os
import subprocess

from lib import peers
from lib.measure import Contender, asked_runs, beside, once, rounds
from lib.models import GIB, write_gguf
from lib.places import LADING, environment, workplace
from lib.report import Report

MIB = 1024**2
SIZES = (GIB // 2, *(128 * MIB for _ in range(10)), *(8 * MIB for _ in range(32)))
ABOUT = """Blobs of 512, 128 and 8 MiB, in the page cache as far as memory goes. `openssl dgst -sha256` and `sha256sum` get one
file at a time each, the biggest first, as many at a time as there are processors; lading also reads the manifests,
and sees that nothing is missing."""


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    report = Report("verify", "verify of 2 GiB", ABOUT)
    openssl = subprocess.run([peers.installed("openssl"), "version"], capture_output=True, text=True, check=True).stdout
    report.peers = {"openssl": openssl.split()[1], "sha256sum": peers.version("sha256sum")}
    cores = len(os.sched_getaffinity(0))
    with workplace() as folder:
        own = environment(folder)
        model = folder / "model.gguf"
        for number, size in enumerate(SIZES):
            write_gguf(model, size)
            once([LADING, "pack", str(model), "-t", f"bench:{number}", "--copy"], own)
        model.unlink()
        # `ls -S` lists the biggest first.
        files = f"cd {folder / 'store/blobs/sha256'} && ls -S | xargs -n 1 -P {cores}"
        seen = rounds(
            [
                Contender("lading verify", [LADING, "verify"], own),
                Contender("openssl dgst", ["sh", "-c", f"{files} openssl dgst -sha256"]),
                Contender("sha256sum", ["sh", "-c", f"{files} sha256sum"]),
            ],
            runs,
        )
    medians = report.took(seen)
    ours = seen["lading verify"]
    report.figure(sum(SIZES) / medians["lading verify"].wall / 1e9, f" GB/s on {cores} cores")
    report.figure(beside(ours, seen["openssl dgst"]), "x openssl dgst", 1.1)
    report.figure(beside(ours, seen["sha256sum"]), "x sha256sum", 1.1)
    report.figure(medians["lading verify"].peak, " MiB of memory")
    report.finish()


if __name__ == "__main__":
    main()
