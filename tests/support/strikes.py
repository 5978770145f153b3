"""Strikes: one system call with which a command touches its store is its last, or fails, and what follows is checked.

What `save` and `copy` write lies in a folder beside the store; there they are struck.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checker import check_store, hold
from trials import OLD

import lading
from lading import api

if TYPE_CHECKING:
    from pathlib import Path

    from trials import World

COMMANDS = ("pull", "push", "pack", "tag", "rm", "prune", "save", "load", "copy")
FAULTS = ("KILL", "EIO", "ENOSPC")
CODES = {"EIO": {0, 1}, "ENOSPC": {0, 7}}
# fmt: off
TAKES = frozenset((
    "write", "pwrite64", "pwritev", "ftruncate", "fallocate", "copy_file_range", "fsync", "fdatasync", "rename",
    "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "mkdir", "mkdirat",
    "rmdir", "chmod", "fchmod", "utimensat",
))
"""Calls that change the disk: each may find it full, on a file system that copies what it changes."""
READS = frozenset((
    "open", "openat", "read", "pread64", "preadv", "getdents64", "stat", "lstat", "newfstatat", "statx", "readlink",
    "access", "faccessat2",
))
"""Calls that a disk may answer with EIO."""
# fmt: on
_ARCHIVE, _OLDER = "model.tar", b"an older archive"
_FORMATS = "docker,modelpack,image"
_WORK = ".lading"
_CALL = re.compile(r"(\d+) +(\w+)\(")
_PATIENCE = 3


@dataclass(frozen=True)
class Point:
    """A call of that name: the `turn`-th (from 1) of one thread that names `path`, a file or folder of the store or beside it.

    `path` is relative to what is struck, and None where it is another one each time: then all calls of that name count.
    `line` is what strace saw.
    """

    name: str
    path: str | None
    turn: int
    line: str

    def may(self, fault: str) -> bool:
        """Say whether this may happen there: a lock is none of a disk's business, and reading needs no space."""
        if fault == "KILL":
            return True
        creates = self.name in ("open", "openat") and "O_CREAT" in self.line
        return self.name in TAKES or creates or (fault == "EIO" and self.name in READS)


class Scene:
    """One command on a store of its own, with or without something happening to it."""

    def __init__(self, world: World, command: str) -> None:
        self.world = world
        self.command = command
        self.store = world.store("pull" if command in ("pull", "pack", "load") else "push")
        self.touched = self.store
        self.kept = {OLD} if command in ("pull", "pack", "rm", "prune", "load") else {OLD, "model:1", world.digest}
        if command == "prune":
            session, _ = world.session(self.store)
            api.remove(session, ["model:1"])
        home = world.environment(self.store)["HOME"]
        place = f"{world.registry.host}/chaos/"
        out = self.store.with_name(f"{self.store.name}-out")
        self.words = {
            "pull": ["pull", f"{world.registry.host}/{world.model}"],
            "push": ["push", "model:1", f"{place}{self.store.name}:1"],
            "pack": ["pack", f"{home}/model.gguf", "-t", "packed:1", "--copy"],
            "tag": ["tag", "model:1", "second:1"],
            "rm": ["rm", "model:1"],
            "prune": ["prune"],
            "save": ["save", "model:1", "-o", f"{out}/{_ARCHIVE}"],
            "load": ["load", f"{_saved(world)}"],
            "copy": ["copy", f"{world.registry.host}/{world.model}", f"oci-layout:{out}:1", "--format", _FORMATS],
        }[command]
        if command in ("save", "copy"):
            self.touched = out
            _prepare(world, command, out)

    def run(self, *before: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command, as the last words of what comes `before`."""
        environment = {"PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath, **self.world.environment(self.store)}
        return subprocess.run(
            [*before, sys.executable, "-m", "lading", *self.words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def recover(self) -> None:
        """Hold the store to its promises, repeat the command without a fault, and hold it again."""
        check_store(self.store, committed=self.kept, arriving=2 * self.world.size)
        self._check_beside()
        done = self.run()
        gone = self.command == "rm" and done.returncode == 3 and "no model is named" in done.stderr
        hold("I5", done.returncode == 0 or gone, f"the command still fails: {done.stderr}")
        names = check_store(self.store, committed=self.kept)
        made = {"pull": self.words[-1], "tag": "second:1", "pack": "packed:1", "load": "model:1"}.get(self.command)
        hold("I5", made is None or names[made] == self.world.digest, f"{made} is another model")
        stays = self.command in ("push", "tag", "save", "load", "copy")
        hold("I4", ("model:1" in names) == stays, sorted(names))
        self._check_beside(whole=True)
        place = self.words[-1].replace(self.world.registry.host, self.world.proxy.host)
        self.world.afterwards(self.command if self.command == "push" else "", self.store, place)

    def _check_beside(self, *, whole: bool = False) -> None:
        """Hold what is beside the store to its promises: as before, or all there, which it is once it is `whole`."""
        if self.command == "save":
            found = {path.name: path.read_bytes() for path in self.touched.iterdir()}
            hold("I8", found.keys() <= {_ARCHIVE, f".{_ARCHIVE}.new"}, sorted(found))
            new = _saved(self.world).read_bytes()
            hold("I4", found.get(_ARCHIVE) in ((new,) if whole else (_OLDER, new)), "an archive that is neither")
            hold("I7", not whole or len(found) == 1, f"left: {sorted(found)}")
        elif self.command == "copy":
            names = check_store(self.touched, committed=["old"], beside=[_WORK])
            forms = {f"1-{form}" for form in _FORMATS.split(",")}
            hold("I2", names.keys() <= {"old", "1", *forms}, sorted(names))
            hold("I2", not {"1"} & names.keys() or forms <= names.keys(), "the index was named before its forms")
            hold("I5", not whole or "1" in names, sorted(names))
            hold("I7", not (whole and (self.touched / _WORK).exists()), "work is left in the layout")

    def close(self) -> None:
        shutil.rmtree(self.store)
        if self.touched != self.store:
            shutil.rmtree(self.touched)


def _saved(world: World) -> Path:
    """Return an archive of the model, made once."""
    path = world.folder / "saved.tar"
    if not path.exists():
        store = world.store("push")
        api.save(world.session(store)[0], ["model:1"], path)
        shutil.rmtree(store)
    return path


def _prepare(world: World, command: str, out: Path) -> None:
    """Make the folder beside the store, with something of before in it."""
    out.mkdir()
    if command == "save":
        (out / _ARCHIVE).write_bytes(_OLDER)
        _saved(world)
    else:
        store = world.store("push")
        api.copy(world.session(store)[0], OLD, f"oci-layout:{out}:old")
        shutil.rmtree(store)


def strace() -> tuple[str | None, str]:
    """Return the program that strikes, or None and why it cannot."""
    program = shutil.which("strace")
    if program is None:
        return None, "strace is missing: apt-get install strace"
    if subprocess.run([program, "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        return None, "this machine lets nobody trace processes"
    return program, ""


def find(program: str, world: World, command: str, log: Path) -> list[Point]:
    """Watch a command once and return each of its calls that touches the store; `log` is a file to write."""
    # A fresh clone has no compiled modules yet: written in the middle of this, they would change the number of calls.
    compileall.compile_dir(os.path.dirname(lading.__file__), quiet=2)  # noqa: PTH120 - compileall takes text
    scene = Scene(world, command)
    done = scene.run(program, "-f", "--seccomp-bpf", "-y", "-s", "16", "-o", log, "-e", "trace=%file,%desc")
    hold("I5", done.returncode == 0, done.stderr)
    turns: Counter[tuple[str, str, str | None]] = Counter()
    found: dict[tuple[str, str | None, int], Point] = {}
    inside = re.compile(re.escape(str(scene.touched)) + r"(?:/([^\s\"<>]*))?")
    for line in log.read_text(errors="replace").splitlines():
        if call := _CALL.match(line):
            paths = dict.fromkeys(inside.findall(line))
            for path in (None, *paths):
                turns[call[1], call[2], path] += 1
            if paths:
                path = None if any("leases/" in one for one in paths) else next(iter(paths))
                turn = turns[call[1], call[2], path]
                # The same turn in another thread is the same strike: whoever comes there first.
                found.setdefault((call[2], path, turn), Point(call[2], path, turn, line))
    scene.close()
    return list(found.values())


def strike(program: str, world: World, command: str, point: Point, fault: str, log: Path) -> bool:
    """Let the fault happen to a command at that call; raises BrokenPromiseError, with the call, for what it breaks.

    Returns False where it never struck the store: threads do not share their work the same way each time.
    """
    what = f"signal={fault}" if fault == "KILL" else f"error={fault}"
    inject = f"inject={point.name}:{what}:when={point.turn}"
    for _attempt in range(_PATIENCE):
        scene = Scene(world, command)
        try:
            only = () if point.path is None else ("-P", scene.touched / point.path)
            done = scene.run(program, "-f", "-y", "-o", log, *only, "-e", f"trace={point.name}", "-e", inject)
            hits = _hits(log.read_text(errors="replace"), fault)
            where = f"{command}: {inject}: {point.line}\n{hits}\n{done.returncode}\n{done.stderr}"
            missed = not hits or not all(str(scene.touched) in line for line in hits)
            try:
                # A call that failed elsewhere, in Python's own files say, is none of the store's business.
                if fault != "KILL" and not missed:
                    hold("I9", done.returncode in CODES[fault], done.returncode)
                    hold("I9", done.stderr.count("error: ") == (done.returncode != 0), "not one message")
                    hold("I9", "Traceback" not in done.stderr and "this is a defect" not in done.stderr, "a defect")
                scene.recover()
            except AssertionError as error:
                error.add_note(where)
                raise
        finally:
            scene.close()
        if not missed:
            return True
    return False


def _hits(log: str, fault: str) -> list[str]:
    """Return the calls that were struck: marked by strace, or the last one that had begun when the process died."""
    lines = log.splitlines()
    if fault == "KILL":
        died = next((place for place, line in enumerate(lines) if "killed by SIGKILL" in line), 0)
        return [line for line in lines[:died] if line.endswith(("= ?", "<unfinished ...>"))][-1:]
    marked = [place for place, line in enumerate(lines) if "(INJECTED)" in line]
    return [_begun(lines[: place + 1]) for place in marked]


def _begun(lines: list[str]) -> str:
    """Return the last line, or the one before it that tells its arguments: another thread may have come in between."""
    thread = lines[-1].partition(" ")[0]
    own = (line for line in reversed(lines) if line.partition(" ")[0] == thread and "resumed>" not in line)
    return next(own)
