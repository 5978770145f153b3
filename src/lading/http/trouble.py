"""Why a request got no answer, in words of the tree of errors."""

from __future__ import annotations

import errno
import ssl
from typing import TYPE_CHECKING

from urllib3 import exceptions  # noqa: TID251 - this room speaks HTTP

from lading.errors import NetworkError
from lading.http.origin import Origin

if TYPE_CHECKING:
    from lading.errors import LadingError


class Trouble(Exception):  # noqa: N818 - never leaves this room; its `error` does
    """A request without an answer.

    `passing`: it may succeed when tried again. `plain`: perhaps the other side speaks no TLS. `nameless`: nobody knows
    the name of the host.
    """

    def __init__(
        self, error: LadingError, *, passing: bool = True, plain: bool = False, nameless: bool = False
    ) -> None:
        super().__init__(error.message)
        self.nameless = nameless
        self.error = error
        self.passing = passing
        self.plain = plain


def explain(error: Exception, origin: Origin, proxy: str | None) -> Trouble:
    """Say what an error of urllib3 or the socket means for a request to `origin`."""
    host = origin.authority
    chain = _chain(error)

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if isinstance(error, exceptions.ProxyError):
        where = Origin.of(proxy).authority if proxy else "?"
        named = f"{origin.scheme}_proxy or {origin.scheme.upper()}_PROXY names it"
        said = next((str(one)[:80] for one in chain if "Tunnel" in str(one)), None)
        if said is None:
            trouble = NetworkError(f"the proxy {where} is not reached, by which {host} was to be", hint=named)
        else:
            trouble = NetworkError(f"the proxy {where} does not reach {host}: {said}", hint=named)
        return Trouble(trouble, passing=False)
    if among(ssl.SSLError, exceptions.SSLError):
        return _no_tls(host, chain)
    if among(exceptions.NameResolutionError):
        trouble = NetworkError(f"the name {origin.host} is not known", hint="check its spelling, and the network")
        return Trouble(trouble, nameless=True)
    if any(isinstance(one, OSError) and one.errno == errno.ECONNREFUSED for one in chain):
        trouble = NetworkError(f"nothing answers at {host} (connection refused)", hint="is the server running there?")
        return Trouble(trouble, passing=not origin.is_loopback)
    if among(exceptions.LocationValueError):
        return Trouble(NetworkError(f"{str(origin)[:200]!r} is no usable address"), passing=False)
    slow = among(TimeoutError, exceptions.TimeoutError)
    text = f"{host} does not answer in time" if slow else f"{host} broke the connection"
    return Trouble(NetworkError(text, hint="try again later"), plain=True)


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and all that led to it; urllib3 keeps some of them only as arguments."""
    chain: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if not any(one is known for known in chain):
            chain.append(one)
            inner = (one.__cause__, one.__context__, *one.args)
            waiting += [next_one for next_one in inner if isinstance(next_one, BaseException)]
    return chain


def _no_tls(host: str, chain: list[BaseException]) -> Trouble:
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return Trouble(_untrusted(host, one.verify_message), passing=False)
    trouble = NetworkError(f"{host} and lading agree on no TLS", hint="it may speak plain http, or an old TLS")
    return Trouble(trouble, passing=False, plain=True)


def _untrusted(host: str, why: str) -> NetworkError:
    hint = f"put its CA into ~/.docker/certs.d/{host}/ca.crt, or name a bundle in SSL_CERT_FILE"
    if "expired" in why or "not yet valid" in why:
        hint = "its certificate may be old, or this machine's clock wrong"
    return NetworkError(f"the certificate of {host} is not trusted: {why}", hint=hint)
