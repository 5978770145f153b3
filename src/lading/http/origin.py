"""Origins (scheme, host, port), and where a redirect may lead.

Pure: what is decided here is decided on names and literal addresses, never by asking DNS.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

from lading.errors import PolicyError, UsageError

MAX_HOPS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_SAFE = "%/:=&?~#+!$,;'@()*[]"


@dataclass(frozen=True, slots=True)
class Origin:
    """What credentials are bound to: scheme, host in lower case without brackets, port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Return a URL's origin; raises UsageError for anything but http and https with a host."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            msg = f"{url[:200]!r} is no URL"
            raise UsageError(msg) from error
        if parts.scheme not in _PORTS or not host:
            msg = f"{url[:200]!r} is no http or https URL"
            raise UsageError(msg)
        return cls(parts.scheme, host, port or _PORTS[parts.scheme])

    @property
    def authority(self) -> str:
        """`host`, or `host:port` where the port is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Say whether the host is this machine."""
        return is_loopback(self.host)

    @property
    def keeps_secrets(self) -> bool:
        """Say whether a secret may be sent there at all: over TLS, or without leaving this machine."""
        return self.scheme == "https" or self.is_loopback

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def is_loopback(host: str) -> bool:
    """Say whether a host (or host:port) is this machine: `localhost`, 127.0.0.0/8 or ::1, plainly written."""
    name = urlsplit(f"//{host}").hostname if not host.count(":") > 1 or host.startswith("[") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False


def is_internal(host: str) -> bool:
    """Say whether a host is literally this machine or its link, in any spelling that resolvers accept.

    127.0.0.1, 0x7f.1, 169.254.169.254 (a cloud's metadata), 0.0.0.0, ::1, ::ffff:127.0.0.1, localhost.
    Private networks (10.0.0.0/8 ...) are not meant: a company's registry keeps its storage there.
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast


def join(url: str, location: str) -> str:
    """Return where a server's `location` (absolute or relative to `url`) points; PolicyError if not to http or https."""
    try:
        target = urljoin(url, quote(location.strip(), safe=_SAFE))
        Origin.of(target)
    except (ValueError, UsageError) as error:
        msg = f"{Origin.of(url).authority} points to {location[:200]!r}"
        raise PolicyError(msg, hint="only http and https addresses are followed") from error
    return target


def next_hop(method: str, status: int, url: str, location: str) -> str:
    """Return the URL a redirect leads to; raises PolicyError where the rule forbids to follow it.

    http and https only; never from https to http; never from elsewhere to an internal address;
    a request with a body only within its origin, and only when the status keeps the method.
    """
    here = Origin.of(url)
    target = join(url, location)
    there = Origin.of(target)
    if urlsplit(target).username is not None:
        msg = f"{here.authority} redirects to an address with a user name in it, on {there.authority}"
        raise PolicyError(msg, hint="such redirects are not followed")
    if here.scheme == "https" and there.scheme == "http":
        msg = f"{here.authority} redirects from https to plain http, on {there.authority}"
        raise PolicyError(msg, hint="such redirects are not followed")
    if is_internal(there.host) and not is_internal(here.host) and here.host != there.host:
        msg = f"{here.authority} redirects to the internal address {there.authority}"
        raise PolicyError(msg, hint="such redirects are not followed")
    if method not in ("GET", "HEAD") and (here != there or status not in (307, 308)):
        msg = f"{here.authority} redirects an upload to {there.authority} ({status})"
        raise PolicyError(msg, hint="uploads stay with the registry that was named")
    return target
