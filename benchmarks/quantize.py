"""Quantize: a Llama of 1.1 GB in F16 to Q4_K_M and Q8_0 on all cores, beside llama-quantize by itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lib.machine import ROOT
from lib.measure import Contender, asked_runs, beside, rounds
from lib.models import write_llama
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report

if TYPE_CHECKING:
    from pathlib import Path

    from lib.measure import Run

LAYERS = int(os.environ.get("BENCH_LAYERS", "8"))
TYPES = ("Q4_K_M", "Q8_0")
PROGRAMS = ROOT / ".tools/llama/bin"
ABOUT = """llama-quantize is Debian's, which lading finds on the PATH and runs; the same command line, as many threads, the
same file. lading reads the header, waits until the result is on the disk and moves it into place. `[quantize]` is the
package of that extra, which is used where there is no llama-quantize: another build of the same code."""


def contenders(source: Path, target: Path, kind: str, threads: int) -> list[Contender]:
    """Return who quantizes to a type: the program by itself, lading with it, and lading with the package."""
    folder = source.parent
    found = environment(folder, PATH=f"{PROGRAMS}:/usr/bin:/bin")
    bare = environment(folder, PATH="/usr/bin:/bin")
    program = [str(PROGRAMS / "llama-quantize"), str(source), str(target), kind, str(threads)]
    ours = [LADING, "quantize", "-q", str(source), str(target), "--type", kind, "--threads", str(threads)]
    before = emptied(target)
    return [
        Contender(f"llama-quantize, {kind}", program, found, before),
        Contender(f"lading quantize, {kind}", ours, found, before),
        Contender(f"lading[quantize], {kind}", ours, bare, before),
    ]


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    if not (PROGRAMS / "llama-quantize").exists():
        message = "there is no llama-quantize, and without it nothing can be measured here (`make system`)"
        raise SystemExit(message)
    report = Report("quantize", "quantizing 1.1 GB", ABOUT)
    threads = len(os.sched_getaffinity(0))
    with workplace() as folder:
        source, target = folder / "model.gguf", folder / "made.gguf"
        write_llama(source, LAYERS)
        seen: dict[str, list[Run]] = {}
        for kind in TYPES:
            seen |= rounds(contenders(source, target, kind, threads), runs)
    report.took(seen)
    for kind in TYPES:
        alone = seen[f"llama-quantize, {kind}"]
        report.figure(beside(seen[f"lading quantize, {kind}"], alone), f"x llama-quantize, {kind}", 1.02)
        report.figure(beside(seen[f"lading[quantize], {kind}"], alone), f"x llama-quantize with the package, {kind}")
    report.finish()


if __name__ == "__main__":
    main()
