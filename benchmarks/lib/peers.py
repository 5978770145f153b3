"""The peers: those from PyPI are installed into .tools, each in an environment of its own; the others are Debian's."""

from __future__ import annotations

import shutil
import subprocess
import sys

from lib.machine import ROOT

RAMALAMA = "0.25.0"
ORAS = "0.2.43"


def ramalama() -> str:
    """Return the command of RamaLama."""
    return f"{_environment('ramalama', RAMALAMA)}/ramalama"


def oras_python() -> str:
    """Return a Python that has oras-py."""
    return f"{_environment('oras', ORAS)}/python"


def installed(program: str) -> str:
    """Return the path of a program; raises SystemExit where it is missing."""
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not installed, and without it nothing can be measured here (`make system`)"
        raise SystemExit(message)
    return path


def version(program: str, *asked: str) -> str:
    """Return the first number that a program prints of itself: `skopeo version 1.9.3` gives `1.9.3`."""
    said = subprocess.run(
        [installed(program), *(asked or ["--version"])], capture_output=True, text=True, check=True
    ).stdout
    return next(word.lstrip("v").partition("+")[0] for word in said.split() if word.lstrip("v")[:1].isdigit())


def _environment(package: str, wanted: str) -> str:
    folder = ROOT / ".tools" / f"{package}-{wanted}"
    done = folder / "done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet"]
        subprocess.run([*pip, "install", f"{package}=={wanted}"], check=True)
        done.touch()
    return str(folder / "bin")
