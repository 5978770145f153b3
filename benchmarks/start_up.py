"""Start-up: `lading --version` beside `ramalama version` (the nearest Python peer) and a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lib.measure import bar, compare, show

ROOT = Path(__file__).parents[1]
PEER = ROOT / ".tools/ramalama"
PEER_VERSION = "0.25.0"


def ramalama() -> str:
    """Install the peer in an environment of its own, once, and return its command."""
    command = PEER / "bin/ramalama"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER)], check=True)
        subprocess.run([str(PEER / "bin/pip"), "install", "--quiet", f"ramalama=={PEER_VERSION}"], check=True)
    return str(command)


def main() -> None:
    """Print the figures."""
    lading = str(Path(sys.executable).with_name("lading"))
    results = compare(
        {
            "lading --version": ([lading, "--version"], None),
            f"ramalama version ({PEER_VERSION})": ([ramalama(), "version"], None),
            "python -c pass": ([sys.executable, "-c", "pass"], None),
        },
        runs=11,
    )
    show("start-up", results)
    ours, peer, _bare = results.values()
    bar("CPU of `lading --version`", ours.cpu * 1e3, 60, " ms")
    bar("wall, beside ramalama's", ours.wall / peer.wall, 0.4)


if __name__ == "__main__":
    main()
