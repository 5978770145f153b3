"""Pack: a 1 GiB GGUF by hard link, beside `openssl dgst -sha256` of the same file."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

from lib.measure import bar, compare, show

SIZE = 1024**3


def write_gguf(path: Path, size: int) -> None:
    """Write a valid GGUF whose one tensor is `size` random bytes."""

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text)) + text.encode()

    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    header += string("general.architecture") + struct.pack("<I", 8) + string("llama")
    header += string("blob.weight") + struct.pack("<IQIQ", 1, size, 24, 0)
    with path.open("wb") as file:
        file.write(header + b"\0" * (-len(header) % 32))
        block = os.urandom(1024**2)
        for _ in range(size // len(block)):
            file.write(block)


def main() -> None:
    """Print the figures."""
    lading = str(Path(sys.executable).with_name("lading"))
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        model = Path(folder, "model.gguf")
        store = Path(folder, "store")
        write_gguf(model, SIZE)

        def before(name: str) -> None:
            if name.startswith("lading"):
                shutil.rmtree(store, ignore_errors=True)

        environment = {**os.environ, "LADING_STORE": str(store)}
        results = compare(
            {
                "lading pack (hard link)": ([lading, "pack", str(model), "-t", "bench:1", "-q"], environment),
                "openssl dgst -sha256": (["openssl", "dgst", "-sha256", str(model)], None),
            },
            runs=5,
            before=before,
        )
        show("pack of 1 GiB", results)
        ours, theirs = results.values()
        bar("wall, beside openssl's", ours.wall / theirs.wall, 1.1)


if __name__ == "__main__":
    main()
