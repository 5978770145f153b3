"""A collection frees exactly what nothing needs: random stores, written and judged without lading's own code."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from checker import NAME, check_store

from lading.digest import Digest
from lading.store import Store, sweep

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Record

FORESTS = 60
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
BLOB = "application/octet-stream"


@dataclass
class Forest:
    """A store in the making: blobs by digest, what each of them names, and which of them have a name."""

    root: Path
    bodies: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    tagged: dict[str, str] = field(default_factory=dict)

    def add(self, data: bytes, kind: str, needs: list[str]) -> None:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.bodies[digest], self.kinds[digest], self.names[digest] = data, kind, needs

    def entry(self, digest: str) -> dict[str, Any]:
        return {"mediaType": self.kinds[digest], "digest": digest, "size": len(self.bodies[digest])}

    def grow(self, rng: random.Random) -> None:
        """Make leaves, manifests over them and indexes over both; a few of the documents get names, some several."""
        for number in range(rng.randint(1, 12)):
            self.add(rng.randbytes(rng.randint(0, 3000)) + bytes([number]), BLOB, [])
        leaves = list(self.bodies)
        for number in range(rng.randint(1, 12)):
            documents = [digest for digest, kind in self.kinds.items() if kind != BLOB]
            tree: dict[str, Any] = {"schemaVersion": 2, "annotations": {"number": str(number)}}
            if documents and rng.random() < 0.4:
                inner = rng.choices(documents, k=rng.randint(0, 4))
                tree |= {"mediaType": INDEX, "manifests": [self.entry(digest) for digest in inner]}
            else:
                config, *layers = inner = rng.choices(leaves, k=rng.randint(1, 5))
                tree |= {"mediaType": MANIFEST, "config": self.entry(config)}
                tree["layers"] = [self.entry(digest) for digest in layers]
            self.add(json.dumps(tree).encode(), tree["mediaType"], inner)
        documents = [digest for digest, kind in self.kinds.items() if kind != BLOB]
        self.tagged = {f"m{number}:1": rng.choice(documents) for number in range(rng.randint(0, 6))}

    def write(self) -> None:
        (self.root / "blobs/sha256").mkdir(parents=True)
        for digest, data in self.bodies.items():
            (self.root / "blobs" / digest.replace(":", "/")).write_bytes(data)
        manifests = [{**self.entry(digest), "annotations": {NAME: name}} for name, digest in self.tagged.items()]
        (self.root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
        (self.root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def reached(self) -> set[str]:
        found: set[str] = set()
        waiting = list(self.tagged.values())
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += self.names[digest]
        return found


def unfinished(forest: Forest, rng: random.Random, digests: list[str]) -> dict[str, int]:
    """Leave parts of some of these blobs, as killed pulls do, and return their sizes by file name."""
    folder = forest.root / "ingest"
    folder.mkdir()
    made = {digest.replace(":", "-"): rng.randint(0, 5000) for digest in digests if rng.random() < 0.5}
    for name, size in made.items():
        (folder / name).write_bytes(bytes(size))
    return made


@pytest.mark.parametrize("turn", range(4))
def test_exactly_what_no_name_reaches_and_no_living_process_leases_is_freed(
    tmp_path: Path, record: Record, fault_seed: int, turn: int
) -> None:
    for number in range(FORESTS // 4):
        rng = random.Random(f"forest {fault_seed} {turn} {number}")
        forest = Forest(tmp_path / str(number))
        forest.grow(rng)
        forest.write()
        absent = [f"sha256:{rng.randbytes(32).hex()}" for _ in range(4)]
        known = [*forest.bodies, *absent]
        living, dead = set(rng.sample(known, rng.randint(0, 4))), set(rng.sample(known, rng.randint(0, 4)))
        parts = unfinished(forest, rng, known)
        kept_parts = {name for name in parts if name.replace("-", ":") in living}
        (forest.root / "leases").mkdir()
        (forest.root / "leases/0123.lease").write_text("".join(f"\n{digest}" for digest in dead))
        expected = (forest.reached() | living) & set(forest.bodies)
        store = Store(forest.root)
        with store.lease(map(Digest, living)):
            done = sweep.prune(store)
            assert {path.name for path in (forest.root / "blobs/sha256").iterdir()} == {one[7:] for one in expected}
            assert {path.name for path in (forest.root / "ingest").iterdir()} == kept_parts
            assert len(list((forest.root / "leases").iterdir())) == 1, "the dead one's is swept"
        freed = set(forest.bodies) - expected
        assert done.blobs == len(freed)
        assert done.bytes == sum(len(forest.bodies[digest]) for digest in freed)
        assert done.partial_bytes == sum(size for name, size in parts.items() if name not in kept_parts)
        assert check_store(forest.root, committed=forest.reached()) == forest.tagged
        sweep.prune(store)
        assert check_store(forest.root, committed=forest.reached(), swept=True) == forest.tagged
    record("collections", "random stores", "prune", FORESTS // 4)
