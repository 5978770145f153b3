"""The control groups that this process is in, as folders: a limit of any of them holds (cgroups(7))."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's groups and of all above them, of version 2 and of `controller` in version 1."""
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                yield from _upwards(root / "sys/fs/cgroup", path)
            elif controller in controllers.split(","):
                yield from _upwards(root / "sys/fs/cgroup" / controller, path)


def _upwards(mount: Path, path: str) -> list[Path]:
    """Return the folders from a group up to the mount; in a container the path may be the host's and not exist."""
    folder = mount / path.lstrip("/")
    return [folder, *(one for one in folder.parents if one.is_relative_to(mount))]
