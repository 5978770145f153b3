"""How a runtime's process is started: a command as a value, and the environment that it may see."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TETHER = Path(__file__).with_name("tether.py")
_NAMES = {
    "PATH", "HOME", "TMPDIR", "LANG", "LANGUAGE", "TZ", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
    "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "VIRTUAL_ENV",
    "GPU_DEVICE_ORDINAL",
}  # fmt: skip
# Where libraries lie, and how devices and their threads are chosen. LLAMA_* is left out on purpose: it would change
# flags behind the user's back.
_PREFIXES = (
    "LC_", "LD_", "DYLD_", "GGML_", "CUDA_", "NVIDIA_", "HIP_", "HSA_", "ROCR_", "ROCM_", "VK_", "MESA_",
    "ONEAPI_", "SYCL_", "ZE_", "MUSA_", "ASCEND_", "CANN_", "OMP_", "GOMP_", "KMP_", "OPENBLAS_",
)  # fmt: skip
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Command:
    """A process to be started by the process that asked for it, in the folder `/`.

    `environment` is all that it sees. `stdin` is written to its standard input, which stays open as long as its
    starter lives; None gives it an empty one. Both may hold keys and are not shown.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    stdin: bytes | None = field(default=None, repr=False)


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that a runtime may see: search paths and device choices, no secrets."""
    return {
        name: value
        for name, value in environment.items()
        if (name in _NAMES or name.startswith(_PREFIXES)) and not _SECRET.search(name)
    }


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the argv that runs a module of this package in a Python of its own.

    Without `-P` a folder named `lading` in the working folder would be run in our place.
    """
    return (sys.executable, "-P", "-m", name, *arguments)


def tethered(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the argv that runs a program, named by its full path, so that it dies with this process (on Linux)."""
    if sys.platform != "linux":
        return argv
    return (sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *argv)
