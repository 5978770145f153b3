"""The door: `lading` and `python -m lading` begin here, and Ctrl-C is answered from here on."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return its exit code, which is 130 also when Ctrl-C comes while it is being loaded."""
    try:
        from lading.cli.entry import main as enter  # noqa: PLC0415 - what loads the rest can be interrupted

        return enter()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
