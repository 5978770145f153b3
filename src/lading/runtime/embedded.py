"""The runtime that comes with the extra `[llama]`: llama.cpp as a library, in a child process of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from lading.runtime.process import Command, module, passed_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.runtime.settings import ServeSettings

NAME = "embedded"
_LIBRARY = "xllamacpp"
_LIST_DEVICES = "devices"
_DEVICE_SECONDS = 30


@dataclass(frozen=True)
class Embedded:
    """llama.cpp in a child process. `environment` is the user's; the child sees a part of it."""

    environment: Mapping[str, str] = field(repr=False)

    name = NAME

    @cached_property
    def version(self) -> str:
        """The library's name and version ("xllamacpp 2026.10.11549"), without loading it here."""
        from importlib.metadata import version  # noqa: PLC0415  # only who asks pays for it

        return f"{_LIBRARY} {version(_LIBRARY)}"

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices that the library would use, asked of it in a process of its own; none if it fails."""
        import subprocess  # noqa: PLC0415  # only who asks pays for it

        try:
            done = subprocess.run(  # noqa: S603  # argv is this Python and a module's name
                module("lading.runtime.child", _LIST_DEVICES),
                env=passed_on(self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd="/",
                timeout=_DEVICE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ()
        return tuple(done.stdout.decode("utf-8", "replace").splitlines()) if done.returncode == 0 else ()

    def command(self, settings: ServeSettings) -> Command:
        """Return how to serve with these settings; to be started by this very process."""
        from lading.runtime.wire import encode  # noqa: PLC0415  # msgspec is needed here only

        return Command(
            argv=module("lading.runtime.child", str(os.getpid())),
            environment=passed_on(self.environment),
            stdin=encode(settings.absolute()) + b"\n",
        )


def find(environment: Mapping[str, str]) -> Embedded | None:
    """Return the embedded runtime if its library is installed, or None."""
    from importlib.util import find_spec  # noqa: PLC0415  # a llama-server on the PATH makes it needless

    return Embedded(environment) if find_spec(_LIBRARY) else None
