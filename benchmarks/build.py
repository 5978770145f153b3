"""Build: a Llama of 1.1 GB copied and quantized by a recipe, beside llama-quantize by itself; and again, unchanged."""

from __future__ import annotations

import os
import shutil

from lib.machine import ROOT
from lib.measure import Contender, asked_runs, beside, once, rounds
from lib.models import write_llama
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report

LAYERS = int(os.environ.get("BENCH_LAYERS", "8"))
PROGRAMS = ROOT / ".tools/llama/bin"
TYPE = "Q4_K_M"
RECIPE = f"""FROM scratch
QUANTIZE --from=context --type={TYPE} model.gguf {TYPE}.gguf
CAT <<EOF system-prompt.txt
You are a helpful assistant.
EOF
LABEL org.opencontainers.image.licenses=CC0-1.0
CMD ["-m", "{TYPE}.gguf", "-c", "2048"]
"""
ABOUT = """The recipe quantizes the file to Q4_K_M on all cores, writes a prompt beside it and makes an image: what is
more than llama-quantize takes is reading the source for its digest, storing the result by its own, and the image. Built
again without a change, no step runs. Each first build has an empty store and no cache."""


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    if not (PROGRAMS / "llama-quantize").exists():
        message = "there is no llama-quantize, and without it nothing can be measured here (`make system`)"
        raise SystemExit(message)
    report = Report("build", "building from 1.1 GB", ABOUT)
    threads = str(len(os.sched_getaffinity(0)))
    with workplace() as folder:
        found = environment(folder, PATH=f"{PROGRAMS}:/usr/bin:/bin")
        context, made = folder / "context", folder / "made.gguf"
        context.mkdir()
        (context / "GGUFPackerfile").write_text(RECIPE)
        write_llama(context / "model.gguf", LAYERS)
        program = [str(PROGRAMS / "llama-quantize"), str(context / "model.gguf"), str(made), TYPE, threads]
        build = [LADING, "build", "-q", "-t", "bench:1", str(context)]
        store = folder / "store"
        first = [
            Contender("llama-quantize", program, found, emptied(made)),
            Contender("lading build", build, found, emptied(store, made)),
        ]
        seen = rounds(first, runs)
        made.unlink(missing_ok=True)
        once(build, found)
        seen |= rounds([Contender("lading build, unchanged", build, found)], runs)
        shutil.rmtree(store)
    medians = report.took(seen)
    report.figure(beside(seen["lading build"], seen["llama-quantize"]), "x llama-quantize", 1.05)
    report.figure(medians["lading build, unchanged"].wall, " s for an unchanged build", 0.3)
    report.finish()


if __name__ == "__main__":
    main()
