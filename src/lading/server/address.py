"""Where a server may listen: on this machine without a key, elsewhere only with one."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from lading.errors import AccessDeniedError, BusyError, LadingError, PolicyError, UsageError

# llama.cpp reads a comma as a list of addresses, and a name that ends in .sock as a file.
_HOST = re.compile(r"(?!.*\.sock\Z)[A-Za-z0-9.:_%-]+", re.ASCII)
_LISTENING = "0A"  # tcp_states.h, as /proc/net/tcp writes it


def check_address(host: str, api_keys: tuple[str, ...]) -> None:
    """Refuse to listen beyond this machine without a key: PolicyError. UsageError for what is no host."""
    if not _HOST.fullmatch(host):
        msg = f"`{host}` is not a host to listen on"
        raise UsageError(msg, hint="--host takes one address or name")
    if not api_keys and not is_loopback(host):
        msg = "refusing to listen beyond this machine without a key"
        raise PolicyError(msg, hint="--api-key-file FILE, or LADING_API_KEY")


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a host. Of names only `localhost` counts: others can change."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def url(host: str, port: int) -> str:
    """Return the address that a client on this machine uses for a server listening on `host`."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "::1" if address.version == 6 else "127.0.0.1"  # noqa: PLR2004  # the version of IP
        return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"  # noqa: PLR2004  # same
    return f"http://{host}:{port}"


def free_port(host: str, port: int) -> int:
    """Return `port` if it can be listened on, for 0 a free one.

    Raises BusyError, naming who listens there if that can be seen; UsageError for a host that is not this machine's;
    AccessDeniedError for a port that only root may use.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
    except OSError as error:
        msg = f"no such host to listen on: {host}"
        raise UsageError(msg, hint="--host takes an address of this machine") from error
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # A port that ended a moment ago is free; one that somebody listens on is not, with this option too.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
            probe.listen(1)
        except OSError as error:
            raise _refused(error, host, port) from error
        return int(probe.getsockname()[1])


def _refused(error: OSError, host: str, port: int) -> LadingError:
    if error.errno == errno.EADDRINUSE:
        who = listener(port)
        return BusyError(
            f"port {port} on {host} is taken" + (f" by {who}" if who else ""),
            hint="--port N takes another, --port 0 a free one; `lading ps` lists the servers of lading",
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return AccessDeniedError(f"port {port} is not allowed to this user", hint="--port 1024 or above")
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"{host} is not an address of this machine", hint="--host 127.0.0.1 is always one")
    return LadingError(f"cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}")


def listener(port: int) -> str:
    """Return the name and id of the process that listens on a TCP port, empty where that cannot be seen."""
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _inodes(table, port)}
    if not inodes:
        return ""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for entry in (folder / "fd").iterdir():
                if str(entry.readlink()) in inodes:
                    return f"{(folder / 'comm').read_text().strip()} (pid {folder.name})"
    return ""


def _inodes(table: str, port: int) -> list[str]:
    try:
        lines = Path("/proc/net", table).read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port]
