"""A proxy in front of a real registry that sends no faster over each connection than it is told, and interferes on demand.

Run as a program, `slow_proxy.py HOST RATE DELAY`, it prints its own host and serves until its input ends.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from hostile_server import Handler, Quiet

if TYPE_CHECKING:
    from collections.abc import Callable

_HOP = {"connection", "transfer-encoding", "date", "server"}
_BLOCK = 64 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_TICK = 0.02


@dataclass(frozen=True)
class Asked:
    """One request for a blob: from which byte on, up to which (None for its end), and over which connection."""

    path: str
    start: int
    end: int | None
    connection: int

    @property
    def bounded(self) -> bool:
        return self.end is not None


@dataclass(frozen=True)
class Instead:
    """What the proxy does with a request for a blob, instead of what was asked.

    `status` is answered at once; `stall` bytes are sent and then nothing more; `location` is redirected to; `rate`
    holds for this answer alone.
    """

    status: int = 0
    stall: int | None = None
    location: str = ""
    rate: float | None = None
    whole: bool = False


class SlowProxy:
    """A loopback proxy to `upstream` (host:port). `rate` is in bytes a second for each connection, None for no limit.

    `delay` is in seconds, before each answer. `interfere` may say what to do with a request for a blob; `asked` are
    those requests in their order, `sent` the bytes of their bodies by where they lie, and `most` the most answers
    that were on their way at one time.
    """

    def __init__(self, upstream: str, *, rate: float | None = None, delay: float = 0.0) -> None:
        self.upstream = upstream
        self.rate = rate
        self.delay = delay
        self.interfere: Callable[[Asked], Instead | None] = lambda _asked: None
        self.asked: list[Asked] = []
        self.sent = 0
        self.now = self.most = 0
        self.by_path: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self._server = Quiet(("127.0.0.1", 0), type("Slow", (_Handler,), {"proxy": self}))
        self._server.socket.listen(64)
        self.host = f"localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """Over how many connections parts of blobs were asked for."""
        with self.lock:
            return len({one.connection for one in self.asked})

    @property
    def bounded(self) -> list[Asked]:
        """The requests for parts that have an end."""
        with self.lock:
            return [one for one in self.asked if one.bounded]

    def forget(self) -> None:
        with self.lock:
            self.asked.clear()
            self.by_path.clear()
            self.sent = self.most = 0

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(Handler):
    proxy: SlowProxy
    connection: Any

    def _serve(self) -> None:
        path = self.path.partition("?")[0]
        if "/blobs/sha256:" in path and self.command == "GET":
            match = _RANGE.fullmatch(self.headers.get("Range", ""))
            start, end = (int(match[1]), int(match[2]) + 1 if match[2] else None) if match else (0, None)
            asked = Asked(self.path, start, end, id(self.connection))
            with self.proxy.lock:
                self.proxy.asked.append(asked)
                self.proxy.now += 1
                self.proxy.most = max(self.proxy.most, self.proxy.now)
            try:
                self._answer(path, self.proxy.interfere(asked) or Instead())
            finally:
                with self.proxy.lock:
                    self.proxy.now -= 1
            return
        self._answer(path, Instead(rate=1e12))

    def _answer(self, path: str, instead: Instead) -> None:
        time.sleep(self.proxy.delay)
        if instead.status or instead.location:
            self.send_response(instead.status or 307)
            if instead.location:
                self.send_header("Location", instead.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        upstream = HTTPConnection(self.proxy.upstream, timeout=20)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            if instead.whole:
                headers.pop("Range", None)
            upstream.request(self.command, path, headers=headers)
            said = upstream.getresponse()
            self.send_response(said.status)
            for name, value in said.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.end_headers()
            self._send(said.read, path, instead)
        except OSError:
            # The client hung up: it has enough.
            self.close_connection = True
        finally:
            upstream.close()

    def _send(self, read: Callable[[int], bytes], path: str, instead: Instead) -> None:
        rate = instead.rate or self.proxy.rate
        left = instead.stall
        free_at = time.monotonic()
        while block := read(_BLOCK if left is None else min(left, _BLOCK)):
            if rate:
                free_at = max(free_at, time.monotonic() - _TICK) + len(block) / rate
                time.sleep(max(0.0, free_at - time.monotonic()))
            self.wfile.write(block)
            with self.proxy.lock:
                self.proxy.sent += len(block)
                self.proxy.by_path[path] += len(block)
            if left is not None:
                left -= len(block)
                if not left:
                    self.proxy.stopped.wait(30)
                    self.close_connection = True
                    return

    do_GET = do_HEAD = _serve  # noqa: N815 - http.server's names


def main() -> None:
    proxy = SlowProxy(sys.argv[1], rate=float(sys.argv[2]) or None, delay=float(sys.argv[3]))
    print(proxy.host, flush=True)  # noqa: T201 - how its starter learns where it is
    sys.stdin.read()
    proxy.stop()


if __name__ == "__main__":
    main()
