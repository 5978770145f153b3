"""Serves the tests' hub with one repository until it is told to end: serve_hub.py OWNER/NAME DELAY FILE... Prints its host."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from hub import LoopbackHub


def main() -> None:
    """Serve."""
    repository, delay, *files = sys.argv[1:]
    hub = LoopbackHub()
    found = hub.add(repository, {Path(file).name: Path(file) for file in files})
    # Hashed once, now, not within what is measured.
    assert all(content.sha256 for held in found.commits.values() for content in held.values())
    hub.delay = float(delay)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(hub.host, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
