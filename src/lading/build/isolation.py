"""How far a child that reads strangers' files is locked up on this machine, and the command that does it.

    namespaces   no network, no other processes, and of the file system what it was given, read-only but for one folder
    bubblewrap   the same, by the program `bwrap`, where only that may make namespaces
    limits       neither: an empty environment and limits of memory, time and file sizes

Where the kernel and its settings decide, the best level is found by trying it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lading.runtime.process import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

Level = Literal["namespaces", "bubblewrap", "limits"]

_JAIL = Path(__file__).with_name("jail.py")
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime",
    "/sys/devices/system/cpu",
)  # fmt: skip
"""Where programs and libraries lie, and what libraries ask of the processor; nothing of a user's."""
_TRY_SECONDS = 20
_CORE_BYTES, _OPEN_FILES = 0, 4096


@dataclass(frozen=True, slots=True)
class Cell:
    """What a locked-up program is given: paths that it may read and write, and how much it may take.

    Paths are absolute; links among them are shown as links, so what they point to is named too. `cpu_seconds`,
    `memory` and `file_size` (bytes) are the limits.
    """

    read: tuple[Path, ...]
    write: tuple[Path, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cpu_seconds: int = 3600
    memory: int | None = None
    file_size: int | None = None


def isolation_level(environment: Mapping[str, str]) -> Level:
    """Return the best level that works here, after trying; `environment` is the user's, for its PATH."""
    if sys.platform != "linux":
        return "limits"
    nothing = (sys.executable, "-I", "-S", "-c", "")
    cell = Cell(read=_own_paths(), write=())
    for level in ("namespaces", "bubblewrap"):
        if level == "bubblewrap" and not _bwrap(environment):
            continue
        if _works(locked(nothing, cell, level, environment)):
            return level
    return "limits"


def locked(argv: tuple[str, ...], cell: Cell, level: Level, environment: Mapping[str, str]) -> Command:
    """Return the command that runs `argv` at a level; to be started by this very process."""
    spec = {
        "parent": os.getpid(),
        "namespaces": level == "namespaces",
        "read": [*(path for path in _SYSTEM), *(str(path) for path in cell.read)],
        "write": [str(path) for path in cell.write],
        "folder": str(cell.write[0]) if cell.write else "/",
        "argv": argv,
        "environment": dict(cell.environment),
        "limits": _limits(cell),
    }
    if level == "bubblewrap":
        # Inside, the jail only sets the limits; its parent is bwrap, which dies with us.
        inner = (sys.executable, "-I", "-S", str(_JAIL), json.dumps(spec | {"parent": 0}))
        return Command(argv=(*_bwrap_flags(cell, environment), *inner), environment={})
    return Command(argv=(sys.executable, "-I", "-S", str(_JAIL), json.dumps(spec)), environment={})


def _limits(cell: Cell) -> dict[str, int]:
    limits = {"RLIMIT_CORE": _CORE_BYTES, "RLIMIT_NOFILE": _OPEN_FILES, "RLIMIT_CPU": cell.cpu_seconds}
    if cell.memory is not None:
        limits["RLIMIT_DATA"] = cell.memory
    if cell.file_size is not None:
        limits["RLIMIT_FSIZE"] = cell.file_size
    return limits


def _bwrap(environment: Mapping[str, str]) -> str | None:
    return shutil.which("bwrap", path=environment.get("PATH", ""))


def _bwrap_flags(cell: Cell, environment: Mapping[str, str]) -> tuple[str, ...]:
    flags = [_bwrap(environment) or "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    flags += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]  # noqa: S108  # of the new root
    for path in (*map(Path, _SYSTEM), *_own_paths(), *cell.read):
        if path.is_symlink():
            flags += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            flags += ["--ro-bind", str(path), str(path)]
    for path in cell.write:
        flags += ["--bind", str(path), str(path)]
    return (*flags, "--")


def _own_paths() -> tuple[Path, ...]:
    """Return what this Python and the jail's own program need to start."""
    return tuple(dict.fromkeys((*interpreter_paths(), _JAIL.resolve())))


def interpreter_paths() -> tuple[Path, ...]:
    """Return where this interpreter and its libraries lie."""
    homes = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    return tuple(dict.fromkeys(Path(home).resolve() for home in homes))


def _works(command: Command) -> bool:
    try:
        done = subprocess.run(  # noqa: S603  # our own program, without a shell
            command.argv,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            timeout=_TRY_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
