"""Ties a process to the one that started it, so that the kernel ends it too when that one dies.

Also a program: `python -I -S tether.py PARENT PROGRAM ARGUMENT...` ties itself and becomes PROGRAM. It imports the
standard library only, so that it starts in a few milliseconds without the package.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)
_CANNOT_EXECUTE = 126


def tie(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; exits if `parent` is dead already.

    Linux only: elsewhere this does nothing. The tie outlives execve(2).
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main(arguments: list[str]) -> None:
    """Tie this process to `arguments[0]` and run `arguments[1:]` in its place."""
    tie(int(arguments[0]))
    program = arguments[1]
    try:
        os.execv(program, arguments[1:])  # noqa: S606  # no shell is the point
    except OSError as error:
        sys.stderr.write(f"{program}: {error.strerror}\n")
        sys.exit(_CANNOT_EXECUTE)


if __name__ == "__main__":
    main(sys.argv[1:])
