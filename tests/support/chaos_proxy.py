"""A proxy in front of servers that breaks what passes through it, by a schedule that follows from a seed."""

from __future__ import annotations

import gzip
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, NoReturn

from hostile_server import Handler, Quiet

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

# fmt: off
KINDS = (
    "reset", "early-end", "longer-body", "flipped-bit", "whole-for-range", "other-range", "416", "401", "403",
    "429", "429-retry-after", "5xx", "stall", "slow-loris", "redirect-loop", "redirect-elsewhere", "gzip", "portal",
)
# fmt: on
RANGED = ("whole-for-range", "other-range", "416")
WRONG = ("flipped-bit", "longer-body", "gzip", "redirect-elsewhere", *RANGED)
"""Kinds that answer with something else than was asked for: what came before may have to be fetched again with it."""

PORTAL = b"<html><title>Welcome aboard</title>Please accept our terms.</html>"
_FOREIGN_REALM = 'Bearer realm="https://login.example.net/token",service="x"'
_HOP = {"connection", "content-length", "transfer-encoding", "date", "server", "host"}
_STALL_SECONDS = 1.0
_DRIPS = 6
_LOOP = 11
_TARGETS = {
    "pull": ("document", "blob", "blob"),
    "pull hf": ("document", "document", "blob", "body"),
    "pull url": ("document", "blob", "body"),
    "push": ("document", "blob", "upload", "upload"),
    "inspect": ("document", "blob"),
}
_STORED = re.compile(r"/[0-9a-f]{64}(?:\?|$)")


@dataclass
class Fault:
    """One kind of fault: strikes `times` requests of the `target` kind, after `skip` of them; `at` is where in the body.

    A target is "document", "upload", "blob" for the content of a file or "body" for all of it, not a range; or "any".
    """

    kind: str
    target: str = "any"
    times: int = 1
    skip: int = 0
    at: float = 0.5
    ranged: bool = False


@dataclass
class Answer:
    """What upstream said, ready to be changed."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class HangUpError(Exception):
    """The connection is to be closed without a word."""


def schedule(kind: str, command: str, rng: random.Random) -> list[Fault]:
    """Choose what is struck, how often and where; a range is asked for only after a break, so that comes first."""
    target = rng.choice(_TARGETS[command])
    edge = (0.0, 1e-6, 1.0)
    at = rng.choice((*edge, rng.random(), rng.random(), rng.random()))
    times = rng.choice((1, 1, 2, 4))
    if kind == "redirect-loop":
        times *= _LOOP
    fault = Fault(kind, target, times=times, skip=rng.choice((0, 0, 0, 1)), at=at)
    if kind in RANGED and command.startswith("pull"):
        # A registry's config is small and read whole: a blob's second body is the weights.
        first = Fault("reset", "body", skip=int(command == "pull"), at=0.2 + 0.6 * rng.random())
        return [first, Fault(kind, "blob", times=fault.times, at=at, ranged=True)]
    if kind == "flipped-bit" and command in ("pull hf", "pull url"):
        # What a hub lists has no digest: there stands TLS alone.
        return [Fault(kind, rng.choice(("blob", "body")), times=fault.times, at=at)]
    return [fault]


class ChaosProxy:
    """A loopback proxy, at one of `hosts` for each of `upstreams` (host:port); `host` is the first of them.

    `plan` gives it faults, for all that passes; when they are spent it is honest. `canary` is another origin, to which
    it redirects: that one keeps the headers that it hears.
    """

    def __init__(self, *upstreams: str) -> None:
        self.asked: list[str] = []
        self.canary_heard: list[str] = []
        self.sent = 0
        self.strikes = 0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._elsewhere: dict[str, Answer] = {}
        self._servers = [
            Quiet(("127.0.0.1", 0), type("Chaotic", (_Handler,), {"proxy": self, "upstream": upstream}))
            for upstream in upstreams
        ]
        self.hosts = [f"localhost:{server.server_port}" for server in self._servers]
        self.host = self.hosts[0]
        canary = Quiet(("127.0.0.1", 0), type("Canary", (_Canary,), {"proxy": self}))
        self.canary_url = f"http://127.0.0.1:{canary.server_port}"
        self._servers.append(canary)
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def plan(self, faults: Sequence[Fault]) -> None:
        """Begin anew with these faults; each waits for those before it."""
        with self._lock:
            self._faults = list(faults)
            self._elsewhere.clear()
            self.strikes = self.sent = 0
            self.asked.clear()
            self.canary_heard.clear()

    @property
    def left(self) -> int:
        """How many strikes are still to come."""
        with self._lock:
            return sum(fault.times for fault in self._faults)

    def draw(self, method: str, path: str, *, ranged: bool) -> Fault | None:
        """Return the fault that strikes this request, if one does."""
        with self._lock:
            self.asked.append(f"{method} {path}")
            if not self._faults:
                return None
            fault = self._faults[0]
            if fault.target not in _targets(method, path, ranged=ranged) or (fault.ranged and not ranged):
                return None
            if fault.skip:
                fault.skip -= 1
                return None
            fault.times -= 1
            self.strikes += 1
            if not fault.times:
                self._faults.pop(0)
            return fault

    @staticmethod
    def forward(upstream: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Ask upstream."""
        connection = HTTPConnection(upstream, timeout=20)
        try:
            connection.request(method, path, body=body or None, headers=headers)
            said = connection.getresponse()
            kept = {name: value for name, value in said.getheaders() if name.lower() not in _HOP}
            if method == "HEAD":
                kept["Content-Length"] = said.headers.get("Content-Length", "0")
            return Answer(said.status, kept, said.read())
        finally:
            connection.close()

    def lend(self, path: str, answer: Answer) -> str:
        """Let the canary's origin give this answer, and return the address."""
        with self._lock:
            self._elsewhere[path] = answer
        return f"{self.canary_url}{path}"

    def lent(self, path: str, said: str) -> Answer | None:
        """Return what the canary's origin is to answer, and remember what it heard."""
        with self._lock:
            self.canary_heard.append(said)
            return self._elsewhere.get(path)

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()


def _targets(method: str, path: str, *, ranged: bool) -> set[str]:
    if "/blobs/uploads/" in path:
        return {"any", "upload"}
    if "/blobs/" not in path and not (method == "GET" and _STORED.match(path)):
        return {"any", "document"}
    return {"any", "blob"} if ranged or method != "GET" else {"any", "blob", "body"}


class _Handler(Handler):
    proxy: ChaosProxy
    upstream: str
    connection: socket.socket

    def _serve(self) -> None:
        fault = self.proxy.draw(self.command, self.path, ranged="Range" in self.headers)
        try:
            answer = self._answer(fault)
            if fault is not None:
                answer = self._changed(fault, answer)
            self._begin(answer, len(answer.body))
            self._write(answer.body)
        except (HangUpError, OSError, HTTPException):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _answer(self, fault: Fault | None) -> Answer:
        length = int(self.headers.get("Content-Length") or 0)
        kind = fault.kind if fault else ""
        if fault and length and fault.at < 0.5 and kind in ("reset", "early-end", "stall", "slow-loris"):
            # The upload breaks on its way; with a later `at` it arrives and the answer is lost.
            self.rfile.read(int(length * fault.at * 2))
            self._break(kind)
        body = self.rfile.read(length)
        if fault and body and kind == "flipped-bit":
            body = _flipped(body, fault.at)
        if fault and body and kind == "longer-body":
            body += b"\0"
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        headers["Host"] = self.headers.get("Host", self.proxy.host)
        refused = kind in ("401", "403", "429", "429-retry-after", "5xx", "redirect-loop", "portal", "416")
        if refused:
            return Answer(200)
        return self.proxy.forward(self.upstream, self.command, self.path, headers, body)

    def _changed(self, fault: Fault, answer: Answer) -> Answer:  # noqa: C901, PLR0911, PLR0912 - a branch for each fault
        at = int(len(answer.body) * fault.at)
        match fault.kind:
            case "reset" | "early-end" | "stall" | "slow-loris":
                self._begin(answer, len(answer.body))
                self._write(answer.body[:at])
                self._break(fault.kind, answer.body[at : at + _DRIPS])
            case "longer-body":
                answer.body += bytes(1 + at % 5000)
            case "flipped-bit":
                answer.body = _flipped(answer.body, fault.at)
            case "whole-for-range":
                login = self.headers.get("Authorization")
                headers = {"Authorization": login} if login else {}
                if self.command == "GET":
                    answer = self.proxy.forward(self.upstream, "GET", self.path, headers, b"")
                return Answer(200, answer.headers, answer.body)
            case "other-range":
                start = at + 1
                size = start + len(answer.body)
                headers = {**answer.headers, "Content-Range": f"bytes {start}-{size - 1}/{size}", "Range": f"0-{at}"}
                return Answer(206, headers, answer.body)
            case "401":
                return Answer(401, {"WWW-Authenticate": 'Basic realm="x"' if fault.at < 0.5 else _FOREIGN_REALM})
            case "403" | "416":
                return Answer(int(fault.kind), {"Content-Type": "application/json"}, b'{"errors":[{"code":"DENIED"}]}')
            case "429":
                return Answer(429)
            case "429-retry-after":
                said = ("1", "0", "1000000000", "Fri, 01 Jan 2027 00:00:00 GMT")[int(fault.at * 100) % 4]
                return Answer(429, {"Retry-After": said})
            case "5xx":
                return Answer((500, 502, 503, 504)[self.proxy.strikes % 4])
            case "redirect-loop":
                return Answer(307, {"Location": self.path})
            case "redirect-elsewhere":
                if fault.at > 0.5:
                    answer = Answer(200, {"Content-Type": "text/plain"}, b"other bytes")
                return Answer(307, {"Location": self.proxy.lend(self.path, answer)})
            case "gzip":
                return Answer(answer.status, {**answer.headers, "Content-Encoding": "gzip"}, gzip.compress(answer.body))
            case "portal":
                return Answer(200, {"Content-Type": "text/html; charset=utf-8"}, PORTAL)
            case _:
                raise AssertionError(fault.kind)
        return answer

    def _break(self, kind: str, rest: bytes = b"") -> NoReturn:
        if kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if kind == "slow-loris":
            for place in range(len(rest)):
                time.sleep(0.05)
                self._write(rest[place : place + 1])
        if kind in ("stall", "slow-loris"):
            # Until the client has had enough, or long enough to be sure that it never has.
            self.connection.settimeout(_STALL_SECONDS)
            self.connection.recv(1)
        raise HangUpError

    def _begin(self, answer: Answer, length: int) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(length), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def _write(self, body: bytes) -> None:
        if self.command != "HEAD":
            self.proxy.sent += len(body)
            self.wfile.write(body)


class _Canary(Handler):
    proxy: ChaosProxy

    def _serve(self) -> None:
        said = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode("latin-1")
        answer = self.proxy.lent(self.path, f"{self.command} {self.path}\n{said}\n{body}") or Answer(404)
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names


def _flipped(body: bytes, at: float) -> bytes:
    if not body:
        return body
    place = min(int(len(body) * at), len(body) - 1)
    return body[:place] + bytes([body[place] ^ (1 << place % 8)]) + body[place + 1 :]
