"""A disk that fills while a command works: exit code 7, nothing lost, and the same command goes on once there is space."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checker import check_store
from disks import mounted
from trials import OLD

from lading import api, fs
from lading.errors import NoSpaceError

if TYPE_CHECKING:
    from trials import World

    from .conftest import Record

pytestmark = pytest.mark.integration

NO_SPACE = 7
SAMPLE = 5
ROOM = 64 << 20


def run(world: World, store: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lading", *map(str, words)],
        env=world.environment(store),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fill(file: Path, left: int) -> None:
    """Take all the space there is but for `left` bytes."""
    with file.open("wb", buffering=0) as filler:
        for size in (1 << 20, 4096):
            with suppress(OSError):
                while filler.write(bytes(size)) == size:
                    pass
        filler.truncate(max(0, filler.tell() - left))


@pytest.mark.parametrize("command", ["pull", "pack", "tag", "rm"])
def test_a_disk_that_fills_loses_nothing(
    tmp_path: Path, world: World, record: Record, fault_seed: int, command: str
) -> None:
    rng = random.Random(f"{fault_seed} {command}")
    fresh = command in ("pull", "pack")
    place = f"{world.registry.host}/{world.model}"
    home = Path(world.environment(tmp_path)["HOME"])
    words = {
        "pull": ["pull", place],
        "pack": ["pack", str(home / "model.gguf"), "-t", "packed:1", "--copy"],
        "tag": ["tag", "model:1", "second:1"],
        "rm": ["rm", "model:1"],
    }[command]
    for number in range(SAMPLE):
        with mounted(tmp_path / "disk", ROOM) as disk:
            store = disk.path / "store"
            made = world.store("pull" if fresh else "push")
            shutil.copytree(made, store)
            shutil.rmtree(made)
            # Pages are 4 KiB: with a few of them left, another step each time is the one that finds no room.
            left = rng.randrange(0, world.size if fresh else 8192) if number else 0
            filler = disk.path / "filler"
            fill(filler, left)
            done = run(world, store, *words)
            assert done.returncode in ({NO_SPACE} if fresh else {0, NO_SPACE}), done.stderr
            assert done.stderr.count("error: ") == (done.returncode != 0)
            assert "hint: " in done.stderr or done.returncode == 0
            kept = {OLD} if fresh or (done.returncode == 0 and command == "rm") else {OLD, "model:1"}
            check_store(store, committed=kept, arriving=2 * world.size)
            assert run(world, store, "list").returncode == 0
            filler.unlink()
            if done.returncode:
                again = run(world, store, *words)
                assert again.returncode == 0, again.stderr
            names = check_store(store, committed={OLD})
            expected = {"pull": place, "pack": "packed:1", "tag": "second:1", "rm": OLD}[command]
            assert expected in names
            assert run(world, store, "prune").returncode == 0
            check_store(store, committed={OLD}, swept=True)
        record("full disk", "no page" if not number else "a few pages", command)


def test_a_disk_that_fills_while_a_pull_receives(
    tmp_path: Path, world: World, record: Record, fault_seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Somebody else takes the space after it was found to be enough: here, by a figure that is not true.
    monkeypatch.setattr(fs, "free_bytes", lambda _folder: 1 << 40)
    place = f"{world.registry.host}/{world.model}"
    rng = random.Random(fault_seed)
    for left in (0, *(rng.randrange(world.size) for _ in range(SAMPLE))):
        with mounted(tmp_path / "disk", ROOM) as disk:
            store = disk.path / "store"
            made = world.store("pull")
            shutil.copytree(made, store)
            shutil.rmtree(made)
            fill(disk.path / "filler", left)
            session, _ = world.session(store)
            with pytest.raises(NoSpaceError) as error:
                api.pull(session, place)
            session.client.close()
            assert error.value.hint
            check_store(store, committed={OLD}, arriving=world.size + 4096)
            (disk.path / "filler").unlink()
            session, _ = world.session(store)
            api.pull(session, place)
            session.client.close()
            world.afterwards("", store, place)
        record("disk that fills", "while receiving", "pull")
