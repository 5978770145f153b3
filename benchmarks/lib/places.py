"""Where the benchmarks work: folders that are gone afterwards, made empty and quiet before each run."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lib.machine import WORK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LADING = str(Path(sys.executable).with_name("lading"))


@contextmanager
def workplace() -> Iterator[Path]:
    """Yield an empty folder on the file system that all is measured on."""
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as name:
        yield Path(name)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment whose home, store and cache lie in `folder`, and in which Python keeps what it compiles."""
    own = {"HOME": str(folder), "LADING_STORE": str(folder / "store"), "XDG_CACHE_HOME": str(folder / "cache")}
    # As a package that was installed has it; the round that does not count compiles.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **own, **more}


def emptied(*paths: Path) -> Callable[[], None]:
    """Return what removes these paths and waits for the disk, so that no run pays for an earlier one's writes."""

    def empty() -> None:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        os.sync()

    return empty
