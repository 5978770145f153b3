"""Looks for texts that break the readers of recipes, guided by what code they reach; `make fuzz` runs it.

It begins with the recipes of tests/recipes and the texts that were kept before, in tests/recipe/corpus.jsonl, and works in
.tools/fuzz. A text that breaks a reader, or takes longer than ten seconds, ends it with exit code 1 or more, and lies there
as crash-* or timeout-*. With --keep, the fewest of all texts that reach the same code become the new corpus; every test
run reads that.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests/recipe/corpus.jsonl"
WORK = ROOT / ".tools/fuzz"
LONGEST, SLOWEST_SECONDS, MOST_MIB = 2048, 10, 2048


def lay_out() -> tuple[Path, Path]:
    """Write the texts to begin with as files, and return their folder and the one for what is found."""
    known, found = WORK / "known", WORK / "found"
    shutil.rmtree(known, ignore_errors=True)
    for folder in (known, found):
        folder.mkdir(parents=True, exist_ok=True)
    texts = [path.read_bytes() for path in sorted((ROOT / "tests/recipes").glob("*/Recipe"))]
    texts += [json.loads(line).encode("utf-8", "surrogatepass") for line in CORPUS.read_text().splitlines()]
    for text in texts:
        (known / sha256(text).hexdigest()[:16]).write_bytes(text)
    return known, found


def launcher() -> str:
    """Write the program that libFuzzer starts anew, without a Python's help, to choose among texts; return its path."""
    path = WORK / "readers"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" --libfuzzer "$@"\n')
    path.chmod(0o755)
    return str(path)


def keep(known: Path, found: Path) -> None:
    """Make the corpus of the fewest texts that reach all that was reached, without the recipes of the cases."""
    fewest = WORK / "fewest"
    shutil.rmtree(fewest, ignore_errors=True)
    fewest.mkdir()
    subprocess.run([launcher(), "-merge=1", str(fewest), str(known), str(found)], check=True)
    cases = {path.read_bytes() for path in (ROOT / "tests/recipes").glob("*/Recipe")}
    texts = {path.read_bytes() for path in fewest.iterdir()} - cases
    lines = sorted({json.dumps(text.decode("utf-8", "replace")) for text in texts})
    CORPUS.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    print(f"{len(lines)} texts kept")


def fuzz(arguments: list[str]) -> None:
    """Let libFuzzer call the readers; does not return."""
    sys.path.insert(0, str(ROOT / "tests/support"))
    with atheris.instrument_imports(include=["lading.recipe"]):
        import any_text  # noqa: PLC0415  # as it is instrumented

    def read(data: bytes) -> None:
        any_text.hold_all(data.decode("utf-8", "replace"))

    atheris.Setup([str(WORK / "readers"), *arguments], read)
    atheris.Fuzz()


def main() -> None:
    """Fuzz for as long as asked, or choose what is kept."""
    if sys.argv[1:2] == ["--libfuzzer"]:
        fuzz(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    parser.add_argument("--keep", action="store_true", help="choose what was found into the corpus instead")
    asked = parser.parse_args()
    known, found = lay_out()
    if asked.keep:
        keep(known, found)
        return
    limits = [f"-max_total_time={asked.seconds}", f"-max_len={LONGEST}", f"-timeout={SLOWEST_SECONDS}"]
    limits += [f"-rss_limit_mb={MOST_MIB}", f"-artifact_prefix={WORK}/", "-print_final_stats=1"]
    sys.exit(subprocess.run([launcher(), *limits, str(found), str(known)], check=False).returncode)


if __name__ == "__main__":
    main()
