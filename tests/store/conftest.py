from __future__ import annotations

import hashlib
import json
import stat
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from workers import workers

from lading.store import Store

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from workers import Start

FOLDERS = {"blobs", "ingest", "links", "leases", "locks", "models", "cache"}
FILES = {"oci-layout", "index.json", "reserve"}


class CheckStore(Protocol):
    def __call__(self, root: Path, *, changed: Collection[str] = (), idle: bool = False) -> set[str]: ...


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def start() -> Iterator[Start]:
    with workers() as start:
        yield start


@pytest.fixture
def check_store() -> CheckStore:
    """Hold a store to its promises, with nothing of its own code, and return the digests it has.

    I1: a blob that has a name hashes to it. I2: what a name reaches is there. I8: nothing half made lies
    outside of ingest/, and with `idle` nothing lies there either. `changed` are linked files that were
    changed by their owner on purpose.
    """
    return check


def check(root: Path, *, changed: Collection[str] = (), idle: bool = False) -> set[str]:
    if not root.exists():
        return set()
    assert {path.name for path in root.iterdir()} <= FOLDERS | FILES
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    found = set(_blobs(root, changed))
    if (root / "index.json").exists():
        index = json.loads((root / "index.json").read_bytes())
        assert index["schemaVersion"] == 2
        assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"} or not found
        names = [_name(entry) for entry in index["manifests"] if _name(entry)]
        assert len(names) == len(set(names)), "a name twice"
        for entry in index["manifests"]:
            _closure(root, entry, found)
    for folder, pattern in (("links", "sha*.json"), ("locks", "*"), ("leases", "*.lease"), ("models", "sha*")):
        for path in (root / folder).iterdir() if (root / folder).exists() else ():
            assert path.match(pattern), path
            assert not path.name.startswith("."), path
    if idle and (root / "ingest").exists():
        assert [path.name for path in (root / "ingest").iterdir()] == []
    return found


def _blobs(root: Path, changed: Collection[str]) -> Iterator[str]:
    for folder in (root / "blobs").iterdir() if (root / "blobs").exists() else ():
        assert folder.name in ("sha256", "sha512")
        for path in folder.iterdir():
            assert stat.S_ISREG(path.lstat().st_mode), path
            digest = f"{folder.name}:{path.name}"
            if digest not in changed:
                assert hashlib.new(folder.name, path.read_bytes()).hexdigest() == path.name, path
            yield digest


def _name(entry: dict[str, Any]) -> str | None:
    name: str | None = entry.get("annotations", {}).get("org.opencontainers.image.ref.name")
    return name


def _closure(root: Path, entry: dict[str, Any], found: set[str]) -> None:
    digest = entry["digest"]
    assert digest in found, f"{digest} is named and not there"
    algorithm, _colon, digits = digest.partition(":")
    path = root / "blobs" / algorithm / digits
    assert path.stat().st_size == entry["size"]
    if not entry["mediaType"].endswith(("manifest.v1+json", "manifest.v2+json", "index.v1+json", "list.v2+json")):
        return
    document = json.loads(path.read_bytes())
    for inner in document.get("manifests", ()):
        _closure(root, inner, found)
    for blob in (document["config"], *document["layers"]) if "layers" in document else ():
        assert blob["digest"] in found, f"{blob['digest']} is needed and not there"
