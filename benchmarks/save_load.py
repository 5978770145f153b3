"""Save and load: a model of 2 GiB into one file and back, beside cp and sha256sum over the same bytes."""

from __future__ import annotations

from lib import peers
from lib.measure import Contender, asked_runs, beside, once, rounds
from lib.models import GIB, write_gguf
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report

SIZE = 2 * GIB
ABOUT = """A model of one file, in the page cache as far as memory goes. lading holds every byte to its digest and syncs what
it wrote before it gives it its name; `cp` followed by `sha256sum` of the copy leaves it to the kernel, and `cp`, `sync`
and `sha256sum` waits for the disk as lading does. The archive that is loaded is the one that was saved."""


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    report = Report("save-load", "save and load of 2 GiB", ABOUT)
    report.peers = {"cp": peers.version("cp"), "sha256sum": peers.version("sha256sum")}
    with workplace() as folder:
        own = environment(folder)
        there = environment(folder, LADING_STORE=str(folder / "there"))
        model, archive, saved, copied = (folder / name for name in ("model.gguf", "a.tar", "saved.tar", "copied.tar"))
        write_gguf(model, SIZE)
        once([LADING, "pack", str(model), "-t", "bench:1", "--copy"], own)
        model.unlink()
        once([LADING, "save", "bench:1", "-o", str(archive)], own)
        seen = rounds(
            [
                Contender("lading save", [LADING, "save", "bench:1", "-o", str(saved)], own, emptied(saved)),
                Contender("lading load", [LADING, "load", str(archive)], there, emptied(folder / "there", saved)),
                Contender("cp, sha256sum", _copy(archive, copied, "&&"), before=emptied(copied, folder / "there")),
                Contender(
                    "cp, sync, sha256sum", _copy(archive, copied, f"&& sync {copied} &&"), before=emptied(copied)
                ),
            ],
            runs,
        )
    medians = report.took(seen)
    for verb in ("save", "load"):
        ours = seen[f"lading {verb}"]
        report.figure(beside(ours, seen["cp, sha256sum"]), f"x cp and sha256sum to {verb}", 1.2)
        report.figure(beside(ours, seen["cp, sync, sha256sum"]), f"x with sync to {verb}")
        report.figure(medians[f"lading {verb}"].peak, f" MiB of memory to {verb}")
    report.finish()


def _copy(source: object, target: object, between: str) -> list[str]:
    return ["sh", "-c", f"cp --reflink=never {source} {target} {between} sha256sum {target}"]


if __name__ == "__main__":
    main()
