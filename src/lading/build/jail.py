"""Runs a program where it can do little harm: `python -I -S jail.py SPEC`, SPEC being JSON as `isolation` writes it.

With `namespaces` the program sees no network, no process but its own, and of the file system only what it was given,
read-only but for one folder. In any case it has limits and no way to gain rights. It imports the standard library
only, so that it starts without the package. Linux 5.12 or newer for namespaces (namespaces(7), mount_setattr(2)).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Any

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER = 0x20000, 0x4000000, 0x8000000, 0x10000000
_NEWPID, _NEWNET = 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture, as for all calls of these years
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID = -100, 0x8000, 1, 2
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_INSIDE = 1000
"""Who the program is inside: not 0, so that it has no rights even over its own namespaces."""
_ROOM = "/tmp"  # noqa: S108  # where the new root is laid out; it is mounted over in our own namespace
_OLD = "/.outside"
_DEVICES = ("null", "zero", "urandom", "random", "full")
_BY_SIGNAL = 128
_CANNOT = 125
"""The exit code that says that the jail could not be made, and nothing was run."""

_libc = ctypes.CDLL(None, use_errno=True)


def main(spec: dict[str, Any]) -> None:
    """Lock this process up as told and become the program; with namespaces, wait for it and exit as it did."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if spec["parent"] and os.getppid() != spec["parent"]:
        os._exit(1)
    if not spec["namespaces"]:
        _become(spec)
    user, group = os.getuid(), os.getgid()
    _call("unshare", _NEWUSER | _NEWNS | _NEWNET | _NEWPID | _NEWIPC | _NEWUTS)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{_INSIDE} {user} 1")
    _write("/proc/self/gid_map", f"{_INSIDE} {group} 1")
    # The first child of a new process namespace is its init, with whom all in there ends. The program is not that:
    # an init is spared the signals that end others.
    init = os.fork()
    if init == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        _lay_out(spec)
        program = os.fork()
        if program == 0:
            _become(spec)
        code = _end_of(program)
        os._exit(code if code >= 0 else _BY_SIGNAL - code)
    code = _end_of(init)
    if code > _BY_SIGNAL:
        # Told on as what it was.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(code - _BY_SIGNAL, signal.SIG_DFL)
        os.kill(os.getpid(), code - _BY_SIGNAL)
    os._exit(code)


def _end_of(child: int) -> int:
    """Return a child's exit code, or the negative number of the signal that ended it."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _lay_out(spec: dict[str, Any]) -> None:
    """Make a root of what the program may see, and leave everything else behind."""
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", _ROOM, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m")
    os.mkdir(f"{_ROOM}{_OLD}")
    _call("pivot_root", _ROOM.encode(), f"{_ROOM}{_OLD}".encode())
    os.chdir("/")
    # First, since what is shown may lie below it.
    os.mkdir(_ROOM)
    _mount("tmpfs", _ROOM, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=64m")
    for path in spec["read"]:
        _bind(path, writable=False)
    for path in spec["write"]:
        _bind(path, writable=True)
    for name in _DEVICES:
        _bind(f"/dev/{name}", writable=True)
    os.makedirs("/proc", exist_ok=True)
    # Refused where the outer /proc is itself partly hidden, as in containers; the program can do without.
    with suppress(OSError):
        _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _call("umount2", _OLD.encode(), _MNT_DETACH)
    os.rmdir(_OLD)
    _restrict("/", _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID, 0)


def _bind(path: str, *, writable: bool) -> None:
    """Show a file or folder of the outside at its own path; one that is not there is left out."""
    outside = f"{_OLD}{path}"
    if not os.path.lexists(outside):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.islink(outside):
        # /lib is one on most systems; what it points to is shown by its own name.
        if not os.path.lexists(path):
            os.symlink(os.readlink(outside), path)
        return
    if os.path.isdir(outside):
        os.makedirs(path, exist_ok=True)
    elif not os.path.exists(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    _mount(outside, path, None, _MS_BIND | _MS_REC)
    _restrict(path, _MOUNT_ATTR_NOSUID | (0 if writable else _MOUNT_ATTR_RDONLY), _AT_RECURSIVE)


def _restrict(path: str, attributes: int, flags: int) -> None:
    mount_attr = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    _call(
        "syscall",
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        path.encode(),
        ctypes.c_uint(flags),
        mount_attr,
        ctypes.c_size_t(ctypes.sizeof(mount_attr)),
    )


def _become(spec: dict[str, Any]) -> None:
    """Take on the limits and run the program in this process's place."""
    for name, value in spec["limits"].items():
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.chdir(spec["folder"])
    argv = spec["argv"]
    os.execve(argv[0], argv, spec["environment"])  # noqa: S606  # no shell is the point


def _mount(source: str, place: str, kind: str | None, flags: int, data: str | None = None) -> None:
    told = [text.encode() if text else None for text in (kind, data)]
    _call("mount", source.encode(), place.encode(), told[0], ctypes.c_ulong(flags), told[1])


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except OSError as error:
        sys.stderr.write(f"jail: {error}\n")
        os._exit(_CANNOT)
