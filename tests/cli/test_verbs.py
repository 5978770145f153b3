from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from lading.cli.entry import cli
from lading.cli.group import SECTIONS

if TYPE_CHECKING:
    from conftest import CommandLine

VERBS = [(verb, summary) for verbs in SECTIONS.values() for verb, summary in verbs.items()]


@pytest.mark.parametrize(("verb", "summary"), VERBS)
def test_the_help_page_says_of_each_verb_what_the_verb_says_of_itself(verb: str, summary: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, verb)
    assert command is not None
    assert command.name == verb
    assert command.short_help == summary
    assert command.get_help(click.Context(command, info_name=verb)).startswith("Usage:")


def test_every_option_has_a_help_text() -> None:
    context = click.Context(cli)
    for verb, _summary in VERBS:
        command = cli.get_command(context, verb)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{verb} {option.opts}"


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o nosort -F"), ("zsh", "compdef"), ("fish", "complete")]
)
def test_a_completion_script_is_printed_for_each_shell(lading: CommandLine, shell: str, word: str) -> None:
    assert word in lading("completion", shell).stdout


def test_the_shell_completes_verbs_and_flags(lading: CommandLine) -> None:
    def complete(words: str, position: int) -> list[str]:
        more = {"_LADING_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        return [line.partition(",")[2] for line in lading(more=more).stdout.splitlines()]

    assert complete("lading pu", 1) == ["pull", "push"]
    assert "--ctx-size" in complete("lading serve --ctx", 2)


def test_common_options_may_stand_before_or_after_the_verb(lading: CommandLine) -> None:
    folder = lading.folder / "elsewhere"
    for arguments in (("--store", folder, "info", "--json"), ("info", "--json", "--store", folder)):
        assert f'"store": "{folder}"' in lading(*arguments).stdout
    assert not folder.exists()


def test_a_reader_that_leaves_early_gets_no_traceback(lading: CommandLine) -> None:
    script = f'"{sys.executable}" -m lading --help | head -n 1; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script], env=lading.environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[0].startswith("Usage: lading")
    assert done.stderr == ""


def test_a_defect_is_one_line_and_its_place_shows_with_debug(lading: CommandLine) -> None:
    store = lading.store
    store.mkdir()
    (store / "index.json").write_text('{"manifests": 7}')
    told = lading("list", code=6).stderr
    assert told.startswith("error: ")
    shown = subprocess.run(
        [sys.executable, "-m", "lading", "list", "--debug"],
        env=lading.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" in shown.stderr
    assert shown.stderr.endswith(told)
    assert shown.returncode == 6


@pytest.mark.parametrize("loud", [(), ("--debug",)])
def test_an_interrupt_is_told_in_a_line_with_debug_too(lading: CommandLine, loud: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        process = lading.start("pull", f"http://127.0.0.1:{silent.getsockname()[1]}/a.gguf", *loud)
        connection, _address = silent.accept()
        with connection:
            assert connection.recv(1)
            process.send_signal(signal.SIGINT)
            _out, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.splitlines() == ["interrupted: what was fetched is kept; the same command resumes"]


@pytest.mark.parametrize("start", ["the console script", "python -m"])
def test_an_interrupt_while_the_program_is_being_loaded_is_answered_in_a_line(lading: CommandLine, start: str) -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        module, _colon, function = tomllib.load(file)["project"]["scripts"]["lading"].partition(":")
    begin = {
        "the console script": f"from {module} import {function} as main; sys.exit(main())",
        "python -m": "import runpy; runpy.run_module('lading', run_name='__main__', alter_sys=True)",
    }[start]
    code = f"""
import os, signal, sys
class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Impatient())
sys.argv = ["lading", "--version"]
{begin}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=lading.environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", ">&- 2>&-"])
def test_a_closed_stream_breaks_no_command(lading: CommandLine, closed: str) -> None:
    script = f'"{sys.executable}" -m lading list {closed}; echo "code $?" >&3'
    done = subprocess.run(
        ["bash", "-c", f"exec 3>&1; {script}"],
        env=lading.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "code 0" in done.stdout
    assert "defect" not in done.stderr


def test_a_full_disk_under_the_output_is_told(lading: CommandLine) -> None:
    script = f'"{sys.executable}" -m lading --help >/dev/full'
    done = subprocess.run(
        ["bash", "-c", script], env=lading.environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 7
    assert "no space left for the output" in done.stderr


def test_a_store_that_is_a_file_is_refused(lading: CommandLine) -> None:
    (lading.folder / "file").write_text("x")
    assert "is no folder" in lading("list", "--store", lading.folder / "file", code=2).stderr


def at_a_terminal(lading: CommandLine, *arguments: str | Path, code: int = 0) -> str:
    """Run a command whose output and errors are one terminal; return all that was drawn there."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "lading", *map(str, arguments)],
            cwd=lading.folder,
            env={**lading.environment, "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        drawn = b""
        with suppress(OSError):  # EIO: the last who wrote there has gone
            while piece := os.read(master, 65_536):
                drawn += piece
        assert process.wait(30) == code, drawn
    finally:
        os.close(master)
    return drawn.decode()


def screen(drawn: str) -> list[str]:
    """Return the lines that a terminal shows after what was drawn: line feeds, and rich's moves up and erasures."""
    lines, row, column = [""], 0, 0
    for move, amount, text in re.findall(r"\x1b\[\??([\d;]*)([A-Za-z])|([^\x1b\r\n]+|\r|\n)", drawn):
        if amount == "A":
            row -= int(move or 1)
        elif amount == "K":
            lines[row] = ""
        elif text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
    return lines


def test_results_stand_on_lines_of_their_own_below_finished_bars(lading: CommandLine, story: Path) -> None:
    """On a terminal, where bars and results meet; each model of several has its line, and so has a store's check."""
    layouts = [lading.folder / name for name in ("one", "two", "three")]
    for number, layout in enumerate(layouts):
        with story.open("ab") as file:
            file.write(bytes([number]))
        lading("pack", story, "-t", f"{layout.name}:1", "--copy")
        lading("push", f"{layout.name}:1", f"oci-layout:{layout}:1")
    lading.environment["LADING_STORE"] = str(lading.folder / "fresh")
    shown = screen(at_a_terminal(lading, "pull", *(f"oci-layout:{layout}:1" for layout in layouts)))
    results = [place for place, line in enumerate(shown) if line.startswith("pulled  ")]
    assert len({shown[place].split()[2] for place in results}) == len(results) == 3, shown
    bars = [line for line in shown if " % " in line]
    assert bars
    assert all("100 %" in line and "pulled" not in line for line in bars), shown
    assert " % " in shown[results[-1] - 1]
    shown = screen(at_a_terminal(lading, "verify"))
    assert sum(line.startswith("verified  ") for line in shown) == 1, shown
    assert all("verified" not in line for line in shown if " % " in line), shown
