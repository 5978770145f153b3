from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lading.errors import (
    AccessDeniedError,
    FormatError,
    IntegrityError,
    LadingError,
    NetworkError,
    NotFoundError,
)

if TYPE_CHECKING:
    from lading.http import Client


def _read_all(client: Client, url: str, size: int = 4096) -> bytes:
    data = b""
    with client.request("GET", url) as response, response.body() as body:
        buffer = bytearray(size)
        while count := body.readinto(buffer):
            data += buffer[:count]
        assert body.readinto(buffer) == 0
    return data


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 4096, 100_000])
def test_a_body_is_read_whole_and_its_end_repeats(
    hostile: Any, reply: Any, client: Client, size: int, *, chunked: bool
) -> None:
    data = bytes(index % 251 for index in range(size))
    hostile.on("GET", "/a", reply(body=data, chunked=chunked))
    assert _read_all(client, f"{hostile.url}/a") == data
    assert _read_all(client, f"{hostile.url}/a", 1 << 20) == data


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 50_000, 99_999])
def test_a_truncated_body_is_never_accepted(
    hostile: Any, reply: Any, client: Client, cut: int, *, chunked: bool
) -> None:
    hostile.on("GET", "/a", reply(body=bytes(100_000), length=None if chunked else 100_000, cut=cut, chunked=chunked))
    with pytest.raises(NetworkError, match="broke off"):
        _read_all(client, f"{hostile.url}/a")


def test_bytes_beyond_the_length_are_not_read(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on("GET", "/a", reply(body=b"x" * 100, length=60))
    assert _read_all(client, f"{hostile.url}/a") == b"x" * 60


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate, gzip"])
def test_an_encoded_body_is_refused(hostile: Any, reply: Any, client: Client, encoding: str) -> None:
    hostile.on("GET", "/a", reply(body=b"x", headers={"Content-Encoding": encoding}))
    with pytest.raises(IntegrityError, match="encoded"):
        client.request("GET", f"{hostile.url}/a").read(10)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_small_read_is_bounded(hostile: Any, reply: Any, client: Client, *, chunked: bool) -> None:
    hostile.on("GET", "/a", reply(body=b"x" * 1001, chunked=chunked))
    with pytest.raises(FormatError, match="1000"):
        client.request("GET", f"{hostile.url}/a").read(1000)
    assert len(client.request("GET", f"{hostile.url}/a").read(1001)) == 1001


@pytest.mark.parametrize("length", ["-1", "many", "1, 2", "9" * 30, "\u0661"])
def test_a_senseless_length_is_refused(hostile: Any, reply: Any, client: Client, length: str) -> None:
    hostile.on("HEAD", "/a", reply(headers={"X-Length": "x"}))
    response = client.request("HEAD", f"{hostile.url}/a")
    response.close()
    response.headers = {"Content-Length": length}
    with pytest.raises(NetworkError, match="senseless Content-Length"):
        _ = response.length


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AccessDeniedError),
        (403, AccessDeniedError),
        (404, NotFoundError),
        (408, NetworkError),
        (413, LadingError),
        (418, LadingError),
        (429, NetworkError),
        (500, NetworkError),
        (503, NetworkError),
    ],
)
def test_each_status_becomes_an_error_of_the_tree(
    hostile: Any, reply: Any, client: Client, status: int, error: type[LadingError]
) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"not\\u001b[31m for you","detail":{}}]}'
    hostile.on("GET", "/a", reply(status, body))
    failure = client.request("GET", f"{hostile.url}/a").failure("`chat`")
    assert type(failure) is error
    assert failure.message.startswith((hostile.host, "`chat`"))
    assert f"({status} DENIED: not [31m for you)" in failure.message


@pytest.mark.parametrize(
    "body",
    [b"", b"plain", b"[]", b'{"errors":[]}', b'{"errors":"x"}', b'{"errors":[null]}', b"[" * 9000, b"x" * 99_999],
)
def test_a_strange_error_body_changes_nothing(hostile: Any, reply: Any, client: Client, body: bytes) -> None:
    hostile.on("GET", "/a", reply(403, body))
    failure = client.request("GET", f"{hostile.url}/a").failure("`chat`")
    assert failure.message == f"{hostile.host} refuses access to `chat` (403)"


def test_connections_are_used_again_after_a_whole_read_and_after_a_close(
    hostile: Any, reply: Any, client: Client
) -> None:
    hostile.on("GET", "/a", reply(body=b"x" * 1000))
    hostile.on("HEAD", "/a", reply(body=b"x" * 1000))
    hostile.on("GET", "/b", reply(404, body=b"none"))
    for _ in range(3):
        client.request("GET", f"{hostile.url}/a").read(2000)
        client.request("HEAD", f"{hostile.url}/a").close()
        client.request("GET", f"{hostile.url}/b").close()
    [pool] = client._pools.values()
    connections = pool.connection_from_url(hostile.url)
    assert connections.num_connections == 1
