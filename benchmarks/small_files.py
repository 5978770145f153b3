"""Many small files: a model of 10,000 files of 1 to 4 kB, pulled from docker-registry on loopback."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from lib import peers
from lib.machine import ROOT
from lib.measure import Contender, asked_runs, once, rounds
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report
from lib.servers import registry

from lading import artifact, media
from lading.facts import HeaderFile, read_facts
from lading.manifest import Descriptor, Manifest
from lading.model import Model, Part, Role
from lading.store import Store

if TYPE_CHECKING:
    from pathlib import Path

FILES = 10_000
LONGEST = 4096
_DOC = "application/vnd.cncf.model.doc.v1.raw"
ABOUT = f"""One model of {FILES:,} files of 1 to 4 kB of random bytes, each a layer of its own, beside the example model's
weights, between a store and Debian's `docker-registry` on the same machine. Each file is checked, and synced before it has a
name."""


def fill(root: Path, reference: str) -> None:
    """Put the model into a store and name it."""
    store = Store(root)
    chance = random.Random(1)
    weights = ROOT / "examples/storyteller/storyteller-f16.gguf"
    kept = store.put_bytes(weights.read_bytes())
    blob = Descriptor(media_type="application/octet-stream", digest=kept, size=weights.stat().st_size)
    facts = read_facts([HeaderFile(Role.WEIGHTS, weights.name, lambda: store.ranges(blob))])
    row = artifact.named("modelpack")
    written = row.write(Model((Part(Role.WEIGHTS, weights.name, blob),), facts), None)
    layers = list(written.manifest.layers)
    for number in range(FILES):
        data = chance.randbytes(chance.randint(LONGEST // 4, LONGEST))
        # With all that row.write says of a layer, the manifest would be larger than a registry takes.
        name = {media.TITLE: f"notes/{number // 100:02d}/{number:05d}.txt"}
        layers.append(Descriptor(media_type=_DOC, digest=store.put_bytes(data), size=len(data), annotations=name))
    store.put_bytes(written.config)
    manifest = Manifest.build(written.manifest.config, tuple(layers), artifact_type=written.manifest.artifact_type)
    store.put_bytes(manifest.raw)
    store.tag(reference, manifest)


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    report = Report("small-files", f"pull of {FILES:,} small files", ABOUT)
    report.peers = {"docker-registry": peers.version("docker-registry")}
    with workplace() as folder, registry(folder / "registry") as server:
        reference = f"{server.host}/bench/small:1"
        own = environment(folder)
        with ProcessPoolExecutor(1) as pool:
            # What this process held would count as its children's peak.
            pool.submit(fill, folder / "store", reference).result()
        push = once([LADING, "push", reference, "-q"], own, server.cpu)
        empty = emptied(folder / "store")
        pull = Contender("lading pull", [LADING, "pull", reference, "-q"], own, empty)
        seen = rounds([pull], runs, server.cpu)
    medians = report.took(seen | {"lading push, to an empty registry": [push]})
    print(f"  CPU of the registry meanwhile: {medians['lading pull'].served:.2f} s")
    report.figure(medians["lading pull"].wall, " s", 20)
    report.figure(medians["lading pull"].cpu / FILES * 1e3, " ms of CPU per file")
    report.finish()


if __name__ == "__main__":
    main()
