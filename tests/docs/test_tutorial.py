"""The tutorial is run as it stands: its commands work and print what the page says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"
STORYTELLER = Path("examples/storyteller/storyteller-f16.gguf")
# What depends on the file system (how a file is shared) and on the runtime at hand (the answer).
_VARIES = re.compile(r"\b(?:linked|cloned|copied)\b")


def steps() -> list[tuple[str, str]]:
    """Every `$ lading` command of the page, with the output that the page shows below it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            if command.startswith("lading ") and "localhost:5000" not in command:
                found.append((command, output))
    return found


def test_every_command_of_the_tutorial_prints_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / STORYTELLER.parent).mkdir(parents=True)
    shutil.copyfile(ROOT / STORYTELLER, tmp_path / STORYTELLER)
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "LADING_STORE": str(tmp_path / "store")}
    told = steps()
    assert [shlex.split(command)[1] for command, _output in told] == [
        "--version", "pack", "list", "push", "rm", "prune", "pull", "inspect", "run",
    ]  # fmt: skip
    for command, output in told:
        argv = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        if "lading run" in command:
            assert re.search(r"\b(?:the|and|of)\b", done.stdout)
        else:
            assert _VARIES.sub("linked", done.stdout) == output, command


def test_the_pages_show_the_digests_that_the_tutorial_or_a_transcript_proves() -> None:
    def shown(page: Path) -> set[str]:
        return set(re.findall(r"sha256:([0-9a-f]{12})", page.read_text(encoding="utf-8")))

    pages = (ROOT / "README.md", ROOT / "docs" / "index.md", *(ROOT / "docs" / "how-to").glob("*.md"))
    assert len(shown(TUTORIAL)) == 2
    transcripts = (ROOT / "tests" / "cli" / "cases").glob("*.txt")
    proven = shown(TUTORIAL).union(shown(ROOT / "tests/integration/test_build.py"), *map(shown, transcripts))
    assert set[str]().union(*map(shown, pages)) <= proven
