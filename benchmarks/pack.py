"""Pack: a 1 GiB GGUF by hard link, beside `openssl dgst -sha256` of the same file."""

from __future__ import annotations

from lib import peers
from lib.measure import Contender, asked_runs, beside, rounds
from lib.models import GIB, write_gguf
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report

ABOUT = (
    """One GGUF of 1 GiB becomes a model in the store: hashed and linked, not copied. `openssl` hashes the same file."""
)


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    report = Report("pack", "pack of 1 GiB", ABOUT, peers={"openssl": peers.version("openssl", "version")})
    with workplace() as folder:
        model = folder / "model.gguf"
        write_gguf(model, GIB)
        pack = [LADING, "pack", str(model), "-t", "bench:1", "-q"]
        seen = rounds(
            [
                Contender("lading pack", pack, environment(folder), emptied(folder / "store")),
                Contender("openssl dgst -sha256", [peers.installed("openssl"), "dgst", "-sha256", str(model)]),
            ],
            runs,
        )
    report.took(seen)
    report.figure(beside(seen["lading pack"], seen["openssl dgst -sha256"]), "x openssl", 1.1)
    report.finish()


if __name__ == "__main__":
    main()
