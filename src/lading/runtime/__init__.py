"""Runtimes: what makes a model answer. All of them are llama.cpp today, and all speak its HTTP API.

The first that is here is taken: `llama-server` on the PATH, else the embedded one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lading.errors import UnfitError, UsageError
from lading.runtime.process import Command
from lading.runtime.settings import ArtifactSettings, Sampling, ServeSettings, from_artifact, merged

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "NAMES",
    "ArtifactSettings",
    "Command",
    "Runtime",
    "Sampling",
    "ServeSettings",
    "choose",
    "from_artifact",
    "merged",
]

NAMES = ("llama-server", "embedded")
"""What `--runtime` takes, and the order in which they are looked for."""


class Runtime(Protocol):
    """Something that can serve a model from a process of its own."""

    @property
    def name(self) -> str:
        """The word that `--runtime` takes."""

    @property
    def version(self) -> str:
        """Its version as people read it; found out when first asked for."""

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices, besides the processor, that it would use; found out when first asked for."""

    def command(self, settings: ServeSettings) -> Command:
        """Return how to serve with these settings; to be started by this very process."""


def choose(wanted: str | None, environment: Mapping[str, str]) -> Runtime:
    """Return the runtime that `wanted` names, or the first that is here if it is None.

    `environment` is the user's: PATH is searched, and the runtime's process sees a harmless part of it.
    Raises UnfitError when it is not here, UsageError for an unknown name.
    """
    from lading.runtime import embedded, llama_server  # noqa: PLC0415 - whoever only starts processes needs neither

    if wanted is not None and wanted not in NAMES:
        msg = f"unknown runtime `{wanted}`"
        raise UsageError(msg, hint=f"one of {', '.join(NAMES)}")
    install = "pip install 'lading[llama]'"
    if wanted != embedded.NAME and (found := llama_server.find(environment)):
        return found
    if wanted != llama_server.NAME and (inside := embedded.find(environment)):
        return inside
    if wanted == llama_server.NAME:
        msg = "llama-server is not on the PATH"
        raise UnfitError(msg, hint=f"install llama.cpp, or {install} and --runtime embedded")
    if wanted == embedded.NAME:
        msg = "the embedded runtime is not installed"
        raise UnfitError(msg, hint=install)
    msg = "no runtime is here to serve a model"
    raise UnfitError(msg, hint=f"{install}, or install llama.cpp so that llama-server is on the PATH")
