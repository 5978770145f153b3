"""The table of `lading fit` on a terminal: colour is a second signal, and can be had without."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from shapes import Size, shape

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CommandLine

RED, GREEN, YELLOW, BOLD, ESCAPE = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b["
MACHINE = ("--device", "2.5GiB", "--ram", "1GiB")


@pytest.fixture
def quants(tmp_path: Path) -> Path:
    """A folder with a model of 1.2 G parameters in three types, as headers without weights."""
    folder = tmp_path / "quants"
    folder.mkdir()
    for label, kind in (("Q4_K_M", "Q4_K"), ("Q8_0", "Q8_0"), ("F16", "F16")):
        made = shape("llama", Size(16, 2048, 8192, 16, 16, 128, 32_000, weights=kind))
        made.write(folder / f"m-{label}.gguf", vocabulary=False)
    return folder


def on_terminal(lading: CommandLine, *arguments: str | Path, **more: str) -> list[str]:
    """Run a command on a terminal and return the lines that it shows there."""
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "lading", *map(str, arguments)]
    environment = {**lading.environment, "TERM": "xterm", **more}
    with subprocess.Popen(
        words, cwd=lading.folder, env=environment, stdin=slave, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        shown = b""
        # The end of a terminal is an error, once nobody holds its other side.
        with suppress(OSError):
            while piece := os.read(master, 65536):
                shown += piece
        os.close(master)
        assert process.wait(120) == 0, shown
    return shown.decode().splitlines()


def test_on_a_terminal_each_row_has_the_colour_of_its_last_word(lading: CommandLine, quants: Path) -> None:
    shown = on_terminal(lading, "fit", quants, *MACHINE)
    rows = {name: next(line for line in shown if f" {name} " in line) for name in ("F16", "Q8_0", "Q4_K_M")}
    for name, word, colour in (("F16", "too big", RED), ("Q8_0", "partly", YELLOW), ("Q4_K_M", "fits", GREEN)):
        assert rows[name].startswith(colour)
        assert re.search(rf" {word}\x1b\[0m$", rows[name])
    assert [name for name, line in rows.items() if BOLD in line] == ["Q4_K_M"]
    assert [name for name, line in rows.items() if "▸" in line] == ["Q4_K_M"]
    assert any(line.startswith("Q4_K_M: best of 3 that fits whole in ") for line in shown)


def test_colour_can_be_had_without(lading: CommandLine, quants: Path) -> None:
    plain = lading("fit", quants, *MACHINE).stdout
    assert ESCAPE not in plain
    assert on_terminal(lading, "fit", quants, *MACHINE, NO_COLOR="1") == plain.splitlines()
