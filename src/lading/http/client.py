"""The one way out of the house: requests with retries, redirects, proxies and TLS (RFC 9110)."""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import urllib3  # noqa: TID251 - this room is the one that speaks HTTP
from urllib3 import connection, exceptions  # noqa: TID251 - as above

from lading import __version__
from lading.config import Network
from lading.errors import FormatError, NetworkError, PolicyError, UsageError
from lading.events import Noted, Silent
from lading.http.origin import MAX_HOPS, REDIRECTS, Origin, next_hop
from lading.http.patience import RETRIED, Patience, asked_wait
from lading.http.response import Response
from lading.http.sending import blocks
from lading.http.trouble import Trouble, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from lading.events import Reporter
    from lading.http.sending import Payload

_BLOCK = 128 * 1024
_POOLED = 16
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_TLS_PROBE_SECONDS = 5.0
_IMPATIENT_SECONDS = 5.0


class _TrustingConnection(connection.HTTPSConnection):
    """A connection that takes any certificate because the user said so: urllib3 need not warn at every request."""

    def connect(self) -> None:
        super().connect()
        self.is_verified = True


class _TrustingPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TrustingConnection


class Client:
    """Speaks HTTP to any number of hosts, from any number of threads, and keeps connections.

    GET and HEAD are tried again after passing trouble, also where the body of a GET breaks off while it is read whole
    (`Response.read`); other methods only with `again`.
    Redirects are followed by `origin.next_hop`'s rule; `authorization` never goes to another
    origin, nor do headers other than Accept and Range. Errors of the tree name the host.
    `requests` counts those sent, `bytes_read` the bytes of bodies that came back.
    """

    def __init__(
        self,
        network: Network | None = None,
        *,
        reporter: Reporter | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._network = network or Network()
        self._reporter: Reporter = reporter or Silent()
        self._usual_patience = patience or Patience()
        self._own = threading.local()
        self._sleep = sleep
        self.requests = 0
        self.bytes_read = 0
        self._pools: dict[tuple[str | None, str, bool], urllib3.PoolManager] = {}
        self._schemes: dict[tuple[str, bool], str] = {}
        # Whose names were known once: there the network has gone, elsewhere it was never there, or the name is wrong.
        self._answered: set[str] = set()
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
        body: bytes | Payload | None = None,
        again: bool = False,
        verify: bool = True,
        tries: int | None = None,
    ) -> Response:
        """Send a request and return the answer, whatever its status; the caller closes it.

        `verify` false takes any certificate, of the URL's own origin only; `tries` is None for as
        many as the patience says. Raises NetworkError when there is no answer, PolicyError for a
        redirect that must not be followed.
        """
        target = url
        sent = dict(headers or {})
        most = tries or self._patience.tries
        login, trusting = authorization, verify

        def ask_again(failed: int, why: str) -> Response | None:
            if failed >= most:
                return None
            self.pause(failed, why)
            return self.request("GET", url, headers=headers, authorization=login, verify=trusting, tries=tries)

        for _hop in range(MAX_HOPS + 1):
            response = self._persist(
                method,
                target,
                sent,
                authorization,
                body,
                again=again,
                verify=verify,
                tries=most,
            )
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                response.redirected, response.verified = target != url, verify
                if method == "GET":
                    response.ask_again = ask_again
                return response
            response.close()
            following = next_hop(method, response.status, target, location)
            if Origin.of(following) != Origin.of(target):
                authorization = None
                verify = True
                sent = {name: value for name, value in sent.items() if name in ("Accept", "Range", "If-Range")}
            target = following
        msg = f"{Origin.of(url).authority} redirects more than {MAX_HOPS} times"
        raise PolicyError(msg, hint="it may be redirecting in a circle")

    def scheme(self, authority: str, *, verify: bool = True) -> str:
        """Find out whether a host speaks https or only http: https is tried first.

        For hosts where plain http is allowed at all. Raises NetworkError if nothing answers or
        the certificate is not trusted.
        """
        known = self._schemes.get((authority, verify))
        if known is None:
            short = urllib3.Timeout(connect=self._patience.connect, read=_TLS_PROBE_SECONDS)
            try:
                self._once("GET", f"https://{authority}/v2/", {}, None, verify=verify, timeout=short).close()
                known = "https"
            except Trouble as trouble:
                if not trouble.plain:
                    raise trouble.error from trouble.__cause__
                known = "http"
            self._schemes[authority, verify] = known
        return known

    @contextmanager
    def impatiently(self) -> Iterator[None]:
        """Have this thread ask once in the block, and bear seconds of silence only: another stands by to do its part."""
        usual = self._usual_patience
        silence = min(_IMPATIENT_SECONDS, usual.read)
        self._own.patience = replace(usual, tries=1, connect=min(_IMPATIENT_SECONDS, usual.connect), read=silence)
        try:
            yield
        finally:
            del self._own.patience

    @property
    def _patience(self) -> Patience:
        patience: Patience = getattr(self._own, "patience", self._usual_patience)
        return patience

    @property
    def tries(self) -> int:
        """How often something is tried that makes no progress."""
        return self._patience.tries

    def pause(self, failed: int, why: str, asked: float | None = None) -> None:
        """Wait as after the `failed`-th failure in a row (from 1), or the seconds that the server `asked` for; say why.

        Raises NetworkError when more was asked for than is ever waited.
        """
        if asked is not None and asked > self._patience.longest_asked:
            msg = f"{why}; it asks to wait for {asked:.0f} s"
            raise NetworkError(msg, hint="try again then")
        wait = self._patience.wait(failed)
        self._rest(wait if asked is None else asked + wait / 4, why)

    def warn(self, text: str) -> None:
        """Pass on a warning that a server sent along."""
        self._reporter.emit(Noted(text, warning=True))

    def _rest(self, seconds: float, why: str) -> None:
        self._reporter.emit(Noted(f"{why}; trying again in {seconds:.1f} s", warning=True))
        self._sleep(seconds)

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    def _persist(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None,
        body: bytes | Payload | None,
        *,
        again: bool,
        verify: bool,
        tries: int,
    ) -> Response:
        all_headers = {"User-Agent": f"lading/{__version__}", "Accept-Encoding": "identity", **headers}
        if authorization is not None:
            all_headers["Authorization"] = authorization
        if not (again or method in _SAFE_METHODS):
            tries = 1
        for failed in range(1, tries):
            wait = self._patience.wait(failed)
            try:
                response = self._once(method, url, all_headers, body, verify=verify)
            except Trouble as trouble:
                if not trouble.passing or (trouble.nameless and Origin.of(url).host not in self._answered):
                    raise trouble.error from trouble.__cause__
                why = trouble.error.message
            else:
                if response.status not in RETRIED:
                    return response
                asked = asked_wait(response.headers, time.time())
                if asked is not None and asked > self._patience.longest_asked:
                    return response
                wait = wait if asked is None else asked + wait / 4
                why = f"{response.host} is busy or failing ({response.status})"
                response.close()
            self._rest(wait, why)
        try:
            return self._once(method, url, all_headers, body, verify=verify)
        except Trouble as trouble:
            raise trouble.error from trouble.__cause__

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Payload | None,
        *,
        verify: bool,
        timeout: urllib3.Timeout | None = None,
    ) -> Response:
        origin = Origin.of(url)
        proxy = self._network.proxy(origin.scheme, origin.host, origin.port)
        sent = dict(headers)
        content: Any = body
        stream: Generator[memoryview] | None = None
        silence = self._patience.read
        if body is not None and not isinstance(body, bytes):
            sent["Content-Length"] = str(body.size)
            content = stream = blocks(body)
            # A registry may hash or copy the whole blob before it answers.
            silence = max(silence, self._patience.commit)
        try:
            raw = self._pool(origin, proxy, verify=verify).urlopen(
                method,
                url,
                body=content,
                headers=sent,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=timeout or urllib3.Timeout(connect=self._patience.connect, read=silence),
            )
        except (exceptions.HTTPError, OSError, ValueError) as error:
            raise explain(error, origin, proxy) from error
        finally:
            if stream is not None:
                stream.close()
        assert isinstance(raw, urllib3.HTTPResponse)  # noqa: S101 - urlopen is typed by its base class
        with self._lock:
            self.requests += 1
            self._answered.add(origin.host)
        return Response(raw, method, url, self._count)

    def _count(self, size: int) -> None:
        with self._lock:
            self.bytes_read += size

    def _pool(self, origin: Origin, proxy: str | None, *, verify: bool) -> urllib3.PoolManager:
        # A pool per host: client certificates and added CAs hold for one host only.
        key = (proxy, str(origin), verify)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                options: dict[str, Any] = {"maxsize": _POOLED, "blocksize": _BLOCK, "retries": False}
                if origin.scheme == "https":
                    options["ssl_context"] = self._context(origin, verify=verify)
                pool = _proxied(proxy, options) if proxy else urllib3.PoolManager(1, **options)
                if not verify:
                    pool.pool_classes_by_scheme = {**pool.pool_classes_by_scheme, "https": _TrustingPool}
                self._pools[key] = pool
            return pool

    def _context(self, origin: Origin, *, verify: bool) -> ssl.SSLContext:
        bundle = self._network.ca_bundle
        try:
            context = ssl.create_default_context(cafile=str(bundle) if bundle else None)
        except (OSError, ssl.SSLError) as error:
            msg = f"the CA bundle {bundle} cannot be read"
            raise UsageError(msg, hint="SSL_CERT_FILE or REQUESTS_CA_BUNDLE names it") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        tls = self._network.tls(origin.authority)
        file = None
        try:
            for file in tls.authorities:
                context.load_verify_locations(str(file))
            if tls.client is not None:
                file = tls.client[0]
                context.load_cert_chain(str(file), str(tls.client[1]), password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            msg = f"the certificate or key {file} cannot be used"
            raise FormatError(msg, hint="PEM files are read; keys must have no password") from error
        return context


def _no_password() -> str:
    msg = "the key has a password"
    raise ValueError(msg)


def _proxied(proxy: str, options: dict[str, Any]) -> urllib3.PoolManager:
    try:
        login = urllib3.util.parse_url(proxy).auth
        headers = urllib3.util.make_headers(proxy_basic_auth=login) if login else {}
        return urllib3.ProxyManager(proxy, 1, proxy_headers=headers, **options)
    except exceptions.HTTPError as error:
        msg = "the proxy's address is malformed"
        raise UsageError(msg, hint="it looks like http://host:port") from error
