"""How a message for the user is written: on stderr, in lines that no stranger's words can break."""

from __future__ import annotations

import click

from lading.text import clean


def tell(message: str, hint: str = "", *, word: str = "error: ") -> None:
    """Write a message, which may have lines of its own (a log's last ones), and its hint."""
    for start, text in ((word, message), ("hint: ", hint)):
        if text:
            click.echo(start + "\n".join(clean(line) for line in text.split("\n")), err=True)
