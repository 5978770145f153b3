"""Serves the tests' hub with one repository until it is told to end: serve_hub.py OWNER/NAME FILE. Prints its host."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from hub import LoopbackHub


def main() -> None:
    """Serve."""
    repository, file = sys.argv[1], Path(sys.argv[2])
    hub = LoopbackHub()
    found = hub.add(repository, {file.name: file})
    # Hashed once, now, not within what is measured.
    assert all(content.sha256 for files in found.commits.values() for content in files.values())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(hub.host, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
