from __future__ import annotations

import io
import itertools
import socket
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hostile_server import Handler, Quiet

from lading import __version__
from lading.config import Network
from lading.errors import IntegrityError, NetworkError, PolicyError
from lading.events import Event, Noted
from lading.http import Client, Patience, response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lading.content import ByteReader

SECRET = "Bearer canary-5f1c"
REDIRECTS = [301, 302, 303, 307, 308]


class Bytes:
    """A payload that counts how often it was opened."""

    def __init__(self, data: bytes, *, size: int | None = None) -> None:
        self.data = data
        self.size = len(data) if size is None else size
        self.opened = 0
        self.told: list[int] = []

    def open(self) -> ByteReader:
        self.opened += 1
        return io.BytesIO(self.data)

    def progress(self, done: int, /) -> None:
        self.told.append(done)


def test_a_request_names_its_program_and_asks_for_plain_bytes(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on("GET", "/x", reply(body=b"hello"))
    assert client.request("GET", f"{hostile.url}/x").read(100) == b"hello"
    headers = hostile.asked[0].headers
    assert headers["User-Agent"] == f"lading/{__version__}"
    assert headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in headers


@pytest.mark.parametrize("status", REDIRECTS)
def test_no_redirect_carries_a_secret_to_another_origin(
    hostile: Any, canary: Any, reply: Any, client: Client, status: int
) -> None:
    hostile.on("GET", "/blob", reply(status, headers={"Location": f"{canary.url}/there", "Set-Cookie": "id=canary"}))
    canary.on("GET", "/there", reply(status, headers={"Location": f"{hostile.url}/back"}))
    hostile.on("GET", "/back", reply(body=b"data"))
    headers = {"Cookie": "id=canary", "Proxy-Authorization": "canary", "X-Token": "canary", "Range": "bytes=0-3"}
    with client.request("GET", f"{hostile.url}/blob", authorization=SECRET, headers=headers) as response:
        assert response.read(10) == b"data"
        assert response.redirected
    assert hostile.asked[0].headers["Authorization"] == SECRET
    # Not on the way out, and not picked up again on the way back.
    for asked in (*canary.asked, hostile.asked[1]):
        assert "canary" not in str(asked.headers)
        assert asked.headers["Range"] == "bytes=0-3"


@pytest.mark.parametrize("status", REDIRECTS)
def test_a_redirect_within_the_origin_keeps_the_login(hostile: Any, reply: Any, client: Client, status: int) -> None:
    hostile.on("GET", "/a", reply(status, headers={"Location": "/b"}))
    hostile.on("GET", "/b", reply(body=b"x"))
    client.request("GET", f"{hostile.url}/a", authorization=SECRET).close()
    assert hostile.asked[1].headers["Authorization"] == SECRET


def test_a_circle_of_redirects_ends(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on("GET", "/a", reply(302, headers={"Location": "/a"}))
    with pytest.raises(PolicyError, match="more than 10 times"):
        client.request("GET", f"{hostile.url}/a")
    assert len(hostile.asked) == 11


def test_an_upload_is_never_redirected_to_another_origin(hostile: Any, canary: Any, reply: Any, client: Client) -> None:
    hostile.on("PUT", "/a", reply(307, headers={"Location": f"{canary.url}/a"}))
    with pytest.raises(PolicyError, match="upload"):
        client.request("PUT", f"{hostile.url}/a", body=b"secret weights")
    assert canary.asked == []


def test_a_busy_server_is_asked_again_after_the_time_it_named(
    hostile: Any, reply: Any, client: Client, naps: list[float]
) -> None:
    hostile.on("GET", "/a", reply(429, headers={"Retry-After": "7"}), reply(503), reply(body=b"ok"))
    assert client.request("GET", f"{hostile.url}/a").read(9) == b"ok"
    assert 7 <= naps[0] < 8
    assert naps[1] < 2


def test_a_limit_is_waited_for_until_it_ends_unless_that_is_far_off(
    hostile: Any, reply: Any, client: Client, naps: list[float]
) -> None:
    hostile.on("GET", "/a", reply(429, headers={"RateLimit": '"api";r=0;t=55'}), reply(body=b"ok"))
    assert client.request("GET", f"{hostile.url}/a").read(9) == b"ok"
    assert 55 <= naps[0] < 56
    hostile.on("GET", "/a", reply(429, headers={"RateLimit": '"api";r=0;t=280'}))
    with client.request("GET", f"{hostile.url}/a") as response:
        assert response.status == 429
    assert len(naps) == 1


def test_a_retry_is_told(hostile: Any, reply: Any) -> None:
    class Listener:
        def __init__(self) -> None:
            self.events: list[Event] = []

        def emit(self, event: Event) -> None:
            self.events.append(event)

    listener = Listener()
    client = Client(reporter=listener, patience=Patience(tries=2), sleep=lambda _seconds: None)
    hostile.on("GET", "/a", reply(502), reply())
    client.request("GET", f"{hostile.url}/a").close()
    client.close()
    [event] = listener.events
    assert isinstance(event, Noted)
    assert event.warning
    assert f"{hostile.host} is busy or failing (502); trying again in" in event.text


def test_a_server_that_asks_to_wait_for_years_is_not_waited_for(
    hostile: Any, reply: Any, client: Client, naps: list[float]
) -> None:
    hostile.on("GET", "/a", reply(429, headers={"Retry-After": "1000000000"}))
    error = client.request("GET", f"{hostile.url}/a").failure("x")
    assert isinstance(error, NetworkError)
    assert "Retry-After: 1000000000" in error.hint
    assert naps == []


def test_tries_end(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on("GET", "/a", reply(500))
    with client.request("GET", f"{hostile.url}/a") as response:
        assert response.status == 500
    assert len(hostile.asked) == 3


def test_a_broken_connection_is_tried_again_for_get_but_not_for_post(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on("GET", "/a", reply(hang_up=True), reply(body=b"ok"))
    assert client.request("GET", f"{hostile.url}/a").read(9) == b"ok"
    hostile.on("POST", "/a", reply(hang_up=True), reply(body=b"ok"))
    with pytest.raises(NetworkError, match="broke the connection"):
        client.request("POST", f"{hostile.url}/a", body=b"")
    hostile.on("POST", "/a", reply(hang_up=True), reply(body=b"ok"))
    assert client.request("POST", f"{hostile.url}/a", body=b"", again=True).read(9) == b"ok"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_small_answer_that_breaks_off_is_asked_for_again(
    hostile: Any, reply: Any, client: Client, naps: list[float], *, chunked: bool
) -> None:
    cut = reply(body=b"the whole", cut=3, chunked=chunked, headers={"ETag": "old"})
    hostile.on("GET", "/a", cut, reply(503), cut, reply(body=b"the whole", headers={"ETag": "new"}))
    with client.request("GET", f"{hostile.url}/a", authorization=SECRET) as response:
        assert response.read(9) == b"the whole"
        assert response.headers["ETag"] == "new", "the answer is the one that came whole"
    assert [one.headers["Authorization"] for one in hostile.asked] == [SECRET] * 4
    assert len(naps) == 3


def test_a_small_answer_that_always_breaks_off_is_given_up(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on("GET", "/a", reply(body=b"the whole", cut=3))
    with pytest.raises(NetworkError, match="6 bytes before the end"):
        client.request("GET", f"{hostile.url}/a").read(9)
    assert len(hostile.asked) == 3
    with client.impatiently(), pytest.raises(NetworkError):
        client.request("GET", f"{hostile.url}/a").read(9)
    assert len(hostile.asked) == 4


@pytest.mark.parametrize("whole", [1000, 2])
def test_a_small_answer_that_drips_is_given_up_unless_it_is_at_its_end(
    client: Client, naps: list[float], monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    looks = itertools.count(0, 20)
    monkeypatch.setattr(response, "time", SimpleNamespace(monotonic=lambda: next(looks)))

    class Drips(Handler):
        def _drip(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(whole))
            self.end_headers()
            for _byte in range(whole):
                self.wfile.write(b"x")
                time.sleep(0.02)

        do_GET = _drip  # noqa: N815 - http.server's name

    server = Quiet(("127.0.0.1", 0), Drips)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        answer = client.request("GET", f"http://127.0.0.1:{server.server_port}/a")
        if whole == 2:
            assert answer.read(2) == b"xx"
        else:
            with pytest.raises(NetworkError, match="too slowly"):
                answer.read(1000)
            assert len(naps) == 2
    finally:
        server.shutdown()
        server.server_close()


def test_an_answer_to_a_post_that_breaks_off_is_not_asked_for_again(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on("POST", "/a", reply(body=b"the whole", cut=3))
    with pytest.raises(NetworkError, match="6 bytes before the end"):
        client.request("POST", f"{hostile.url}/a", body=b"", again=True).read(9)
    assert len(hostile.asked) == 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (404, {}),
        (200, {"Content-Type": "text/html"}),
        (206, {"Content-Range": "bytes 1-9/20"}),
        (206, {"Content-Range": "bytes 0-8/20", "ETag": "new"}),
    ],
)
def test_an_answer_of_another_kind_is_not_taken_for_the_one_that_broke_off(
    hostile: Any, reply: Any, client: Client, status: int, headers: dict[str, str]
) -> None:
    first = {"Content-Range": "bytes 0-8/20", "ETag": "old"} if status == 206 else {}
    cut = reply(206 if status == 206 else 200, b"the whole", first, cut=3)
    hostile.on("GET", "/a", cut, reply(status, b"something", headers))
    with pytest.raises(NetworkError, match="6 bytes before the end"):
        client.request("GET", f"{hostile.url}/a").read(9)


def test_a_payload_is_streamed_with_its_length_and_opened_anew_for_another_try(
    hostile: Any, reply: Any, client: Client
) -> None:
    payload = Bytes(bytes(range(256)) * 2000)
    hostile.on("PUT", "/a", reply(503), reply(201))
    client.request("PUT", f"{hostile.url}/a", body=payload, again=True).close()
    assert payload.opened == 2
    assert [len(asked.body) for asked in hostile.asked] == [512_000, 512_000]
    assert hostile.asked[1].body == payload.data
    assert hostile.asked[1].headers["Content-Length"] == "512000"
    assert payload.told[-1] == 512_000
    assert payload.told[: len(payload.told) // 2] == sorted(payload.told[: len(payload.told) // 2])


@pytest.mark.parametrize(("size", "word"), [(900_000, "ended"), (100_000, "longer")])
def test_a_source_of_another_length_never_becomes_a_whole_upload(
    hostile: Any, reply: Any, client: Client, size: int, word: str
) -> None:
    hostile.on("PUT", "/a", reply(201))
    with pytest.raises(IntegrityError, match=word):
        client.request("PUT", f"{hostile.url}/a", body=Bytes(bytes(500_000), size=size))


def test_nobody_there_is_told_at_once(client: Client, naps: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NetworkError, match=f"nothing answers at {host}"):
            client.request("GET", f"http://{host}/v2/")
    assert naps == []


def test_an_unknown_name_is_named_at_once(client: Client, naps: list[float]) -> None:
    with pytest.raises(NetworkError, match=r"the name no-such-host\.invalid is not known"):
        client.request("GET", "https://no-such-host.invalid/v2/")
    assert naps == []


def test_a_name_that_was_known_is_asked_for_again(
    client: Client, hostile: Any, reply: Any, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile.on("GET", "/a", reply(200, b"a", {"Connection": "close"}))
    url = hostile.url.replace("127.0.0.1", "localhost")
    client.request("GET", f"{url}/a").close()
    look_up, gone = socket.getaddrinfo, [True, True]

    def lost(*wanted: Any, **more: Any) -> Any:
        if gone:
            gone.pop()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up(*wanted, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lost)
    client.request("GET", f"{url}/a").close()
    assert len(naps) == 2


def test_silence_ends_in_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = Client(patience=Patience(tries=1, read=0.2))
        with pytest.raises(NetworkError, match="does not answer in time"):
            client.request("GET", f"http://127.0.0.1:{mute.getsockname()[1]}/")
        client.close()


def test_plain_http_is_found_out_on_loopback(hostile: Any, client: Client) -> None:
    assert client.scheme(hostile.host) == "http"
    assert client.scheme(hostile.host) == "http"


@pytest.fixture
def proxy() -> Iterator[Callable[[], list[bytes]]]:
    """A proxy that answers everything itself, and tells what it heard."""
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _address = server.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def told() -> list[bytes]:
        return heard

    told.port = server.getsockname()[1]  # type: ignore[attr-defined] # one value more for the test
    yield told
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_a_proxy_that_refuses_is_named_without_its_password(proxy: Any) -> None:
    url = f"http://sam:hunter2@127.0.0.1:{proxy.port}"
    client = Client(Network(proxies={"https": url, "http": url}), patience=Patience(tries=1))
    with pytest.raises(NetworkError, match="407") as caught:
        client.request("GET", "https://registry.acme.test/v2/", authorization=SECRET)
    assert f"the proxy 127.0.0.1:{proxy.port} does not reach registry.acme.test" in caught.value.message
    assert "hunter2" not in caught.value.message + caught.value.hint
    assert proxy()[0].startswith(b"CONNECT registry.acme.test:443")
    assert b"canary" not in proxy()[0]
    assert b"Proxy-Authorization: Basic" in proxy()[0] or b"proxy-authorization: Basic" in proxy()[0]
    client.close()


def test_a_proxy_that_is_not_reached_is_named_with_the_variable_that_names_it() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{unheard.getsockname()[1]}"
        network = Network(proxies={"https": f"http://sam:hunter2@{where}", "http": f"http://sam:hunter2@{where}"})
        for scheme in ("https", "http"):
            client = Client(network, patience=Patience(tries=1))
            with pytest.raises(NetworkError, match=f"^the proxy {where} is not reached") as caught:
                client.request("GET", f"{scheme}://registry.acme.test/v2/")
            assert f"{scheme}_proxy or {scheme.upper()}_PROXY" in caught.value.hint
            assert "hunter2" not in caught.value.message + caught.value.hint
            client.close()


def test_many_threads_share_a_client(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on("GET", "/a", reply(body=b"x" * 100_000))
    lengths: list[int] = []

    def fetch() -> None:
        lengths.extend(len(client.request("GET", f"{hostile.url}/a").read(200_000)) for _ in range(5))

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == [100_000] * 40


def test_a_connection_is_used_again_after_an_error_without_a_body(
    hostile: Any, reply: Any, client: Client, naps: list[float]
) -> None:
    hostile.on("GET", "/refused", reply(403))
    for _time in range(3):
        with client.request("GET", f"{hostile.url}/refused") as response:
            response.failure("it")
    assert len(hostile.asked) == 3
    assert naps == []
