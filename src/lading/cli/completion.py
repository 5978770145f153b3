"""`lading completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lading.cli.app import App, common
from lading.errors import UnfitError


@click.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
def command(_app: App, shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash  source <(lading completion bash)
    zsh   source <(lading completion zsh)
    fish  lading completion fish | source
    """  # noqa: D301 - click takes a real backspace as its mark for lines to leave as they are
    from lading.cli.entry import cli  # noqa: PLC0415 - the entry imports the verbs, not the reverse

    made = get_completion_class(shell)
    if made is None:
        msg = f"no completion for {shell} in this version of click"
        raise UnfitError(msg)
    click.echo(made(cli, {}, "lading", "_LADING_COMPLETE").source())
