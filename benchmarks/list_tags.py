"""List: a store of 1,000 names, each of a manifest of its own."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from lib.measure import bar, compare, once, show

from lading import api
from lading.manifest import Manifest
from lading.store import Store

ROOT = Path(__file__).parents[1]
TAGS = 1000


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
    """Print the figures."""
    lading = str(Path(sys.executable).with_name("lading"))
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        environment = {**os.environ, "LADING_STORE": str(Path(folder, "store"))}
        first = once([lading, "list"], environment)
        results = {"first time (manifests read)": first} | compare({"lading list": ([lading, "list"], environment)})
        show(f"list of {TAGS} names", results)
        bar("wall", results["lading list"].wall, 0.12, " s")


if __name__ == "__main__":
    main()
