"""How a message for the user is written: on stderr, in lines that no stranger's words can break.

With `--progress json` it is an event like what came before it, on one line.
"""

from __future__ import annotations

import sys
from itertools import pairwise

import click

from lading.text import clean


def tell(message: str, hint: str = "", *, word: str = "error: ", code: int | None = None) -> None:
    """Write a message, which may have lines of its own (a log's last ones), and its hint.

    `code` is that of a failure's exit.
    """
    if code is not None and _as_json():
        import json  # noqa: PLC0415 - for those who ask

        click.echo(json.dumps({"event": "failed", "text": message, "hint": hint, "code": code}), err=True)
        return
    for start, text in ((word, message), ("hint: ", hint)):
        if text:
            click.echo(start + "\n".join(clean(line) for line in text.split("\n")), err=True)


def _as_json() -> bool:
    # Asked where no command is at work any more, or none was understood.
    words = sys.argv[1:]
    return "--progress=json" in words or ("--progress", "json") in pairwise(words)
