from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from lading.errors import IntegrityError, NetworkError
from lading.http import Client, RemoteFile
from lading.http.ranges import SMALL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lading.http import Response

DATA = bytes(index % 253 for index in range(10_000))


def _served(reply: Any, data: bytes = DATA) -> Callable[[Any], Any]:
    def serve(asked: Any) -> Any:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers["Range"])
        assert match is not None
        start, end = int(match[1]), min(int(match[2]), len(data) - 1)
        return reply(206, data[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(data)}"})

    return serve


@pytest.fixture
def remote(hostile: Any, client: Client) -> Callable[..., RemoteFile]:
    def make(size: int = len(DATA), path: str = "/a", validator: str = "") -> RemoteFile:
        def fetch(headers: Mapping[str, str]) -> Response:
            return client.request("GET", f"{hostile.url}{path}", headers=headers, authorization="Bearer canary")

        return RemoteFile(client, fetch, "blob x", size, validator=validator)

    return make


def test_parts_are_read_and_counted(hostile: Any, reply: Any, remote: Any) -> None:
    hostile.on("GET", "/a", _served(reply))
    file = remote()
    assert file.read_at(5, 10) == DATA[5:15]
    assert file.read_at(9_990, 100) == DATA[9_990:]
    assert file.read_at(10_000, 5) == b""
    assert file.read_at(20_000, 5) == b""
    assert file.read_at(0, 0) == b""
    assert (file.requests, file.bytes_read) == (2, 20)


def test_the_place_that_a_redirect_led_to_is_asked_directly_and_without_the_login(
    hostile: Any, canary: Any, reply: Any, remote: Any
) -> None:
    hostile.on("GET", "/a", reply(307, headers={"Location": f"{canary.url}/signed?key=1"}))
    canary.on("GET", "/signed", _served(reply), _served(reply), reply(403), _served(reply))
    file = remote()
    for offset in (0, 10, 20, 30):
        assert file.read_at(offset, 10) == DATA[offset : offset + 10]
    # The third read found the signed address expired, and went through the registry again.
    assert len(hostile.asked) == 2
    assert all("Authorization" not in asked.headers for asked in canary.asked)


@pytest.mark.parametrize(
    "said",
    [
        "bytes 6-15/10000",
        "bytes 5-13/10000",
        "bytes 5-15/10000",
        "bytes 0-9/10000",
        "bytes */10000",
        "",
        "junk",
        "bytes 5-14/x",
        "bytes 5-14/9999",
    ],
)
def test_another_part_than_asked_for_is_refused(hostile: Any, reply: Any, remote: Any, said: str) -> None:
    hostile.on("GET", "/a", reply(206, DATA[5:15], {"Content-Range": said}))
    with pytest.raises(IntegrityError):
        remote().read_at(5, 10)


def test_a_multipart_answer_is_refused(hostile: Any, reply: Any, remote: Any) -> None:
    hostile.on("GET", "/a", reply(206, b"--x", {"Content-Type": "multipart/byteranges; boundary=x"}))
    with pytest.raises(IntegrityError):
        remote().read_at(5, 10)


def test_fewer_bytes_than_the_range_are_refused(hostile: Any, reply: Any, remote: Any) -> None:
    hostile.on("GET", "/a", reply(206, DATA[5:10], {"Content-Range": "bytes 5-14/10000"}))
    with pytest.raises(NetworkError):
        remote().read_at(5, 10)


def test_a_small_file_is_read_whole_where_ranges_are_unknown(hostile: Any, reply: Any, remote: Any) -> None:
    hostile.on("GET", "/a", reply(200, DATA))
    file = remote()
    assert file.read_at(5, 10) == DATA[5:15]
    assert file.read_at(100, 10) == DATA[100:110]
    assert file.requests == 1


def test_a_large_file_is_not_downloaded_for_a_part(hostile: Any, reply: Any, remote: Any) -> None:
    hostile.on("GET", "/a", reply(200, b"x" * 100, length=SMALL + 1))
    file = remote(SMALL + 1)
    assert not file.undivided
    with pytest.raises(NetworkError, match="cannot send a part"):
        file.read_at(0, 10)
    assert file.undivided


def test_a_file_shorter_than_promised_is_named(hostile: Any, reply: Any, remote: Any) -> None:
    hostile.on("GET", "/a", reply(416))
    with pytest.raises(IntegrityError, match="shorter"):
        remote().read_at(5, 10)


def test_a_stream_of_a_part_is_asked_for_once_and_what_is_no_such_part_is_refused(
    hostile: Any, reply: Any, remote: Any, naps: list[float]
) -> None:
    part = {"Content-Range": "bytes 5-14/10000"}
    hostile.on(
        "GET",
        "/a",
        reply(206, DATA[5:15], part),
        reply(429, headers={"Retry-After": "60"}),
        reply(503),
        reply(416),
        reply(200, DATA),
        reply(206, DATA[5:15], {"Content-Range": "bytes 0-9/10000"}),
        reply(206, DATA[5:10], part),
    )
    file = remote()
    assert file.stream(5, 10).read(100) == DATA[5:15]
    for error in (NetworkError, NetworkError, IntegrityError, NetworkError, IntegrityError):
        with pytest.raises(error):
            file.stream(5, 10)
    short = file.stream(5, 10)
    assert short.read(100) == DATA[5:10]
    assert short.read(100) == b""
    assert len(hostile.asked) == 7
    assert naps == []


DATE = "Tue, 14 Nov 2023 08:00:00 GMT"


@pytest.mark.parametrize(
    ("validator", "same", "other"),
    [
        ('"one"', {"ETag": '"one"'}, {"ETag": '"two"'}),
        (DATE, {}, {"Last-Modified": "Wed, 15 Nov 2023 08:00:00 GMT"}),
    ],
)
def test_a_part_of_another_version_is_never_taken(
    hostile: Any, reply: Any, remote: Any, validator: str, same: dict[str, str], other: dict[str, str]
) -> None:
    part = {"Content-Range": "bytes 5-14/10000"}
    whole = reply(200, DATA, other)
    hostile.on("GET", "/a", reply(206, DATA[5:15], {**part, **same}), reply(206, DATA[5:15], {**part, **other}), whole)
    file = remote(validator=validator)
    assert file.stream(5, 10).read(100) == DATA[5:15]
    with pytest.raises(IntegrityError, match="changed"):
        file.stream(5, 10)
    with pytest.raises(NetworkError):
        file.stream(5, 10)
    assert {one.headers["If-Range"] for one in hostile.asked} == {validator}
