"""Push: one random layer of 2 GiB to docker-registry on loopback, beside skopeo and a bare sendfile of the same bytes."""

from __future__ import annotations

import sys

from lib import peers
from lib.machine import ROOT
from lib.measure import GB, Contender, asked_runs, beside, once, rounds
from lib.models import GIB, write_gguf
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report
from lib.servers import registry

SIZE = 2 * GIB
ABOUT = """One layer of random bytes, from a store, which is an OCI layout that skopeo reads, to an empty registry. The registry
hashes what it gets, and is what all wait for: a bare PUT, for which the kernel sends the file and the sender sees no byte of it,
is the least that is possible."""


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    report = Report("push", "push of one layer of 2 GiB", ABOUT)
    report.peers = {"docker-registry": peers.version("docker-registry"), "skopeo": peers.version("skopeo")}
    with workplace() as folder, registry(folder / "registry") as server:
        model = folder / "model.gguf"
        reference = f"{server.host}/bench/model:1"
        own = environment(folder)
        write_gguf(model, SIZE)
        once([LADING, "pack", "--copy", str(model), "-t", reference], own)
        model.unlink()
        blob = max((folder / "store/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
        bare = [sys.executable, "-S", "-I", str(ROOT / "benchmarks/lib/limit.py"), "send", server.host, str(blob)]
        source = f"oci:{folder / 'store'}:{reference}"
        skopeo = [peers.installed("skopeo"), "copy", "--dest-tls-verify=false", source, f"docker://{reference}"]
        # The registry remembers nothing of a blob beside what is on its disk.
        empty = emptied(folder / "registry/docker")
        seen = rounds(
            [
                Contender("lading push", [LADING, "push", reference], own, empty),
                Contender("skopeo copy from oci:", skopeo, own, empty),
                Contender("bare PUT", [*bare, f"sha256:{blob.name}"], None, empty),
            ],
            runs,
            server.cpu,
        )
    medians = report.took(seen)
    ours = medians["lading push"]
    print(f"  CPU of the registry meanwhile: {ours.served:.2f} s")
    report.figure(ours.wall, " s")
    report.figure(beside(seen["lading push"], seen["bare PUT"]), "x a bare PUT", 1.05)
    report.figure(beside(seen["lading push"], seen["skopeo copy from oci:"]), "x skopeo")
    report.figure(ours.cpu / (SIZE / GB), " CPU-s per GB")
    report.figure(ours.peak, " MiB of memory", 64)
    report.finish()


if __name__ == "__main__":
    main()
