"""A model's command: the arguments for llama-server that travel with it, and the files that they name.

In a model its files go by their names; in an image the same arguments have the paths that a container sees.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from lading.model import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FILE_FLAGS = {
    "-m": Role.WEIGHTS,
    "--model": Role.WEIGHTS,
    "-md": Role.DRAFTER,
    "--model-draft": Role.DRAFTER,
    "--spec-draft-model": Role.DRAFTER,
    "-mm": Role.PROJECTOR,
    "--mmproj": Role.PROJECTOR,
    "--lora": Role.ADAPTER,
    "--lora-scaled": Role.ADAPTER,
    "--control-vector": Role.ADAPTER,
    "--control-vector-scaled": Role.ADAPTER,
    "--chat-template-file": Role.TEMPLATE,
    "--system-prompt-file": Role.SYSTEM,
    "-spf": Role.SYSTEM,
}
"""What stands before the path of a file, and what the file is to the model."""

_SEVERAL = frozenset(("--lora", "--lora-scaled", "--control-vector", "--control-vector-scaled"))


def renamed(command: Sequence[str], rename: Callable[[str], str]) -> tuple[str, ...]:
    """Return a command with another name for each file; `rename` returns the path it is given where it knows none."""
    words = list(command)
    for index, flag in enumerate(command[:-1]):
        if flag in FILE_FLAGS:
            value = words[index + 1]
            words[index + 1] = (
                ",".join(_scaled(one, rename) for one in value.split(",")) if flag in _SEVERAL else rename(value)
            )
    return tuple(words)


def files_of(command: Sequence[str]) -> dict[str, Role]:
    """Return the files that a command names one by one, from the root of what they lie in, and their roles."""
    pairs = pairwise(command)
    return {in_root(value): FILE_FLAGS[flag] for flag, value in pairs if flag in FILE_FLAGS and value}


def in_root(path: str) -> str:
    """Write a path of a command relative to the root, against which it is read; one with `..` leads to no file."""
    return "/".join(segment for segment in path.split("/") if segment not in ("", "."))


def _scaled(text: str, rename: Callable[[str], str]) -> str:
    if (whole := rename(text)) != text:
        return whole
    path, colon, scale = text.rpartition(":")
    return f"{rename(path)}{colon}{scale}" if colon else text
