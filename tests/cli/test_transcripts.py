"""What users see, whole: each file of `cases/` is a session, replayed and compared.

A line `$ command` is run by bash in a fresh folder that holds the example model as `story.gguf`; the lines below it
are its output, stdout and stderr as they come, and `[N]` its exit code if that is not 0. Set
LADING_UPDATE_TRANSCRIPTS=1 to write what is printed now, then read the difference.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lading import __version__

if TYPE_CHECKING:
    from conftest import CommandLine

CASES = sorted((Path(__file__).parent / "cases").glob("*.txt"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_session_reads_as_written(case: Path, lading: CommandLine, story: Path) -> None:
    said = case.read_text(encoding="utf-8")
    commands = [line[2:] for line in said.splitlines() if line.startswith("$ ")]
    replayed = "".join(_replay(lading, command) for command in commands)
    if os.environ.get("LADING_UPDATE_TRANSCRIPTS"):
        case.write_text(replayed, encoding="utf-8")
    assert replayed == said


def _replay(lading: CommandLine, command: str) -> str:
    done = subprocess.run(
        ["bash", "-c", f'lading() {{ "{sys.executable}" -m lading "$@"; }}; {command}'],
        cwd=lading.folder,
        env=lading.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    output = done.stdout.replace(str(lading.folder), "HOME").replace(__version__, "VERSION")
    output = re.sub(r"\d+ (second|minute)s? ago", "just now", output)
    output = re.sub(r'"pulled": "[^"]+"', '"pulled": "TIME"', output)
    output = re.sub(r'"seconds": [0-9.]+', '"seconds": N', output)
    if output and not output.endswith("\n"):
        output += "\n"
    code = f"[{done.returncode}]\n" if done.returncode else ""
    return f"$ {command}\n{output}{code}"
