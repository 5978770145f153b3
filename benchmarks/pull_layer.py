"""Pull: one random layer of 2 GiB from docker-registry on loopback, beside skopeo, oras-py, curl and the machine's limit."""

from __future__ import annotations

import os
import statistics
import sys

from lib import peers
from lib.machine import ROOT
from lib.measure import GB, Contender, asked_runs, beside, once, rounds
from lib.models import GIB, write_gguf
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report
from lib.servers import registry

from lading.store.hashing import hash_file

SIZE = 2 * GIB
ABOUT = """One layer of random bytes, from Debian's `docker-registry` on the same machine. lading checks the digest and
syncs the file before it has a name; so does skopeo. oras-py checks nothing and syncs nothing; curl is followed by
`sha256sum` and syncs nothing. The machine's limit is the longest of: receiving the bytes and dropping them, hashing as many in memory,
writing and syncing as many past the page cache, and all CPU time of lading and the registry shared out over the cores."""

ORAS = "import sys; from oras.client import OrasClient; OrasClient(insecure=True).pull(sys.argv[1], outdir=sys.argv[2])"


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    report = Report("pull-layer", "pull of one layer of 2 GiB", ABOUT)
    report.peers = {
        "docker-registry": peers.version("docker-registry"),
        "skopeo": peers.version("skopeo"),
        "oras-py": peers.ORAS,
        "curl": peers.version("curl"),
    }
    with workplace() as folder, registry(folder / "registry") as server:
        model, store, out = folder / "model.gguf", folder / "store", folder / "out"
        reference = f"{server.host}/bench/model:1"
        own = environment(folder)
        write_gguf(model, SIZE)
        once([LADING, "pack", str(model), "-t", reference], own)
        once([LADING, "push", reference], own)
        with model.open("rb") as file:
            digest, _size = hash_file(file.fileno(), "sha256")
        model.unlink()
        blob = f"/v2/bench/model/blobs/{digest}"
        empty = emptied(store, out)
        # `sha256sum` reads from the page cache what curl has just put there.
        curl = f"{peers.installed('curl')} -sfo {out} http://{server.host}{blob} && sha256sum {out}"
        bare = [sys.executable, "-S", "-I", str(ROOT / "benchmarks/lib/limit.py")]
        oras = [peers.oras_python(), "-c", ORAS, reference, str(out)]
        skopeo = [peers.installed("skopeo"), "copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{out}:1"]
        seen = rounds(
            [
                Contender("lading pull", [LADING, "pull", reference], own, empty),
                Contender("oras-py pull", oras, own, empty),
                Contender("skopeo copy to oci:", skopeo, own, empty),
                Contender("curl and sha256sum", ["sh", "-c", curl], own, empty),
                Contender("receive", [*bare, "receive", server.host, blob], None, empty),
                Contender("sha256", [*bare, "sha256", str(SIZE)], None, empty),
                Contender("write and sync", [*bare, "write", str(out), str(SIZE)], None, empty),
            ],
            runs,
            server.cpu,
        )
    medians = report.took(seen)
    ours = seen["lading pull"]
    cores = len(os.sched_getaffinity(0))
    parts = {name: [run.wall for run in seen[name]] for name in ("receive", "sha256", "write and sync")}
    parts["CPU of both over the cores"] = [(run.cpu + run.served) / cores for run in ours]
    limits = [max(parts[name][turn] for name in parts) for turn in range(runs)]
    tightest = max(parts, key=lambda name: statistics.median(parts[name]))
    print(f"  the machine's limit: {statistics.median(limits):.2f} s, mostly {tightest};", end=" ")
    print(", ".join(f"{name} {statistics.median(times):.2f} s" for name, times in parts.items()))
    report.figure(medians["lading pull"].wall, " s")
    over = statistics.median(run.wall / limit for run, limit in zip(ours, limits, strict=True))
    report.figure(over, f"x the machine's limit ({tightest})", 1.5)
    report.figure(beside(ours, seen["oras-py pull"]), "x oras-py", 0.5)
    report.figure(beside(ours, seen["skopeo copy to oci:"]), "x skopeo", 0.25)
    report.figure(beside(ours, seen["curl and sha256sum"]), "x curl and sha256sum")
    report.figure(medians["lading pull"].cpu / (SIZE / GB), " CPU-s per GB", 1.1)
    report.figure(medians["lading pull"].peak, " MiB of memory", 64)
    report.finish()


if __name__ == "__main__":
    main()
