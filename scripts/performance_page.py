"""Writes docs/performance.md from what the last `make bench` measured, which lies in .tools/bench."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / ".tools" / "bench"
PAGE = ROOT / "docs" / "performance.md"
ORDER = ("pull-layer", "pull-hub", "resume", "small-files", "push", "pack", "gguf-header", "list", "start-up")
HEAD = """# Performance

<!-- Written by `make performance` from what `make bench` measured. -->

What lading costs, beside the peers and beside what the machine can do. Seconds belong to one machine; the ratios are what to
look at: the commands of a table were run by turns, so that a ratio compares runs seconds apart, and stands for the
median of all rounds. One round more was run first and does not count. Before each run what the last one wrote is removed and
the disk is left to finish. Files to be sent are in the page cache of their server. Times are medians, memory is the highest
seen; CPU is that of the command, not of its server.

A bar is what a figure is held to: it was set before the measuring. `make bench` measures all of this anew on your machine,
`make performance` writes this page from it. Ratios bear a machine that is slow for a while, bars in seconds do not:
[decision 020](decisions/020-build-and-fit-bars.md) tells what fresh memory cost when this was measured, and
[015](decisions/015-speed-bars.md) which bars are beyond two cores.
"""


def results() -> list[dict[str, Any]]:
    """Return the results, in the order of the page, further ones last; raises SystemExit where some are missing."""
    missing = [name for name in ORDER if not (RESULTS / f"{name}.json").exists()]
    if missing:
        sys.exit(f"nothing was measured of {', '.join(missing)}: `make bench` first")
    further = sorted({path.stem for path in RESULTS.glob("*.json")} - set(ORDER))
    return [json.loads((RESULTS / f"{name}.json").read_text()) for name in (*ORDER, *further)]


def machine(found: list[dict[str, Any]]) -> str:
    """Describe the machine, the programs and the day; raises SystemExit for figures of several machines."""
    machines = {json.dumps(result["machine"]) for result in found}
    if len(machines) > 1:
        sys.exit("the figures come from several machines: `make bench` again")
    days = sorted({result["day"] for result in found})
    versions = {name: version for result in found for name, version in result["peers"].items()}
    load = [load for result in found for load in result["load"]]
    rows = {
        **found[0]["machine"],
        "Programs": ", ".join(f"{name} {version}" for name, version in sorted(versions.items(), key=_folded)),
        "lading": " and ".join(sorted({result["lading"] for result in found})),
        "Measured": f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, with a load of {min(load):.1f} to {max(load):.1f}",
    }
    lines = [f"| {name} | {text} |" for name, text in rows.items()]
    return "\n".join(["## The machine", "", "| | |", "|---|---|", *lines, ""])


def section(result: dict[str, Any]) -> str:
    """Write one benchmark: what it is, the runs, the figures and their bars."""
    lines = [f"## {result['title'][0].upper()}{result['title'][1:]}", "", result["about"], ""]
    lines += ["| | Runs | Time | CPU | Memory |", "|---|---|---|---|---|"]
    for name, row in result["rows"].items():
        peak = f"{row['peak']:.0f} MiB"
        lines.append(f"| {name} | {row['runs']} | {_seconds(row['wall'])} | {_seconds(row['cpu'])} | {peak} |")
    held = [figure for figure in result["figures"] if figure["bar"] is not None]
    lines += ["", "| Figure | Bar | |", "|---|---|---|"]
    for figure in held:
        verdict = "held" if figure["value"] <= figure["bar"] else "**not held**"
        lines.append(f"| {_number(figure['value'])}{figure['unit']} | {figure['bar']:g} | {verdict} |")
    others = [f"{_number(figure['value'])}{figure['unit']}" for figure in result["figures"] if figure["bar"] is None]
    return "\n".join([*lines, "", *([f"Beside these: {', '.join(others)}.", ""] if others else [])])


def _folded(pair: tuple[str, str]) -> str:
    return pair[0].lower()


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"  # noqa: PLR2004 - three digits that mean something


def _seconds(value: float) -> str:
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.1f} s"


def main() -> None:
    """Write the page."""
    found = results()
    PAGE.write_text("\n".join([HEAD, machine(found), *map(section, found)]).rstrip() + "\n")


if __name__ == "__main__":
    main()
