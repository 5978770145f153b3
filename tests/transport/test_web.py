from __future__ import annotations

import base64
import hashlib
import re
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from hostile_server import Handler, Quiet

from lading.digest import Digest
from lading.errors import IntegrityError, NetworkError, NotFoundError, PolicyError, UsageError
from lading.transport.web import look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lading.content import ByteReader
    from lading.http import Client

DATA = bytes(index % 251 for index in range(10_000))
ETAG = {"ETag": '"one"'}


def _all(reader: ByteReader) -> bytes:
    try:
        return b"".join(iter(lambda: reader.read(3000) or b"", b""))
    finally:
        reader.close()


@pytest.fixture
def served(hostile: Any, reply: Any) -> str:
    """A file whose server knows ranges."""

    def serve(asked: Any) -> Any:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("Range", ""))
        if match is None:
            return reply(body=DATA, headers=ETAG)
        start, end = int(match[1]), int(match[2] or len(DATA) - 1)
        return reply(206, DATA[start : end + 1], {**ETAG, "Content-Range": f"bytes {start}-{end}/{len(DATA)}"})

    hostile.on("HEAD", "/models/story%201.gguf", serve)
    hostile.on("GET", "/models/story%201.gguf", serve)
    return f"{hostile.url}/models/story%201.gguf?download=true"


def test_a_file_is_looked_at_and_read_whole_in_part_and_at_random(served: str, client: Client) -> None:
    file = look(served, client)
    assert (file.name, file.size, file.validator) == ("story 1.gguf", len(DATA), '"one"')
    assert _all(file.open()) == DATA
    assert _all(file.open(4000)) == DATA[4000:]
    assert _all(file.open(len(DATA))) == b""
    assert file.ranges().read_at(100, 5) == DATA[100:105]


@pytest.mark.parametrize("status", [403, 405, 501])
def test_a_server_without_head_is_asked_for_the_first_byte(
    served: str, hostile: Any, reply: Any, client: Client, status: int
) -> None:
    hostile.on("HEAD", "/models/story%201.gguf", reply(status))
    file = look(served, client)
    assert (file.size, file.validator) == (len(DATA), '"one"')


def test_a_server_that_tells_no_size_is_named(hostile: Any, reply: Any, client: Client) -> None:
    hostile.on("HEAD", "/a", reply(405))
    hostile.on("GET", "/a", reply(body=DATA, chunked=True))
    with pytest.raises(NetworkError, match="does not tell the size of a"):
        look(f"{hostile.url}/a", client)


@pytest.mark.parametrize("headers", [{"ETag": '"two"'}, {}])
def test_a_file_that_changed_is_noticed(
    served: str, hostile: Any, reply: Any, client: Client, headers: dict[str, str]
) -> None:
    file = look(served, client)
    body = DATA if headers else DATA + b"more"
    hostile.on("GET", "/models/story%201.gguf", reply(body=body, headers=headers))
    for offset in (0, 4000):
        with pytest.raises(IntegrityError, match="changed"):
            file.open(offset)
    changed = reply(206, DATA[:5], {"ETag": '"two"', "Content-Range": f"bytes 0-4/{len(DATA)}"})
    hostile.on("GET", "/models/story%201.gguf", changed)
    with pytest.raises(IntegrityError, match="changed"):
        file.ranges().read_at(0, 5)


def test_a_rest_is_asked_for_only_of_the_same_file(served: str, hostile: Any, client: Client) -> None:
    look(served, client).open(4000).close()
    assert hostile.asked[-1].headers["If-Range"] == '"one"'


def test_a_rest_that_is_of_another_version_is_never_taken(
    served: str, hostile: Any, reply: Any, client: Client
) -> None:
    file = look(served, client)
    span = {"Content-Range": f"bytes 4000-{len(DATA) - 1}/{len(DATA)}"}
    for answer in (
        # If-Range makes of it all of the other version; a server that does not know it sends a part of that.
        reply(body=DATA, headers={"ETag": '"two"'}),
        reply(body=DATA),
        reply(206, DATA[4000:], {"ETag": '"two"', **span}),
    ):
        hostile.on("GET", "/models/story%201.gguf", answer)
        with pytest.raises(IntegrityError, match=r"story 1\.gguf changed at"):
            file.open(4000)
    hostile.on("GET", "/models/story%201.gguf", reply(206, DATA[4000:], span), reply(body=DATA, headers=ETAG))
    # One that tells no version with a part held to its condition; and all of the same version, by one without ranges.
    assert _all(file.open(4000)) == DATA[4000:]
    assert _all(file.open(4000)) == DATA[4000:]


def test_a_date_of_change_stands_in_for_an_etag(hostile: Any, reply: Any, client: Client) -> None:
    old = {"Last-Modified": "Tue, 14 Nov 2023 08:00:00 GMT", "ETag": 'W/"weak"'}
    hostile.on("HEAD", "/a.gguf", reply(body=DATA, headers=old))
    file = look(f"{hostile.url}/a.gguf", client)
    assert file.validator == old["Last-Modified"]
    rest = {"Content-Range": f"bytes 9-{len(DATA) - 1}/{len(DATA)}", **old}
    hostile.on("GET", "/a.gguf", reply(206, DATA[9:], rest))
    assert _all(file.open(9)) == DATA[9:]
    assert hostile.asked[-1].headers["If-Range"] == old["Last-Modified"]
    newer = {**rest, "Last-Modified": "Tue, 14 Nov 2023 08:00:01 GMT"}
    hostile.on("GET", "/a.gguf", reply(206, DATA[9:], newer))
    with pytest.raises(IntegrityError, match="changed"):
        file.open(9)


def test_a_digest_that_the_server_tells_is_known(hostile: Any, reply: Any, client: Client) -> None:
    told = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    for value, expected in (
        (f"sha-256=:{told}:", Digest.of(DATA)),
        (f"md5=:AAAA:, sha-256=:{told}:;a=b", Digest.of(DATA)),
        (f"sha-256={told}", None),
        (f"x-sha-256=:{told}:", None),
        ("sha-256=:AAAA:", None),
        ("", None),
    ):
        hostile.on("HEAD", "/a.gguf", reply(body=DATA, headers={"Repr-Digest": value}))
        assert look(f"{hostile.url}/a.gguf", client).digest == expected


def test_a_missing_file_and_a_web_page_are_named(hostile: Any, reply: Any, client: Client) -> None:
    with pytest.raises(NotFoundError, match=r"has no file `/none\.gguf`"):
        look(f"{hostile.url}/none.gguf", client)
    page = reply(body=b"<html>", headers={"Content-Type": "text/html"})
    hostile.on("HEAD", "/page", page)
    hostile.on("GET", "/page", page)
    with pytest.raises(NetworkError, match="web page"):
        look(f"{hostile.url}/page", client)


def test_plain_http_beyond_this_machine_needs_a_word(client: Client) -> None:
    with pytest.raises(PolicyError, match="plain http"):
        look("http://models.acme.test/a.gguf", client)
    with pytest.raises(NetworkError, match="not known"):
        look("http://no-such-host.invalid/a.gguf", client, insecure=True)


@pytest.fixture
def stranger(hostile: Any) -> Iterator[Callable[[], str]]:
    """Makes servers that answer like `hostile`, with certificates that nobody trusts."""
    servers: list[Quiet] = []

    def make() -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("localhost").configure_cert(context)
        server = Quiet(("127.0.0.1", 0), type("Strange", (Handler,), {"script": hostile}))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"https://localhost:{server.server_port}"

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.usefixtures("served")
def test_a_word_is_needed_for_a_strangers_certificate_and_holds_for_the_urls_own_origin_alone(
    hostile: Any, reply: Any, client: Client, stranger: Callable[[], str]
) -> None:
    asked, other = stranger(), stranger()
    for method in ("HEAD", "GET"):
        hostile.on(method, "/here.gguf", reply(307, headers={"Location": "/models/story%201.gguf"}))
        hostile.on(method, "/away.gguf", reply(307, headers={"Location": f"{other}/models/story%201.gguf"}))
    with pytest.raises(NetworkError, match="not trusted"):
        look(f"{asked}/here.gguf", client)
    file = look(f"{asked}/here.gguf", client, insecure=True)
    assert _all(file.open()) == DATA
    ranges = file.ranges()
    assert ranges.read_at(10, 5) + ranges.read_at(500, 5) == DATA[10:15] + DATA[500:505]
    assert hostile.asked[-1].path == "/models/story%201.gguf", "it is asked directly"
    with pytest.raises(NetworkError, match="not trusted"):
        look(f"{asked}/away.gguf", client, insecure=True)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b.gguf", "b.gguf"),
        ("/", "file"),
        ("/a/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("/a/%2E%2E", "file"),
        ("/a/x%5Cy.gguf", "y.gguf"),
        ("/a/%1B%5B31m.gguf", "_[31m.gguf"),
        ("/a/" + "x" * 400, "x" * 255),
    ],
)
def test_a_name_never_leads_out_of_its_folder(hostile: Any, reply: Any, client: Client, path: str, name: str) -> None:
    hostile.on("HEAD", path, reply(body=b"x"))
    assert look(f"{hostile.url}{path}", client).name == name


@pytest.mark.parametrize("url", ["http://localhost:99999/x", "http://[::1/x"])
def test_a_malformed_url_is_an_error_of_the_tree(client: Client, url: str) -> None:
    with pytest.raises(UsageError, match="no URL"):
        look(url, client)
