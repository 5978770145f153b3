"""podman, buildah and the rest of their family, with a storage and configuration of their own below a folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CONTAINERS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = "{folder}/tmp"
"""
_STORAGE = """
[storage]
driver = "vfs"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""
_TOOLS = Path(__file__).parents[2] / ".tools"
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'


def installed(program: str) -> str:
    """Return where a program is; skips the test where it is missing."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is missing (`make system` as root on Debian)")
    return path


def from_pypi(package: str, program: str) -> str:
    """Return where a program of a package in an environment of its own is; skips the test where it is missing."""
    found = sorted(_TOOLS.glob(f"{package}-*/bin/{program}"))
    if not found:
        pytest.skip(f"{package} is missing (`make system`)")
    return str(found[-1])


class Engines:
    """Runs programs in a world below `folder`: images, configuration, home. Layers are plain copies, no mounts stay."""

    def __init__(self, folder: Path, more: Mapping[str, str] | None = None) -> None:
        if os.getuid():
            pytest.skip("engines keep images below a folder of their own for root only")
        self.folder = folder
        config = folder / "home/.config/containers"
        config.mkdir(parents=True)
        (config / "policy.json").write_text(_POLICY)
        (folder / "containers.conf").write_text(_CONTAINERS.format(folder=folder))
        (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
            "LANG": "C.UTF-8",
            **(more or {}),
        }

    def given(self, **environment: str | None) -> Engines:
        """Return the same world with another environment; None takes a variable out of it."""
        other = copy(self)
        changed = {**self.environment, **environment}
        other.environment = {key: text for key, text in changed.items() if text is not None}
        return other

    def run(self, program: str, *arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a program and return how it went."""
        return subprocess.run(
            [installed(program), *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def __call__(self, program: str, *arguments: str | Path, timeout: float = 120) -> str:
        """Run a program that has to succeed and return what it printed."""
        done = self.run(program, *arguments, timeout=timeout)
        assert done.returncode == 0, f"{program} {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, program: str, *arguments: str | Path, timeout: float = 120) -> str:
        """Run a program that has to fail and return what it printed, messages too."""
        done = self.run(program, *arguments, timeout=timeout)
        assert done.returncode != 0, f"{program} {' '.join(map(str, arguments))} worked: {done.stdout}"
        return done.stdout + done.stderr

    def build(self, name: str, *, files: Mapping[str, bytes], lines: Sequence[str], program: str = "buildah") -> str:
        """Build an image of a Containerfile's lines, with files by their paths beside it, and return its name."""
        context = self.folder / "contexts" / str(len(list(self.folder.glob("contexts/*"))))
        for path, data in files.items():
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            (context / path).write_bytes(data)
        recipe = context.with_suffix(".containerfile")
        recipe.write_text("".join(f"{line}\n" for line in lines))
        self(program, "build", "--quiet", "--file", recipe, "--tag", name, context)
        return name


@dataclass(frozen=True)
class Docker:
    """docker, talking to a daemon of its own."""

    run: Engines
    version: str

    def __call__(self, *arguments: str | Path) -> str:
        return self.run("docker", *arguments)

    def refused(self, *arguments: str | Path) -> str:
        return self.run.refused("docker", *arguments)


def version(said: str) -> str:
    """Return the first number that a program printed of itself: `skopeo version 1.9.3` gives `1.9.3`."""
    match = re.search(r"\d+(?:\.\d+)+", said)
    assert match is not None, said
    return match[0]
