"""List: a store of 1,000 names, each of a manifest of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lib.machine import ROOT
from lib.measure import Contender, asked_runs, once, rounds
from lib.places import LADING, environment, workplace
from lib.report import Report

from lading import api
from lading.manifest import Manifest
from lading.store import Store

if TYPE_CHECKING:
    from pathlib import Path

TAGS = 1000
ABOUT = f"""A store of {TAGS:,} names, each of a manifest of its own. The first `list` reads the manifests, later ones what it noted."""


def fill(folder: Path) -> None:
    """Pack the example model and name 999 variants of its manifest."""
    config = api.load_config({"HOME": str(folder), "LADING_STORE": str(folder / "store")})
    api.pack(api.Session(config), ROOT / "examples/storyteller/storyteller-f16.gguf", "team/story:0")
    store = Store(config.store)
    packed = store.document("team/story:0")
    if not isinstance(packed, Manifest):
        message = "the example model is one manifest"
        raise TypeError(message)
    index = json.loads((store.root / "index.json").read_text())
    for number in range(1, TAGS):
        variant = Manifest.build(packed.config, packed.layers, annotations={"number": str(number)})
        entry = json.loads(json.dumps(index["manifests"][0]))
        entry |= {"digest": store.put_bytes(variant.raw), "size": len(variant.raw)}
        entry["annotations"]["org.opencontainers.image.ref.name"] = f"team/story:{number}"
        index["manifests"].append(entry)
    (store.root / "index.json").write_text(json.dumps(index))


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__, 7)
    report = Report("list", f"list of {TAGS:,} names", ABOUT)
    with workplace() as folder:
        fill(folder)
        own = environment(folder)
        first = once([LADING, "list"], own)
        seen = rounds([Contender("lading list", [LADING, "list"], own)], runs)
    medians = report.took({"the first time": [first], **seen})
    report.figure(medians["lading list"].wall, " s", 0.12)
    report.finish()


if __name__ == "__main__":
    main()
