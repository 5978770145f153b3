"""A disk that is full to the last byte: what is to be freed can be freed, and what is there can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from disks import mounted
from sources import descriptor, put

from lading.digest import Digest
from lading.errors import NoSpaceError
from lading.store import Store, sweep
from lading.store.reserve import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import CheckStore

DISK = 24 << 20


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Store]:
    """A store with two models on a disk without a free byte."""
    with mounted(tmp_path / "disk", DISK) as disk:
        store = Store(disk.path / "store")
        put(store, "old", b"old" * 1_000_000)
        put(store, "new", b"new" * 1_000_000)
        fill(disk.path / "filler")
        yield store


def fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        try:
            while True:
                file.write(b"0")
        except OSError:
            pass


def test_on_a_full_disk_names_are_dropped_and_their_bytes_freed(full: Store, check_store: CheckStore) -> None:
    with pytest.raises(NoSpaceError):
        put(full, "more", b"more")
    full.untag("old")
    fill(full.root.parent / "filler")
    assert sweep.prune(full).bytes > 3_000_000
    assert [tag.name for tag in full.tags()] == ["new"]
    check_store(full.root, idle=True)
    assert (full.root / "reserve").stat().st_size == RESERVED
    put(full, "more", b"more")


def test_on_a_full_disk_a_model_is_used_and_kept_from_collection(full: Store) -> None:
    blob = descriptor(b"old" * 1_000_000)
    with full.use([Digest.of(b"{}"), blob.digest]):
        folder = full.view(Digest.of(b"view"), [("model.gguf", blob)])
        assert (folder / "model.gguf").stat().st_size == blob.size
        fill(full.root.parent / "filler")
        assert len(list(full.leases.iterdir())) == 1


def test_a_full_store_without_a_reserve_is_named_and_not_its_inside(full: Store) -> None:
    (full.root / "reserve").unlink()
    fill(full.root.parent / "filler")
    with pytest.raises(NoSpaceError) as caught:
        full.untag("old")
    assert caught.value.message == f"the disk is full: no space left in the store {full.root}"
    with pytest.raises(NoSpaceError, match="no space left in the store") as caught, full.use([Digest.of(b"{}")]):
        pass
    assert [tag.name for tag in full.tags()] == ["old", "new"]


def test_a_layout_of_somebody_else_gets_no_reserve(tmp_path: Path) -> None:
    put(Store(tmp_path / "layout", work=tmp_path / "layout" / ".lading"), "a", b"weights")
    assert not list(tmp_path.rglob("reserve"))
