"""Convert and copy: 20 GB from docker to modelpack in the store, and 2 GiB from registry to registry, beside each side alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lib import peers
from lib.measure import Contender, asked_runs, beside, once, rounds
from lib.models import GIB, write_gguf
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report
from lib.servers import registry

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 2 * GIB
ABOUT = """Weights are the same blob in both formats, so converting writes a manifest and a config, whatever the size; the
20 GB are a hole in a file, hashed once when it was packed. A copy reads from one registry while it writes to another, past
the disk. Each side alone is a pull into an empty store and a push from a full one; the slower one is what a copy waits for."""


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    report = Report("convert", "converting 20 GB, copying 2 GiB", ABOUT)
    report.peers = {"docker-registry": peers.version("docker-registry")}
    with workplace() as folder:
        _convert(report, folder, runs)
    with workplace() as folder:
        _copy(report, folder, runs)
    report.finish()


def _convert(report: Report, folder: Path, runs: int) -> None:
    own = environment(folder)
    model = folder / "model.gguf"
    write_gguf(model, 20 * 10**9, sparse=True)
    once([LADING, "pack", str(model), "-t", "bench:1"], own)
    convert = [LADING, "copy", "bench:1", "bench:2", "--format", "modelpack", "-q"]
    medians = report.took(rounds([Contender("docker to modelpack, 20 GB, in the store", convert, own)], runs))
    report.figure(medians["docker to modelpack, 20 GB, in the store"].wall, " s", 0.3)


def _copy(report: Report, folder: Path, runs: int) -> None:
    own, other = environment(folder), environment(folder / "other")
    model = folder / "model.gguf"
    write_gguf(model, SIZE)
    with registry(folder / "from") as source, registry(folder / "to") as target:
        there, here = f"{source.host}/bench/model:1", f"{target.host}/bench/model:1"
        once([LADING, "pack", "--copy", str(model), "-t", "bench:1"], own)
        model.unlink()
        once([LADING, "push", "bench:1", there], own)
        empty = emptied(folder / "to/docker")
        seen = rounds(
            [
                Contender("lading copy", [LADING, "copy", there, here, "-q"], own, empty),
                Contender(
                    "lading copy --format image", [LADING, "copy", there, here, "--format", "image", "-q"], other, empty
                ),
                Contender("lading pull", [LADING, "pull", there, "-q"], other, emptied(folder / "other/store")),
                Contender("lading push", [LADING, "push", "bench:1", here, "-q"], own, empty),
                Contender(
                    "skopeo copy",
                    [
                        peers.installed("skopeo"),
                        "copy",
                        "--src-tls-verify=false",
                        "--dest-tls-verify=false",
                        f"docker://{there}",
                        f"docker://{here}",
                    ],
                    own,
                    empty,
                ),
            ],
            runs,
        )
    medians = report.took(seen)
    slower = max(("lading pull", "lading push"), key=lambda name: medians[name].wall)
    print(f"  the slower side alone: {slower}")
    report.figure(beside(seen["lading copy"], seen[slower]), "x the slower side alone", 1.15)
    report.figure(beside(seen["lading copy --format image"], seen[slower]), "x that, as an image")
    report.figure(beside(seen["lading copy"], seen["skopeo copy"]), "x skopeo")
    report.figure(medians["lading copy"].peak, " MiB of memory", 64)


if __name__ == "__main__":
    main()
