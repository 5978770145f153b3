"""What a command asks of a runtime: the settings that an artifact may decide, and a chat template written out in it."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from lading.errors import FormatError
from lading.recipe.command import read_command
from lading.runtime.settings import Sampling, from_artifact, taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.recipe.command import Command


def understood(command: Sequence[str]) -> Command | None:
    """Return what the arguments for llama-server mean; None without any. Raises FormatError for what cannot be read."""

    def error(_index: int, reason: str, note: str) -> FormatError:
        return FormatError(reason, hint=note or "the command is that of the image's config")

    return read_command(command, error)[1] if command else None


def settings_of(command: Command) -> dict[str, object]:
    """Return the settings that an artifact may decide, by the names of `runtime.settings`; others are left out."""
    wished = from_artifact(dict(command.parameters))
    said = {one.name: getattr(wished.sampling, one.name) for one in fields(Sampling)}
    said["ctx_size"] = wished.ctx_size
    return {name: value for name, value in sorted(said.items()) if value not in (None, ())}


def unheeded(command: Command) -> tuple[str, ...]:
    """Tell of each setting that an artifact may decide, but not as the command does, and what would be taken."""
    beyond = ((name, value, taken(name, value)) for name, value in command.parameters)
    return tuple(
        f"{name} {value} (it may be {least_to_most})" for name, value, least_to_most in beyond if least_to_most
    )


def template_of(command: Command) -> str | None:
    """Return the chat template that is written out in a command; None for none, or the name of a built-in one."""
    value = command.parameter("chat-template")
    return value if isinstance(value, str) and "{" in value else None
