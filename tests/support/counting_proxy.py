"""An honest proxy in front of a real registry that counts what it sends, and sends no faster than it is told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from hostile_server import Handler, Quiet

if TYPE_CHECKING:
    import socket
    from http.client import HTTPResponse

_HOP = {"connection", "transfer-encoding", "date", "server"}
_BLOCK = 64 * 1024


@dataclass(frozen=True)
class Request:
    """One request: what was asked for, and from which byte on."""

    method: str
    path: str
    start: int


class CountingProxy:
    """A loopback proxy to `upstream` (host:port).

    `rate` is in bytes a second for all connections together, None for as fast as it goes. `asked` are the requests in
    their order, `sent` the bytes of bodies by path, and `received` those that clients sent.
    """

    def __init__(self, upstream: str, *, rate: int | None = None) -> None:
        self.upstream = upstream
        self.rate = rate
        self.asked: list[Request] = []
        self.sent: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self.lock = threading.Lock()
        self._free_at = 0.0
        self._server = Quiet(("127.0.0.1", 0), type("Counting", (_Handler,), {"proxy": self}))
        # Thirty processes may come at once, before any of them is served.
        self._server.socket.listen(64)
        self.host = f"localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def blob_bytes(self) -> int:
        """The bytes of blobs that were sent."""
        with self.lock:
            return sum(count for path, count in self.sent.items() if "/blobs/" in path)

    @property
    def uploaded_bytes(self) -> int:
        """The bytes of blobs that came from clients."""
        with self.lock:
            return sum(count for path, count in self.received.items() if "/blobs/" in path)

    def fetched(self, digest: str) -> list[int]:
        """Return from which byte on a blob was asked for, each time."""
        with self.lock:
            return [one.start for one in self.asked if one.method == "GET" and one.path.endswith(f"/blobs/{digest}")]

    def pace(self, count: int) -> None:
        """Wait until so many bytes more may be sent."""
        if self.rate is None:
            return
        with self.lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + count / self.rate
            wait = self._free_at - now
        time.sleep(wait)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(Handler):
    proxy: CountingProxy
    connection: socket.socket

    def _serve(self) -> None:
        wanted = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        with self.proxy.lock:
            self.proxy.asked.append(Request(self.command, self.path, int(wanted)))
        upstream = HTTPConnection(self.proxy.upstream, timeout=20)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with self.proxy.lock:
                self.proxy.received[self.path.partition("?")[0]] += len(body)
            upstream.request(self.command, self.path, body=body or None, headers=headers)
            with upstream.getresponse() as said:
                self._pass_on(said)
        except OSError:
            # The client hung up: it was killed, or has enough.
            self.close_connection = True
        finally:
            upstream.close()

    def _pass_on(self, said: HTTPResponse) -> None:
        self.send_response(said.status)
        for name, value in said.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.end_headers()
        while block := said.read(_BLOCK):
            self.proxy.pace(len(block))
            self.wfile.write(block)
            with self.proxy.lock:
                self.proxy.sent[self.path] += len(block)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names
