"""The group of verbs: each is a module of this folder, imported only when its verb is called."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

SECTIONS: dict[str, dict[str, str]] = {
    "Models": {
        "pull": "Fetch models into the store, verified.",
        "push": "Write a model to a registry or a layout.",
        "copy": "Carry a model from one place to another, in any format.",
        "save": "Write models to one file, to carry them elsewhere.",
        "load": "Take in models that were saved to a file.",
        "pack": "Make a model of a file or folder.",
        "list": "Show the models of the store.",
        "inspect": "Show what a model is, without fetching its weights.",
        "fit": "Tell whether models run here, and which quantization to take.",
        "tag": "Give a model a second name.",
        "rm": "Drop names of models.",
    },
    "Recipes": {
        "build": "Build a model from a recipe.",
        "lint": "Find what is doubtful in a recipe.",
        "convert": "Make a GGUF file of a folder of safetensors.",
        "quantize": "Make a smaller GGUF file of a GGUF file.",
        "imatrix": "Find out which weights matter to a text.",
    },
    "Running": {
        "run": "Ask a model, or chat with it.",
        "serve": "Serve a model over the OpenAI API.",
        "ps": "Show what is being served.",
        "stop": "Stop serving.",
        "logs": "Show a server's log.",
    },
    "Store and registries": {
        "prune": "Free what no name needs.",
        "verify": "Hold every byte of the store to its digest.",
        "login": "Keep a registry's credentials.",
        "logout": "Forget a registry's credentials.",
    },
    "About": {
        "info": "Show settings, store, runtimes and hardware.",
        "version": "Show the version.",
        "completion": "Print a shell's completion script.",
    },
}
"""The verbs with what their help says first, so that `--help` imports none of them."""

_MODULES = {"list": "list_models", "rm": "remove"}
_ALIASES = {"ls": "list"}
"""Words that other tools of the field use for the same."""


class Verbs(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return all verbs in the order of the help page."""
        return [verb for verbs in SECTIONS.values() for verb in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module and return its command; None for an unknown one."""
        cmd_name = _ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in self.list_commands(ctx):
            return None
        module = import_module(f"lading.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; an unknown one is told with what it resembles."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            import difflib  # noqa: PLC0415 - for words that are no verb

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f"did you mean `{near[0]}`?" if near else "`lading --help` lists them"
            msg = f"lading has no command `{args[0]}`; {hint}"
            raise click.UsageError(msg, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the verbs in their sections."""
        for title, verbs in SECTIONS.items():
            with formatter.section(title):
                rows: Sequence[tuple[str, str]] = list(verbs.items())
                formatter.write_dl(rows)
