"""Disks on which what is to be written just fits, or just does not."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from disks import mounted

if TYPE_CHECKING:
    from pathlib import Path

    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

SIZE = 40_000_000
ENOUGH = 20_000_000


@pytest.fixture
def big(lading: CommandLine, story: Path) -> str:
    """The name of a model in the store, of a small file and a big one."""
    folder = lading.folder / "big"
    folder.mkdir()
    story.rename(folder / "story.gguf")
    (folder / "big.bin").write_bytes(os.urandom(SIZE))
    lading("pack", folder, "-t", "big:1")
    return "big:1"


def test_a_pull_goes_on_where_only_its_rest_still_fits(
    lading: CommandLine, big: str, plain_registry: RegistryProcess, tmp_path: Path
) -> None:
    place = f"{plain_registry.host}/small/big:1"
    lading("push", big, place)
    with mounted(tmp_path / "disk", 64 << 20) as disk:
        lading.environment["LADING_STORE"] = str(disk.path / "store")
        process = lading.start("pull", place, "--limit-rate", "10M")
        ingest = disk.path / "store/ingest"
        for _ in range(600):
            sizes = [path.stat().st_size for path in ingest.glob("sha256-*")] if ingest.is_dir() else []
            if max(sizes, default=0) > ENOUGH:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _out, told = process.communicate(timeout=60)
        assert "kept; the same command resumes" in told
        # The whole of it would not fit any more.
        free = os.statvfs(disk.path)
        assert free.f_bavail * free.f_frsize < SIZE + (16 << 20)
        assert "pulled" in lading("pull", place).stdout


def test_a_layout_that_has_no_room_is_told_of_before_anything_is_written(
    lading: CommandLine, big: str, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", 32 << 20) as disk:
        told = lading("copy", big, f"oci-layout:{disk.path}/out:1", code=7).stderr
        assert told.startswith("error: 42.9 MB are to be written; ")
        assert "hint: free some space, or name a layout in another place" in told
        assert not [path for path in disk.path.rglob("*") if path.is_file()]
