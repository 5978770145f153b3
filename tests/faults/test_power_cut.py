"""Power cuts: the disk as it is after each step of a command, with all that was never synced gone.

A file system of its own on a loop device is written back only when asked; its backing file, copied between two steps,
is what a machine would find after its power came back.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from checker import check_store
from sources import Memory, ignore, manifest, put

from lading.store import Store, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Record

STEPS = ("open", "pwrite", "ftruncate", "fsync", "fdatasync", "replace", "link", "unlink", "mkdir", "fchmod")
OLD, NEW = bytes(range(256)) * 40, random.Random(7).randbytes(300_000)
SIZE = 8 << 20


def command(*words: str | Path) -> None:
    subprocess.run([*map(str, words)], check=True, capture_output=True)


@contextmanager
def attached(image: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    command("mount", "-o", "loop,commit=300", image, folder)
    try:
        yield folder
    finally:
        command("umount", folder)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An empty file system in a file; skips where none can be mounted."""
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(SIZE)
    try:
        command("mkfs.ext4", "-q", path)
        with attached(path, tmp_path / "disk"):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a loop device needs root (here: uid {os.getuid()}): {error}")
    return path


def pull(store: Store) -> None:
    made = manifest(NEW)
    with store.lease([made.digest, *(blob.digest for blob in made.blobs)]):
        for blob in made.blobs:
            store.put_blob(blob, Memory(NEW, b"{}"), ignore)
        store.put_document(made, "new")


def retag(store: Store) -> None:
    store.tag("new", store.document("old"))
    store.untag("gone")


def prune(store: Store) -> None:
    sweep.prune(store)


OPERATIONS: dict[str, Callable[[Store], None]] = {one.__name__: one for one in (pull, retag, prune)}


def prepare(folder: Path, operation: str) -> Store:
    store = Store(folder / "store")
    put(store, "old", OLD)
    put(store, "gone", b"gone")
    if operation == "prune":
        store.untag("gone")
    os.sync()
    return store


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_power_cut_after_any_step_loses_nothing(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, record: Record, operation: str
) -> None:
    cuts: list[Path] = []

    def cut() -> None:
        cuts.append(tmp_path / f"cut{len(cuts)}")
        command("cp", "--sparse=always", image, cuts[-1])

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            cut()
            return result

        return step

    with attached(image, tmp_path / "disk") as disk:
        store = prepare(disk, operation)
        with monkeypatch.context() as patch:
            for name in STEPS:
                patch.setattr(os, name, watched(getattr(os, name)))
            OPERATIONS[operation](store)
        cut()
    assert len(cuts) > 5
    old = manifest(OLD).digest
    for number, path in enumerate(cuts):
        with attached(path, tmp_path / "after") as disk:
            done = number == len(cuts) - 1
            found = Store(disk / "store")
            promised = {"old", old} | ({"new"} if done and operation != "prune" else set())
            names = check_store(found.root, committed=promised, arriving=2 * len(NEW))
            assert not (done and "gone" in names and operation == "retag")
            if operation != "retag" or "gone" in names:
                OPERATIONS[operation](found)
            assert [fault for _digest, _size, fault in sweep.verify(found) if fault] == []
            sweep.prune(found)
            check_store(found.root, committed={old}, swept=True)
        path.unlink()
    record("power cuts", "each step", operation, len(cuts))


def test_the_cut_itself_does_lose_what_was_never_synced(tmp_path: Path, image: Path) -> None:
    with attached(image, tmp_path / "disk") as disk:
        (disk / "part").write_bytes(NEW)
        (disk / "part").rename(disk / "careless")
        with (disk / "careful").open("wb") as file:
            file.write(NEW)
            os.fsync(file.fileno())
        shutil.copyfile(image, tmp_path / "cut")
    with attached(tmp_path / "cut", tmp_path / "after") as disk:
        assert (disk / "careful").read_bytes() == NEW
        careless = disk / "careless"
        assert not careless.exists() or careless.read_bytes() != NEW
