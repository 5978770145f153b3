"""The runtime that is a program on the PATH: llama.cpp's own `llama-server`."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from lading.errors import UnfitError
from lading.hardware.cores import usable_cores
from lading.runtime.process import Command, passed_on, tethered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.runtime.settings import Sampling, ServeSettings

NAME = "llama-server"
_VERSION_SECONDS = 30
_TELLS_MEMORY = "4"  # the level at which it says what it allocates; the variable's name has changed once
_VERSION = re.compile(r"^version: *(.+)$", re.MULTILINE)
_DEVICE = re.compile(r"^ +([A-Za-z]+[0-9]*): ", re.MULTILINE)


@dataclass(frozen=True)
class LlamaServer:
    """`llama-server` as found on a search path. `environment` is the user's; the program sees a part of it."""

    path: str
    environment: Mapping[str, str] = field(repr=False)

    name = NAME

    @cached_property
    def version(self) -> str:
        """The version that the program tells ("0.7.0 (build 11669, commit Debian)").

        Raises UnfitError when it does not start at all.
        """
        code, text = self._asked("--version")
        found = _VERSION.search(text)
        if found:
            return found[1].strip()
        if code:
            raise self._broken((text.strip().splitlines() or [f"exit code {code}"])[-1])
        return "unknown"

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices that the program would use (CUDA0), none where it does not start."""
        try:
            _code, text = self._asked("--list-devices")
        except UnfitError:
            return ()
        return tuple(_DEVICE.findall(text.partition("Available devices:")[2]))

    def _asked(self, flag: str) -> tuple[int, str]:
        import subprocess  # noqa: PLC0415  # only who asks pays for it

        try:
            done = subprocess.run(  # noqa: S603  # the user's own program, without a shell
                [self.path, flag],
                env=passed_on(self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd="/",
                timeout=_VERSION_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._broken(str(error)) from error
        return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")

    def command(self, settings: ServeSettings) -> Command:
        """Return how to serve with these settings; to be started by this very process."""
        settings = settings.absolute()
        argv = [self.path, "--model", str(settings.model), "--host", settings.host, "--port", str(settings.port)]
        argv += ["--threads", str(settings.threads or usable_cores()), "--parallel", str(settings.parallel)]
        argv += ["--no-warmup", "--jinja", "--cache-type-k", settings.cache_type_k]
        argv += ["--cache-type-v", settings.cache_type_v]
        for flag, value in (
            ("--mmproj", settings.mmproj),
            ("--chat-template-file", settings.chat_template),
            ("--ctx-size", settings.ctx_size),
            ("--n-gpu-layers", settings.n_gpu_layers),
            ("--alias", settings.alias),
            ("--pooling", settings.pooling),
            ("--n-cpu-moe", settings.n_cpu_moe or None),
        ):
            if value is not None:
                argv += [flag, str(value)]
        if settings.embeddings:
            argv.append("--embeddings")
        return Command(
            argv=tethered((*argv, *_sampling_flags(settings.sampling))),
            environment=passed_on(self.environment) | _quiet_flags(settings),
        )

    def _broken(self, reason: str) -> UnfitError:
        return UnfitError(f"{self.path} does not start: {reason}", hint="--runtime embedded uses another one")


def find(environment: Mapping[str, str]) -> LlamaServer | None:
    """Return the first `llama-server` on the environment's PATH, or None."""
    path = shutil.which(NAME, path=environment.get("PATH", ""))
    return LlamaServer(path, environment) if path else None


def _sampling_flags(sampling: Sampling) -> list[str]:
    flags: list[str] = []
    for flag, value in (
        ("--temp", sampling.temperature),
        ("--top-p", sampling.top_p),
        ("--top-k", sampling.top_k),
        ("--min-p", sampling.min_p),
        ("--repeat-penalty", sampling.repeat_penalty),
        ("--seed", sampling.seed),
    ):
        if value is not None:
            flags += [flag, str(value)]
    for stop in sampling.stop:
        flags += ["--reverse-prompt", stop]
    return flags


def _quiet_flags(settings: ServeSettings) -> dict[str, str]:
    """Return what goes by the environment: the keys, which argv would show to everybody on the machine.

    Flags that older builds do not know go here too, since unknown variables are harmless and unknown flags are fatal.
    """
    flags = {
        "LLAMA_ARG_OFFLINE": "1",
        "LLAMA_ARG_CACHE_RAM": str(settings.cache_ram),
        "LLAMA_LOG_VERBOSITY": _TELLS_MEMORY,
        "LLAMA_ARG_LOG_VERBOSITY": _TELLS_MEMORY,
    }
    if not settings.repack:
        flags["LLAMA_ARG_REPACK"] = "0"
    if settings.n_gpu_layers is not None:
        flags["LLAMA_ARG_FIT"] = "off"
    if settings.api_keys:
        flags["LLAMA_API_KEY"] = ",".join(settings.api_keys)
    else:
        # Without a key any page in the user's browser could read the answers of a server that allows every origin.
        flags["LLAMA_ARG_CORS_ORIGINS"] = "localhost"
    return flags
