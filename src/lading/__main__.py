"""The door: `lading` and `python -m lading` begin and end here, and Ctrl-C is answered from here on."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and end the process with its exit code, which is 130 also for Ctrl-C while it is being loaded."""
    # What is loaded stays: looking for garbage in it is a twentieth of a short command's time. A session enables it again.
    gc.disable()
    try:
        from lading.cli.entry import main as enter  # noqa: PLC0415 - what loads the rest can be interrupted

        code = enter()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = 130
    # Taking the interpreter apart is another tenth, and all that must be closed is: every verb closes what it opens.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a failure said so already, and a success was written out
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
