"""Writes docs/reference/commands.md from the command line itself; with --check only says whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lading.cli.entry import cli
from lading.cli.group import SECTIONS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "commands.md"
WIDTH = 100
HEAD = """# Commands

<!-- Written by `make reference` from the commands' own help. -->

Results go to stdout, progress and messages to stderr. Commands that tell something take `--json` and then print
one [document](json.md). The [exit codes](exit-codes.md) are the same for all.
"""


def page() -> str:
    """Return the whole page."""
    context = click.Context(cli, info_name="lading", terminal_width=WIDTH, max_content_width=WIDTH)
    parts = [HEAD, "```text", cli.get_help(context), "```", ""]
    for title, verbs in SECTIONS.items():
        parts += [f"## {title}", ""]
        for verb in verbs:
            command = cli.get_command(context, verb)
            if command is None:
                msg = f"the help names `{verb}`, and there is no such command"
                raise LookupError(msg)
            inner = click.Context(
                command, info_name=verb, parent=context, terminal_width=WIDTH, max_content_width=WIDTH
            )
            parts += [f"### lading {verb}", "", "```text", command.get_help(inner), "```", ""]
    return "\n".join(line.rstrip() for line in "\n".join(parts).split("\n"))


def main() -> int:
    """Write the page, or with --check compare it; 1 if it is stale."""
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print(f"{PAGE.name} is not up to date; `make reference` writes it", file=sys.stderr)
            return 1
        return 0
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
