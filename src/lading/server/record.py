"""The servers that run in the background: one file each, believed only while its process lives.

`<folder>/<name>.json` is written when a server is ready, `<name>.log` is what its runtime wrote, kept for a week after
its end, `.<name>.lock` is held by its supervisor and goes with it. A process is known by its id and the moment it started, since ids are used again.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lading import fs
from lading.errors import AccessDeniedError, LadingError, NotFoundError, UsageError
from lading.server import log

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_LARGEST = 64 * 1024
_POLL_SECONDS = 0.02
STOP_SECONDS = 10.0
_LAST_SECONDS = 0.5
_LOGS_KEPT = 7 * 24 * 3600.0


class ServerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A server in the background. `pid` is its supervisor's; `started` is the ISO 8601 time in UTC."""

    name: str
    pid: int
    process_start: str
    reference: str
    digest: str
    host: str
    port: int
    url: str
    runtime: str
    runtime_version: str
    started: str


def check_name(name: str) -> None:
    """Raise UsageError for what cannot be a server's name: it becomes a file's."""
    if not _NAME.fullmatch(name):
        msg = f"`{name}` cannot be the name of a server"
        raise UsageError(msg, hint="up to 64 letters, digits, `.`, `_` and `-`")


def name_for(reference: str) -> str:
    """Return a server's name made from a model's reference: its last part (`registry.io/team/story:1` is story-1)."""
    last = reference.partition("@")[0].rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last, flags=re.ASCII).strip("-._")[:64]
    return name or "model"


def record_path(folder: Path, name: str) -> Path:
    """Return where the record of a server lies."""
    check_name(name)
    return folder / f"{name}.json"


def log_path(folder: Path, name: str) -> Path:
    """Return where the log of a server lies."""
    check_name(name)
    return folder / f"{name}.log"


def lock_path(folder: Path, name: str) -> Path:
    """Return where the lock on a server's name lies."""
    check_name(name)
    return folder / f".{name}.lock"


def write(folder: Path, record: ServerRecord) -> None:
    """Write a record, whole or not at all."""
    fs.atomic_write(record_path(folder, record.name), msgspec.json.encode(record), mode=0o600)


def servers(folder: Path) -> tuple[ServerRecord, ...]:
    """Return the living servers, oldest first, and remove the records and locks of the dead, and their old logs."""
    living = [record for path in sorted(folder.glob("*.json")) if (record := _living(path))]
    for path in folder.glob(".*.lock"):
        fs.remove_if_idle(path)
    used = {record.name for record in living}
    for path in folder.glob("*.log"):
        _drop_old(path, used)
    return tuple(sorted(living, key=lambda record: record.started))


def find(folder: Path, name: str) -> ServerRecord:
    """Return a living server; raises NotFoundError."""
    record = _living(record_path(folder, name))
    if record is None:
        msg = f"no server named `{name}` is running"
        raise NotFoundError(msg, hint="`lading ps` lists those that are")
    return record


def stop(folder: Path, name: str, grace: float = STOP_SECONDS) -> ServerRecord:
    """End a server, with force after `grace` seconds, and return what it was; raises NotFoundError."""
    record = find(folder, name)
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        _signal(record, number)
        deadline = time.monotonic() + seconds
        while process_start(record.pid) == record.process_start:
            if time.monotonic() >= deadline:
                break
            time.sleep(_POLL_SECONDS)
        else:
            fs.remove(record_path(folder, name))
            return record
    msg = f"the server `{name}` (pid {record.pid}) does not end"
    raise LadingError(msg, hint="a process that waits for a broken disk or device ends with the wait")


def logs(folder: Path, name: str, *, follow: bool = False) -> Iterator[bytes]:
    """Yield the log of a server, dead or alive; `follow` goes on until it ends. Raises NotFoundError."""
    path = log_path(folder, name)
    if not path.exists():
        msg = f"no server named `{name}` has a log"
        raise NotFoundError(msg, hint="`lading ps` lists the servers that run")
    return log.read(path, (lambda: _living(record_path(folder, name)) is not None) if follow else None)


def allocated(folder: Path, name: str) -> log.Allocated | None:
    """Return what a server's runtime says that it allocated for the model; None if it does not say it."""
    descriptor = fs.open_regular(log_path(folder, name))
    try:
        return log.allocated(log.head(descriptor))
    finally:
        os.close(descriptor)


def process_start(pid: int) -> str:
    """Return what tells a process from every other that had or will have its id; empty when it does not run.

    On Linux that is the boot's id and field 22 of /proc/PID/stat (proc(5)); a zombie does not run.
    """
    if sys.platform != "linux":
        return _process_start_by_ps(pid)
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    # The name, in parentheses, may hold anything; what follows the last one is plain.
    values = status.rpartition(b")")[2].split()
    return "" if values[0] in (b"Z", b"X") else f"{boot} {values[19].decode()}"


def _process_start_by_ps(pid: int) -> str:
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # a number is all it gets
    return done.stdout.strip()


def _living(path: Path) -> ServerRecord | None:
    try:
        with path.open("rb") as file:
            record = msgspec.json.decode(file.read(_LARGEST), type=ServerRecord)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise fs.as_lading_error(error, path) from error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        record = None
    if record is not None and process_start(record.pid) == record.process_start:
        return record
    fs.remove(path)
    _note_end(path.with_suffix(".log"), path.with_name(f".{path.stem}.lock"))
    return None


def _note_end(path: Path, lock: Path) -> None:
    """Close the log of a server that could not do it, unless another one has taken its name."""
    # The last threads of one that was killed hold its lock for a moment longer than it counts as running.
    deadline = time.monotonic() + _LAST_SECONDS
    while fs.read_if_locked(lock) is not None:
        if time.monotonic() >= deadline:
            return
        time.sleep(_POLL_SECONDS)
    # The log is a help and no promise: without space, or without itself, the server is gone all the same.
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"lading: the server was killed, or the machine went down\n")
        finally:
            os.close(descriptor)


def _drop_old(path: Path, used: set[str]) -> None:
    with suppress(FileNotFoundError):
        old = time.time() - path.stat().st_mtime > _LOGS_KEPT
        if old and path.stem not in used and fs.read_if_locked(path.with_name(f".{path.stem}.lock")) is None:
            fs.remove(path)


def _signal(record: ServerRecord, number: signal.Signals) -> None:
    """Signal a server's process and no other, even if its id is given to one this very moment."""
    try:
        if not hasattr(os, "pidfd_open"):
            os.kill(record.pid, number)
            return
        descriptor = os.pidfd_open(record.pid)
        try:
            if process_start(record.pid) == record.process_start:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
    except ProcessLookupError:
        return
    except PermissionError as error:
        msg = f"the server `{record.name}` (pid {record.pid}) is another user's"
        raise AccessDeniedError(msg) from error
