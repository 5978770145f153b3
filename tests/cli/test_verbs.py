from __future__ import annotations

import subprocess
import sys
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
