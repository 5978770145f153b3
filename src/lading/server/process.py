"""The life of one runtime's process: started, waited for until it is healthy, watched, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from lading.errors import BusyError, FormatError, LadingError, NetworkError, UnfitError
from lading.fs import os_errors
from lading.server import address, log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lading.runtime import Command, Runtime, ServeSettings

GRACE_SECONDS = 5.0
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.2
_LEAST_PATIENCE = 120.0
_SLOWEST_DISK = 20e6  # bytes per second, a hard disk behind a slow network
_WATCH_SECONDS = 1.0
_AFTERMATH = 2.0  # seconds in which a process whose connection broke is seen to have died


class Probe(Protocol):
    """Asks a server whether it is ready to answer."""

    def __call__(self, url: str, /) -> bool:
        """Say whether GET `url` answers 200; False too when nobody listens. Must return within seconds."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens: `host` and `port` as told to the runtime, `url` as a client on this machine uses it."""

    host: str
    port: int
    url: str


class Server:
    """A runtime's process and its end; a context manager that ends it.

    Made by `start`. Its log is `log_descriptor`, which it closes.
    """

    def __init__(self, process: subprocess.Popen[bytes], name: str, endpoint: Endpoint, log_descriptor: int) -> None:
        self.name = name
        self.endpoint = endpoint
        self._process = process
        self._log = log_descriptor
        self._ended = threading.Event()
        self._fault: LadingError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The id of the runtime's process."""
        return self._process.pid

    def alive(self) -> bool:
        """Say whether the process runs."""
        return self._process.poll() is None

    def allocated(self) -> log.Allocated | None:
        """Return what the runtime says that it allocated for the model; None if it does not say it."""
        return log.allocated(log.head(self._log)) if self._log >= 0 else None

    def watch(self, check: Callable[[], None]) -> None:
        """Call `check` once a second from now on; what it raises ends the process and is told as its death."""

        def look() -> None:
            while not self._ended.wait(_WATCH_SECONDS):
                try:
                    check()
                except LadingError as error:
                    if not self._ended.is_set():
                        self._fault = error
                        # At once: not one answer more is to come from it.
                        self._process.kill()
                    return

        threading.Thread(target=look, name="watch", daemon=True).start()

    def wait(self) -> None:
        """Return never while the runtime lives; raise LadingError that says how it died."""
        self._process.wait()
        raise self.death()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Say of a NetworkError in the block that it was the runtime's death, if it was."""
        try:
            yield
        except NetworkError as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_AFTERMATH)
            if self.alive():
                raise
            raise self.death() from error

    def death(self) -> LadingError:
        """Return the error that says how the process died, with the telling lines of its log, or why it was ended."""
        if self._fault is not None:
            return self._fault
        code = self._process.returncode
        how = f"exit code {code}"
        hint = ""
        if code is not None and code < 0:
            how = f"signal {-code}, {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"signal {-code}"
            hint = "the same request may do it again; `lading info` tells the runtime's version for a report"
            if -code == signal.SIGKILL:
                hint = "the system ends what takes too much memory; a smaller --ctx-size or model takes less"
        return LadingError(f"the runtime {self.name} died ({how}){self._said()}", hint=hint)

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """End the process, with force after `grace` seconds, and reap it; harmless when it ended before."""
        self._ended.set()
        try:
            if self.alive():
                self._signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace)
        finally:
            # What the runtime may have started is in its group and has no reason to outlive it.
            self._signal(signal.SIGKILL)
            self._process.wait()
            if self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()
            if self._log >= 0:
                os.close(self._log)
                self._log = -1

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _said(self) -> str:
        lines = log.reasons(log.tail(self._log)) if self._log >= 0 else ()
        return "".join(f"\n    {line}" for line in lines)

    def refusal(self, settings: ServeSettings) -> LadingError:
        """Return the error for a process that ended before it was healthy."""
        code = self._process.returncode
        if code is not None and code < 0:
            return self.death()
        text = log.tail(self._log)
        what = f"{self.name} cannot serve {settings.model}{self._said()}"
        if "couldn't bind" in text:
            return BusyError(f"port {settings.port} on {settings.host} was taken meanwhile", hint="--port N")
        if "unknown model architecture" in text:
            return UnfitError(what, hint="a newer llama.cpp may know it")
        if "out of memory" in text or "unable to allocate" in text or "failed to allocate" in text:
            return UnfitError(what, hint="a smaller --ctx-size, --n-gpu-layers or model needs less memory")
        if "failed to load model" in text or "error loading model" in text:
            return FormatError(what, hint="`lading verify` tells whether the file is whole")
        return LadingError(what)


def start(
    runtime: Runtime,
    settings: ServeSettings,
    probe: Probe,
    *,
    log_descriptor: int | None = None,
    patience: float | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    check: Callable[[], None] | None = None,
) -> Server:
    """Start a runtime and return when it is ready to answer.

    On Linux the process ends with the calling thread, so call from one that lives as long as the server. `probe` asks
    its /health. `log_descriptor` is an open file for what it writes, taken over; None takes a file without a name.
    `patience` is in seconds; None gives two minutes, and more for a large model. `cancelled` is asked again and again
    and ends the wait. `check` is called once a second as long as the process lives, from another thread; what it raises
    ends the process and is raised in its place, here and later. Raises PolicyError for an address beyond this machine without a key, BusyError for a taken port,
    FormatError or UnfitError for a model that does not load, LadingError with the log's telling lines else.
    """
    descriptor = _nameless() if log_descriptor is None else log_descriptor
    try:
        address.check_address(settings.host, settings.api_keys)
        settings = replace(settings, port=address.free_port(settings.host, settings.port))
        endpoint = Endpoint(settings.host, settings.port, address.url(settings.host, settings.port))
        process = _spawn(runtime.command(settings), descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    server = Server(process, runtime.name, endpoint, descriptor)
    try:
        if check is not None:
            server.watch(check)
        _wait_until_healthy(server, settings, probe, patience, cancelled)
    except BaseException:
        server.stop()
        raise
    return server


def _spawn(command: Command, descriptor: int) -> subprocess.Popen[bytes]:
    with os_errors(command.argv[0]):
        # A session of its own: a Ctrl-C on the terminal is the chat's, not the runtime's. In `/`: llama.cpp loads
        # back ends that lie in the working folder.
        process = subprocess.Popen(  # noqa: S603  # argv is made of typed settings, without a shell
            command.argv,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
            stdout=descriptor,
            stderr=descriptor,
            cwd="/",
            start_new_session=True,
        )
    if command.stdin is not None and process.stdin is not None:
        with suppress(BrokenPipeError):  # it died at once, which is told by who waits for its health
            process.stdin.write(command.stdin)
            process.stdin.flush()
    return process


def _wait_until_healthy(
    server: Server, settings: ServeSettings, probe: Probe, patience: float | None, cancelled: Callable[[], bool]
) -> None:
    if patience is None:
        with os_errors(settings.model):
            patience = max(_LEAST_PATIENCE, settings.model.stat().st_size / _SLOWEST_DISK)
    deadline = time.monotonic() + patience
    pause = _FIRST_PAUSE
    while True:
        healthy = probe(f"{server.endpoint.url}/health")
        # Asked after the probe: the answer may be that of another one, which took the port from a dead child.
        if not server.alive():
            raise server.refusal(settings)
        if healthy:
            return
        if cancelled():
            msg = f"{server.name} was told to end before it was ready"
            raise LadingError(msg)
        if time.monotonic() >= deadline:
            msg = f"{server.name} was not ready to serve {settings.model} within {patience:.0f} seconds"
            raise UnfitError(msg, hint="a smaller model loads sooner")
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * 1.3)


def _nameless() -> int:
    descriptor, path = tempfile.mkstemp(prefix="lading-")
    Path(path).unlink()
    return descriptor
