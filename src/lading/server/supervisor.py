"""A server in the background: a process of its own that owns the runtime's and outlives the command.

`detach` starts it as `python -m lading.server`, tells it all on its standard input and hears on its output whether
the server is ready. `supervise` is what it runs.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003  # msgspec reads the annotations
from typing import TYPE_CHECKING, NoReturn

import msgspec

from lading import errors, fs
from lading.errors import BusyError, LadingError, StoppedError
from lading.runtime import ServeSettings, choose
from lading.runtime.process import module, passed_on
from lading.runtime.wire import decode, encode
from lading.server import address, record
from lading.server.process import start
from lading.server.record import ServerRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from lading.server.process import Probe, Server

_GLANCE_SECONDS = 0.3
_STATUS = 1  # where the supervisor reports: its standard output, until it is ready


@dataclass(frozen=True, slots=True)
class Launch:
    """All that a server in the background is started with.

    `folder` is where the records are kept; `name` becomes the server's. `reference` and `digest` tell what is served.
    `runtime` names one, as found in `environment`. `store` and `held` are the store's root and the digests that must
    stay in it as long as the server runs; `files` are served as they lie. Both are watched for changes.
    """

    folder: Path
    name: str
    reference: str
    digest: str
    runtime: str
    settings: ServeSettings
    environment: dict[str, str] = field(repr=False)
    store: Path | None = None
    held: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    patience: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a supervisor tells once: the server, or the error that kept it from starting."""

    server: ServerRecord | None = None
    error: str = "LadingError"
    message: str = ""
    hint: str = ""


def detach(launch: Launch) -> ServerRecord:
    """Start a server in the background and return when it is ready to answer.

    Raises what `server.start` raises, BusyError when a server of this name runs already, and UsageError for a name
    that cannot be one. An interrupted call leaves no server behind.
    """
    record.check_name(launch.name)
    address.check_address(launch.settings.host, launch.settings.api_keys)
    fs.make_folder(launch.folder)
    launch = replace(
        launch,
        folder=launch.folder.absolute(),
        store=launch.store and launch.store.absolute(),
        settings=launch.settings.absolute(),
        environment=passed_on(launch.environment),
    )
    argv = module("lading.server")
    with fs.os_errors(argv[0]):
        process = subprocess.Popen(  # noqa: S603  # argv is this Python and a module's name
            argv,
            env=launch.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
    # The supervisor leaves its first process at once, so waiting for that one leaves no zombie. Interrupted, this
    # closes the pipe, which the supervisor takes as an order to end.
    with process:
        told, _ = process.communicate(encode(launch) + b"\n")
    return _heard(told)


def _heard(told: bytes) -> ServerRecord:
    last = (told.strip().splitlines() or [b""])[-1]
    try:
        report = msgspec.json.decode(last, type=Report)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"the server's supervisor failed: {last[:300].decode('utf-8', 'replace') or 'it ended without a word'}"
        raise LadingError(msg) from error
    if report.server is not None:
        return report.server
    kind = getattr(errors, report.error, LadingError)
    raise kind(report.message, hint=report.hint)


def supervise(
    data: bytes, make_probe: Callable[[], Probe], hold: Callable[[Launch], AbstractContextManager[Callable[[], None]]]
) -> NoReturn:
    """Be the supervisor that `data`, from `detach`, describes; ends this process.

    `make_probe` is called while the runtime loads. `hold` keeps what the server needs in the store while it is open, and gives
    the check that fails once some of it was changed.
    """
    launch = decode(data, Launch)
    if os.fork():
        os._exit(0)
    code = 0
    try:
        with _stoppable(), _name_taken(launch), hold(launch) as check:
            _serve(launch, make_probe, check)
    except StoppedError as stopped:
        code = 128 + stopped.signal_number
    except LadingError as error:
        code = error.exit_code
        sys.stderr.write(f"lading: {error.message}\n")
        with suppress(StoppedError):
            _tell(Report(error=type(error).__name__, message=error.message, hint=error.hint))
    sys.stderr.flush()
    os._exit(code)


def _serve(launch: Launch, make_probe: Callable[[], Probe], check: Callable[[], None]) -> None:
    path = record.log_path(launch.folder, launch.name)
    with fs.os_errors(path):
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    os.dup2(descriptor, 2)
    runtime = choose(launch.runtime, launch.environment)
    lazily = _Lazy(make_probe)
    with start(
        runtime,
        launch.settings,
        lazily,
        log_descriptor=descriptor,
        patience=launch.patience,
        cancelled=_nobody_listens,
        check=check,
    ) as server:
        published = _publish(launch, runtime.name, runtime.version, server)
        try:
            _tell(Report(server=published))
            server.wait()
        finally:
            fs.remove(record.record_path(launch.folder, launch.name))


class _Lazy:
    """A probe made when first used, which is after the runtime's process was started: both load at once."""

    def __init__(self, make: Callable[[], Probe]) -> None:
        self._make = make
        self._probe: Probe | None = None

    def __call__(self, url: str, /) -> bool:
        if self._probe is None:
            self._probe = self._make()
        return self._probe(url)


def _publish(launch: Launch, runtime: str, version: str, server: Server) -> ServerRecord:
    written = ServerRecord(
        name=launch.name,
        pid=os.getpid(),
        process_start=record.process_start(os.getpid()),
        reference=launch.reference,
        digest=launch.digest,
        host=server.endpoint.host,
        port=server.endpoint.port,
        url=server.endpoint.url,
        runtime=runtime,
        runtime_version=version,
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    record.write(launch.folder, written)
    return written


@contextmanager
def _name_taken(launch: Launch) -> Iterator[None]:
    deadline = time.monotonic() + _GLANCE_SECONDS

    def taken(_size: int) -> None:
        # Who looks whether a lock is idle holds it for a moment.
        if time.monotonic() >= deadline:
            msg = f"a server named `{launch.name}` is running already"
            raise BusyError(msg, hint=f"lading stop {launch.name}, or another name with --name")

    lock = fs.Partial(record.lock_path(launch.folder, launch.name), waiting=taken)
    try:
        yield
    finally:
        lock.discard()
        lock.close()


@contextmanager
def _stoppable() -> Iterator[None]:
    def stop(number: int, _frame: object) -> None:
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        msg = "told to stop"
        raise StoppedError(msg, signal_number=number)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield


def _nobody_listens() -> bool:
    """Say whether the reader of the report is gone: the command was interrupted or died."""
    poll = select.poll()
    poll.register(_STATUS, 0)
    return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))


def _tell(report: Report) -> None:
    """Write the report and let go of the pipe, which tells its reader that there is no more to come.

    Raises StoppedError when nobody listens: who asked for the server is gone. Later reports go nowhere.
    """
    try:
        os.write(_STATUS, msgspec.json.encode(report) + b"\n")
    except OSError as error:
        msg = "nobody waits for the server"
        raise StoppedError(msg) from error
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, _STATUS):
        os.dup2(nothing, descriptor)
    os.close(nothing)
