"""Each system call with which a command touches the store may be its last, or fail: nothing is lost, nothing is stuck."""

from __future__ import annotations

import compileall
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from checker import check_store
from trials import OLD

import lading
from lading import api

if TYPE_CHECKING:
    from pathlib import Path

    from trials import World

    from .conftest import Record

pytestmark = pytest.mark.integration

COMMANDS = ("pull", "push", "pack", "tag", "rm", "prune")
CALLS = "openat,write,pwrite64,ftruncate,fsync,fdatasync,rename,link,linkat,symlink,unlink,unlinkat,mkdir,flock,fchmod"
SAMPLE = {"KILL": 12, "EIO": 6, "ENOSPC": 6}
CODES = {"EIO": {0, 1}, "ENOSPC": {0, 7}}
_CALL = re.compile(r"(\d+) +(\w+)\(")


@dataclass(frozen=True)
class Point:
    """The `turn`-th call of that name in one thread, from 1; `line` is what strace saw."""

    name: str
    turn: int
    line: str

    def may_fail(self, fault: str) -> bool:
        """Say whether a disk could answer so: a lock is none of its business, and reading needs no space."""
        return self.name != "flock" and (fault != "ENOSPC" or self.name != "openat" or "O_CREAT" in self.line)


@pytest.fixture(scope="session")
def strace(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is missing: apt-get install strace")
    log = tmp_path_factory.mktemp("strace") / "log"
    if subprocess.run([program, "-o", log, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody trace processes")
    return program


class Scene:
    """One command on a store of its own, with or without something happening to it."""

    def __init__(self, world: World, command: str) -> None:
        self.world = world
        self.command = command
        self.store = world.store("pull" if command in ("pull", "pack") else "push")
        self.kept = {OLD} if command in ("pull", "pack", "rm", "prune") else {OLD, "model:1", world.digest}
        if command == "prune":
            session, _ = world.session(self.store)
            api.remove(session, ["model:1"])
        home = world.environment(self.store)["HOME"]
        place = f"{world.registry.host}/chaos/"
        self.words = {
            "pull": ["pull", f"{world.registry.host}/{world.model}"],
            "push": ["push", "model:1", f"{place}{self.store.name}:1"],
            "pack": ["pack", f"{home}/model.gguf", "-t", "packed:1", "--copy"],
            "tag": ["tag", "model:1", "second:1"],
            "rm": ["rm", "model:1"],
            "prune": ["prune"],
        }[command]

    def run(self, *before: str | Path) -> subprocess.CompletedProcess[str]:
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
        done = self.run()
        gone = self.command == "rm" and done.returncode == 3 and "no model is named" in done.stderr
        assert done.returncode == 0 or gone, done.stderr
        names = check_store(self.store, committed=self.kept)
        if self.command == "pull":
            assert names[self.words[1]] == self.world.digest
        if self.command == "tag":
            assert names["second:1"] == self.world.digest
        if self.command == "pack":
            assert names["packed:1"] == self.world.digest
        assert ("model:1" in names) == (self.command in ("push", "tag"))
        place = self.words[-1].replace(self.world.registry.host, self.world.proxy.host)
        self.world.afterwards(self.command if self.command == "push" else "", self.store, place)

    def close(self) -> None:
        shutil.rmtree(self.store)


@pytest.fixture(scope="session")
def points(strace: str, world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Point]]:
    """Every call of each command that touches the store, found by watching it once."""
    # A fresh clone has no compiled modules yet: written in the middle of this, they would change the number of calls.
    compileall.compile_dir(os.path.dirname(lading.__file__), quiet=1)  # noqa: PTH120 - compileall takes text
    found: dict[str, list[Point]] = {}
    for command in COMMANDS:
        scene = Scene(world, command)
        log = tmp_path_factory.mktemp("trace") / "log"
        done = scene.run(strace, "-f", "--seccomp-bpf", "-y", "-s", "16", "-o", log, "-e", f"trace={CALLS}")
        assert done.returncode == 0, done.stderr
        turns: Counter[tuple[str, str]] = Counter()
        found[command] = []
        for line in log.read_text(errors="replace").splitlines():
            if call := _CALL.match(line):
                turns[call[1], call[2]] += 1
                if str(scene.store) in line:
                    found[command].append(Point(call[2], turns[call[1], call[2]], line))
        scene.close()
    return found


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", SAMPLE)
def test_a_call_that_is_the_last_or_fails_loses_nothing(
    strace: str,
    world: World,
    points: dict[str, list[Point]],
    tmp_path: Path,
    record: Record,
    fault_seed: int,
    fault: str,
    command: str,
) -> None:
    eligible = [point for point in points[command] if fault == "KILL" or point.may_fail(fault)]
    assert len(eligible) >= 3, f"{command} touches the store {len(eligible)} times"
    rng = random.Random(f"{fault_seed} {command} {fault}")
    struck = 0
    for point in rng.sample(eligible, min(SAMPLE[fault], len(eligible))):
        what = f"signal={fault}" if fault == "KILL" else f"error={fault}"
        scene = Scene(world, command)
        log = tmp_path / "log"
        inject = f"inject={point.name}:{what}:when={point.turn}"
        done = scene.run(strace, "-f", "-y", "-o", log, "-e", f"trace={point.name}", "-e", inject)
        seen = log.read_text(errors="replace")
        where = f"{command}: {inject}: {point.line}\n{done.returncode}\n{done.stderr}"
        if fault == "KILL":
            assert "killed by SIGKILL" in seen, where
            struck += 1
        else:
            struck += "(INJECTED)" in seen
            assert done.returncode in CODES[fault], where
            assert done.stderr.count("error: ") == (done.returncode != 0), where
            assert "Traceback" not in done.stderr, where
            assert "this is a defect" not in done.stderr, where
        try:
            scene.recover()
        except AssertionError as error:
            error.add_note(where)
            raise
        scene.close()
    assert struck
    record("system calls", fault, command, struck)


def test_a_pull_killed_fifty_times_needs_only_the_same_command(world: World, record: Record, fault_seed: int) -> None:
    deaths = sum(world.killed(fault_seed * 50 + number).strikes for number in range(50))
    assert deaths >= 10, "most pulls were over before they were killed"
    record("random moments", "KILL", "pull", deaths)
