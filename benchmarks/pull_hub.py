"""Pull from a hub: one GGUF of 2 GiB from the tests' hub on loopback, beside `ramalama pull` of the same file."""

from __future__ import annotations

from lib import peers
from lib.measure import Contender, asked_runs, beside, rounds
from lib.models import GIB, write_gguf
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report
from lib.servers import hub

SIZE = 2 * GIB
ABOUT = """One GGUF of random bytes, from a hub on the same machine that speaks Hugging Face's API, which both are pointed to by
`HF_ENDPOINT`. Both check the sha256; lading also syncs the file."""


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__)
    report = Report("pull-hub", "pull of one GGUF of 2 GiB from a hub", ABOUT, peers={"RamaLama": peers.RAMALAMA})
    with workplace() as folder:
        model, theirs = folder / "model.gguf", folder / "ramalama"
        write_gguf(model, SIZE)
        with hub("bench/model", model) as server:
            own = environment(folder, HF_ENDPOINT=f"http://{server.host}", RAMALAMA_STORE=str(theirs))
            reference = f"hf://bench/model/{model.name}"
            empty = emptied(folder / "store", theirs)
            seen = rounds(
                [
                    Contender("lading pull", [LADING, "pull", f"hf://bench/model:{model.name}"], own, empty),
                    Contender(
                        "ramalama pull", [peers.ramalama(), "--store", str(theirs), "pull", reference], own, empty
                    ),
                ],
                runs,
                server.cpu,
            )
    medians = report.took(seen)
    print(f"  CPU of the hub meanwhile: {medians['lading pull'].served:.2f} s, {medians['ramalama pull'].served:.2f} s")
    report.figure(medians["lading pull"].wall, " s")
    report.figure(beside(seen["lading pull"], seen["ramalama pull"]), "x ramalama pull", 0.4)
    report.finish()


if __name__ == "__main__":
    main()
