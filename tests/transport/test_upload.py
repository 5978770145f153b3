"""Uploads against servers with habits that the real registry does not show."""

from __future__ import annotations

import re
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lading.digest import Digest
from lading.errors import LadingError, NetworkError
from lading.events import Noted
from lading.http import Client
from lading.manifest import Descriptor
from lading.transport.habits import KNOWN, habits_of
from lading.transport.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.events import Event
    from lading.transport.registry import Registry

DATA = bytes(index % 251 for index in range(10_000))
BLOB = Descriptor.of(DATA, "x/y")
UPLOADS = "/v2/chat/blobs/uploads/"


@pytest.fixture
def chat(hostile: Any, connect: Any) -> Registry:
    registry: Registry = connect(hostile.host, "chat")
    return registry


def _ignore(_done: int) -> None:
    pass


def _session(reply: Any, status: int, url: str, reached: int | None = None) -> Any:
    headers = {"Location": url, **({} if reached is None else {"Range": f"0-{reached - 1}"})}
    return reply(status, headers=headers)


def _sent(hostile: Any) -> list[tuple[str, str, int]]:
    return [(one.method, one.path, len(one.body)) for one in hostile.asked if one.method in ("PUT", "PATCH")]


def test_what_a_registry_kept_of_a_blob_in_one_request_is_not_sent_again(
    hostile: Any, reply: Any, chat: Registry, memory: Any
) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up/0"))
    hostile.on("PUT", "/up/0", reply(hang_up=True))
    hostile.on("GET", "/up/0", _session(reply, 204, "/up/1", 7000))
    hostile.on("PATCH", "/up/1", _session(reply, 202, "/up/2", 10_000))
    hostile.on("PUT", "/up/2", reply(201))
    source = memory(DATA)
    chat.put_blob(BLOB, source, _ignore)
    assert source.opened == [0, 7000]
    assert _sent(hostile) == [("PUT", "/up/0", 10_000), ("PATCH", "/up/1", 3000), ("PUT", "/up/2", 0)]
    [patch] = [one for one in hostile.asked if one.method == "PATCH"]
    assert (patch.headers["Content-Range"], patch.body) == ("7000-9999", DATA[7000:])


@pytest.mark.parametrize("status", [400, 404, 410, 416])
def test_an_upload_that_the_registry_lost_starts_over_in_a_new_session(
    hostile: Any, reply: Any, chat: Registry, memory: Any, status: int
) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up/0"), _session(reply, 202, "/up/1"))
    hostile.on("PUT", "/up/0", reply(hang_up=True))
    hostile.on("GET", "/up/0", reply(status))
    hostile.on("PUT", "/up/1", reply(201))
    source = memory(DATA)
    chat.put_blob(BLOB, source, _ignore)
    assert source.opened == [0, 0]
    assert _sent(hostile) == [("PUT", "/up/0", 10_000), ("PUT", "/up/1", 10_000)]


@pytest.mark.parametrize("status", [404, 416])
def test_chunks_start_over_in_a_new_session_when_theirs_is_lost(
    hostile: Any, reply: Any, connect: Any, memory: Any, status: int
) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up/0"), _session(reply, 202, "/up/2"))
    hostile.on("PATCH", "/up/0", _session(reply, 202, "/up/1", 6000))
    hostile.on("PATCH", "/up/1", reply(status))
    hostile.on("GET", "/up/1", reply(404))
    hostile.on("PATCH", "/up/2", _session(reply, 202, "/up/3", 6000))
    hostile.on("PATCH", "/up/3", _session(reply, 202, "/up/4", 10_000))
    hostile.on("PUT", "/up/4", reply(201))
    connect(hostile.host, "chat", chunk_size=6000).put_blob(BLOB, memory(DATA), _ignore)
    chunks = [(one.path, one.headers["Content-Range"]) for one in hostile.asked if one.method == "PATCH"]
    assert chunks == [
        ("/up/0", "0-5999"),
        ("/up/1", "6000-9999"),
        ("/up/2", "0-5999"),
        ("/up/3", "6000-9999"),
    ]


def test_a_registry_that_loses_every_session_is_given_up(hostile: Any, reply: Any, chat: Registry, memory: Any) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", reply(404))
    with pytest.raises(NetworkError, match="any more"):
        chat.put_blob(BLOB, memory(DATA), _ignore)


def _one_request_only(chat: Registry, source: Any) -> int | None:
    upload = Upload(chat, BLOB, source, _ignore, chunks=False)
    return upload.run(None, chunk_size=None, tries=3)


def test_a_registry_known_to_take_no_chunks_gets_none_after_a_break(
    hostile: Any, reply: Any, chat: Registry, memory: Any
) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", reply(hang_up=True), reply(201))
    hostile.on("GET", "/up", _session(reply, 204, "/up", 7000))
    assert _one_request_only(chat, memory(DATA)) is None
    assert _sent(hostile) == [("PUT", "/up", 10_000), ("PUT", "/up", 10_000)]


def test_a_registry_known_to_take_no_chunks_gets_none_after_a_413(
    hostile: Any, reply: Any, chat: Registry, memory: Any
) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", reply(413))
    with pytest.raises(LadingError, match="too large"):
        _one_request_only(chat, memory(DATA))
    assert _sent(hostile) == [("PUT", "/up", 10_000)]


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_registry_that_turns_out_to_take_no_chunks_gets_the_blob_anew(
    hostile: Any, reply: Any, chat: Registry, memory: Any, status: int
) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", reply(hang_up=True), reply(hang_up=True), reply(201))
    hostile.on("GET", "/up", _session(reply, 204, "/up", 7000))
    hostile.on("PATCH", "/up", reply(status))
    chat.put_blob(BLOB, memory(DATA), _ignore)
    whole = ("PUT", "/up", 10_000)
    assert _sent(hostile) == [whole, ("PATCH", "/up", 3000), whole, whole]


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_blob_too_large_for_a_registry_without_chunks_is_said_to_be(
    hostile: Any, reply: Any, chat: Registry, memory: Any, status: int
) -> None:
    data = bytes(2 * 1024 * 1024)
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", reply(413))
    hostile.on("PATCH", "/up", reply(status))
    with pytest.raises(LadingError, match="too large"):
        chat.put_blob(Descriptor.of(data, "x/y"), memory(data), _ignore)


def test_what_a_registry_takes_is_remembered_for_the_next_blob(
    hostile: Any, reply: Any, chat: Registry, memory: Any
) -> None:
    first, second = (bytes([byte]) * (2 * 1024 * 1024) for byte in b"ab")
    small = b"small"
    limit = 1024 * 1024

    def take(asked: Any) -> Any:
        taken = reply(201) if asked.method == "PUT" else _session(reply, 202, "/up")
        return reply(413) if len(asked.body) > limit else taken

    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", take)
    hostile.on("PATCH", "/up", take)
    for data in (first, second, small):
        chat.put_blob(Descriptor.of(data, "x/y"), memory(data), _ignore)
    assert _sent(hostile) == [
        ("PUT", "/up", 2 * limit),
        *[("PATCH", "/up", limit)] * 2,
        ("PUT", "/up", 0),
        *[("PATCH", "/up", limit)] * 2,
        ("PUT", "/up", 0),
        ("PUT", "/up", len(small)),
    ]


@pytest.mark.parametrize("chunk_size", [None, 6000])
def test_a_busy_registry_is_given_the_time_that_it_asks_for(
    hostile: Any, reply: Any, connect: Any, memory: Any, naps: list[float], chunk_size: int | None
) -> None:
    busy = reply(429, headers={"Retry-After": "7"})
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", *([] if chunk_size else [busy]), reply(201))
    hostile.on("PATCH", "/up", busy, _session(reply, 202, "/up", 6000), _session(reply, 202, "/up", 10_000))
    hostile.on("GET", "/up", _session(reply, 204, "/up"))
    connect(hostile.host, "chat", chunk_size=chunk_size).put_blob(BLOB, memory(DATA), _ignore)
    [nap] = naps
    assert 7 <= nap < 8


def test_a_registry_that_asks_for_a_day_is_not_waited_for(
    hostile: Any, reply: Any, chat: Registry, memory: Any, naps: list[float]
) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", reply(429, headers={"Retry-After": "86400"}))
    with pytest.raises(NetworkError, match="asks to wait for 86400 s"):
        chat.put_blob(BLOB, memory(DATA), _ignore)
    assert naps == []


def test_another_algorithm_than_sha256_is_named_when_the_upload_is_opened(
    hostile: Any, reply: Any, chat: Registry, memory: Any
) -> None:
    digest = Digest.of(DATA, "sha512")
    blob = Descriptor(media_type="x/y", digest=digest, size=len(DATA))
    source = memory(DATA)
    source.blobs[digest] = DATA
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", reply(201))
    chat.put_blob(blob, source, _ignore)
    [post] = [one for one in hostile.asked if one.method == "POST"]
    assert post.target == f"{UPLOADS}?digest-algorithm=sha512"


class Told:
    """A reporter that keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, Noted) and event.warning:
            self.warnings.append(event.text)


def test_what_a_registry_warns_of_is_told_once(hostile: Any, reply: Any, connect: Any) -> None:
    told = Told()
    through = Client(reporter=told)
    warned = {"Warning": '299 - "this place closes\x1b[2J in May"'}
    hostile.on("GET", "/v2/chat/tags/list", reply(body=b'{"tags":["a"]}', headers=warned))
    chat = connect(hostile.host, "chat", through=through)
    chat.tags()
    chat.tags()
    through.close()
    assert told.warnings == [f"{hostile.host} says: this place closes\\x1b[2J in May"]


class Hasty:
    """A server that answers an upload with 413 before it has read it, and hangs up, as nginx does."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                line, _peer = self._socket.accept()
            except OSError:
                return
            with line:
                self._answer(line)

    def _answer(self, line: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = line.recv(65536)
            if not piece or head[:1] == b"\x16" or piece[:1] == b"\x16":
                return
            head += piece
        said = {b"HEAD": b"404 Not Found", b"POST": b"202 Accepted\r\nLocation: /up", b"PUT ": b"413 Too Large"}
        status = said.get(head[:4], b"404 Not Found")
        line.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        if head.startswith(b"PUT "):
            # What is still on its way is answered with a reset.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def hasty() -> Iterator[Hasty]:
    server = Hasty()
    yield server
    server.stop()


def test_a_blob_refused_while_it_is_sent_is_said_to_be_too_large(hasty: Hasty, connect: Any, memory: Any) -> None:
    data = bytes(16 * 1024 * 1024)
    chat = connect(hasty.host, "chat")
    upload = Upload(chat, Descriptor.of(data, "x/y"), memory(data), _ignore, chunks=False)
    with pytest.raises(LadingError, match="too large") as caught:
        upload.run(None, chunk_size=None, tries=1)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("host", "largest", "chunks"),
    [
        ("ghcr.io", 10_000_000_000, False),
        ("GHCR.io", 10_000_000_000, False),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", 52_000 * 2**20, False),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", 52_000 * 2**20, False),
        ("public.ecr.aws", 10_000 * 2**20, True),
        ("team.azurecr.io", 200 * 2**30, True),
        ("europe-west1-docker.pkg.dev", None, False),
        ("eu.gcr.io", None, False),
        ("ghcr.io.example.org", None, True),
        ("localhost:5000", None, True),
    ],
)
def test_the_habits_of_known_registries_are_kept(host: str, largest: int | None, *, chunks: bool) -> None:
    habits = habits_of(host)
    assert (habits.largest, habits.chunks) == (largest, chunks)


def test_every_row_of_the_table_says_where_it_stands() -> None:
    assert all(re.match("https://", row.source) for row in KNOWN)


def test_a_layer_that_a_registry_is_known_not_to_take_is_warned_about_once_before_it_is_sent(
    hostile: Any, connect: Any
) -> None:
    told = Told()
    through = Client(reporter=told)
    title = {"org.opencontainers.image.title": "a.gguf"}
    size = 12_300_000_000
    large = Descriptor(media_type="x/y", digest=Digest.of(b"large"), size=size, annotations=title)
    for habits in (habits_of("localhost:5000"), habits_of("ghcr.io")):
        chat = connect(hostile.host, "chat", through=through, habits=habits)
        for blob in (BLOB, large, large):
            assert not chat.has(blob)
    through.close()
    assert told.warnings == [f"a.gguf has 12.30 GB; {hostile.host} documents 10.00 GB as the most for a layer"]
    assert {asked.method for asked in hostile.asked} == {"HEAD"}
