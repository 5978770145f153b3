"""A scripted HTTP server that answers as the worst servers do."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


@dataclass(frozen=True)
class Reply:
    """What the server says. `cut` sends only so many bytes of the body and hangs up; `length` lies about them."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    cut: int | None = None
    chunked: bool = False
    hang_up: bool = False


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    rfile: Any
    script: Hostile

    def handle_one_request(self) -> None:
        # A TLS ClientHello begins with 0x16: this server speaks plain HTTP only.
        if self.rfile.peek(1)[:1] == b"\x16":
            self.close_connection = True
            return
        super().handle_one_request()

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, self.path, dict(self.headers.items()), body)
        self.script.asked.append(asked)
        self._say(self.script.reply(asked))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _say(self, reply: Reply) -> None:
        if reply.hang_up:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = reply.body if reply.cut is None else reply.body[: reply.cut]
        end = b"0\r\n\r\n" if reply.cut is None else b""
        if reply.chunked:
            sent = (b"%x\r\n%b\r\n" % (len(sent), sent) if sent else b"") + end
        self.wfile.write(sent)
        if reply.cut is not None or reply.length is not None:
            self.close_connection = True


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing where a client hung up: many tests are about that."""


class Hostile:
    """A scripted HTTP server on loopback: each path has replies in order, the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._script: dict[tuple[str, str], deque[Reply | Callable[[Asked], Reply]]] = {}
        handler = type("Scripted", (Handler,), {"script": self})
        self._server = Quiet(("127.0.0.1", 0), handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def on(self, method: str, path: str, *replies: Reply | Callable[[Asked], Reply]) -> None:
        self._script[method, path] = deque(replies)

    def reply(self, asked: Asked) -> Reply:
        replies = self._script.get((asked.method, asked.path))
        if not replies:
            return Reply(404)
        chosen = replies[0] if len(replies) == 1 else replies.popleft()
        return chosen if isinstance(chosen, Reply) else chosen(asked)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
