"""Asks a server of ours whether it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading.errors import LadingError

if TYPE_CHECKING:
    from lading.server.process import Probe

_OK = 200
_LARGEST = 64 * 1024
_CONNECT_SECONDS, _READ_SECONDS = 1.0, 5.0


def http_probe() -> Probe:
    """Return a probe that speaks HTTP, to this machine only: no proxy is asked and nothing is tried twice."""
    from lading.http import Client, Patience  # noqa: PLC0415  # loads while the runtime does

    client = Client(patience=Patience(tries=1, connect=_CONNECT_SECONDS, read=_READ_SECONDS))

    def probe(url: str, /) -> bool:
        try:
            reply = client.request("GET", url)
            reply.read(_LARGEST)
        except LadingError:
            return False
        return reply.status == _OK

    return probe
