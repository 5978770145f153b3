"""Disks that are small or read-only, for tests: a tmpfs of their own, mounted while the test runs."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """A mounted file system of its own."""

    path: Path

    def resize(self, size: int) -> None:
        """Give it another size in bytes."""
        self._remount(f"size={size}")

    def freeze(self) -> None:
        """Make it read-only, for root too."""
        self._remount("ro")

    def _remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True, capture_output=True)


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Disk]:
    """Mount a tmpfs of `size` bytes on `folder`; skips the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "lading-test", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"mounting needs root (here: uid {os.getuid()})")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)
