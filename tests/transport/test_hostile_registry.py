"""Against a registry that lies, breaks off, or is no registry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from lading import media
from lading.auth import Credential
from lading.digest import Digest
from lading.errors import (
    AccessDeniedError,
    FormatError,
    IntegrityError,
    LadingError,
    NetworkError,
    NotFoundError,
    PolicyError,
    UsageError,
)
from lading.manifest import MAX_DOCUMENT, Descriptor, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.transport.registry import Registry

DATA = bytes(index % 251 for index in range(10_000))
BLOB = Descriptor.of(DATA, "x/y")
MANIFEST = Manifest.build(Descriptor.of(b"{}", media.OCI_EMPTY), (BLOB,), artifact_type="x/y")
MANIFESTS, BLOBS, UPLOADS = "/v2/chat/manifests/1", f"/v2/chat/blobs/{BLOB.digest}", "/v2/chat/blobs/uploads/"
LOGIN = Credential("sam", "canary-password")


@pytest.fixture
def chat(hostile: Any, connect: Any) -> Registry:
    registry: Registry = connect(hostile.host, "chat")
    return registry


def _read(registry: Registry, offset: int = 0) -> bytes:
    reader = registry.open(BLOB, offset)
    try:
        return b"".join(iter(lambda: reader.read(3000) or b"", b""))
    finally:
        reader.close()


def _ignore(_done: int) -> None:
    pass


def test_all_manifest_types_are_asked_for(hostile: Any, reply: Any, chat: Registry) -> None:
    hostile.on("GET", MANIFESTS, reply(body=MANIFEST.raw, headers={"Content-Type": media.OCI_MANIFEST}))
    assert chat.document("1") == MANIFEST
    assert hostile.asked[-1].headers["Accept"] == ", ".join(media.MANIFEST_TYPES)


@pytest.mark.parametrize(
    "said", [str(Digest.of(b"other")), str(Digest.of(b"other", "sha512")), "sha256:short", "sha256:"]
)
def test_a_lying_digest_header_is_refused_and_both_are_named(
    hostile: Any, reply: Any, chat: Registry, said: str
) -> None:
    hostile.on("GET", MANIFESTS, reply(body=MANIFEST.raw, headers={"Docker-Content-Digest": said}))
    with pytest.raises(IntegrityError) as caught:
        chat.document("1")
    assert said in caught.value.message
    assert Digest.of(MANIFEST.raw, said.partition(":")[0]) in caught.value.message


def test_another_manifest_than_the_digest_asked_for_is_refused(hostile: Any, reply: Any, chat: Registry) -> None:
    wanted = Digest.of(b"wanted")
    hostile.on(
        "GET", f"/v2/chat/manifests/{wanted}", reply(body=MANIFEST.raw, headers={"Docker-Content-Digest": wanted})
    )
    with pytest.raises(IntegrityError, match=MANIFEST.digest):
        chat.document(wanted)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_endless_manifest_is_not_read(hostile: Any, reply: Any, chat: Registry, *, chunked: bool) -> None:
    hostile.on("GET", MANIFESTS, reply(body=b" " * (MAX_DOCUMENT + 1), chunked=chunked))
    with pytest.raises(FormatError, match=str(MAX_DOCUMENT)):
        chat.document("1")


@pytest.mark.parametrize("name", ["a b", "../x", "", "a/b", "x" * 129, "ü"])
def test_what_is_no_tag_is_never_asked_for(hostile: Any, chat: Registry, name: str) -> None:
    with pytest.raises(UsageError):
        chat.document(name)
    with pytest.raises(FormatError):
        chat.document("sha256:../../etc/passwd")
    assert hostile.asked == []


def test_a_portal_is_named_and_not_parsed(hostile: Any, reply: Any, chat: Registry) -> None:
    page = reply(body=b"<html>Please log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    for path in (MANIFESTS, BLOBS, "/v2/chat/tags/list", "/v2/"):
        hostile.on("GET", path, page)
    calls: list[Callable[[], object]] = [
        lambda: chat.document("1"),
        lambda: chat.open(BLOB),
        chat.tags,
        chat.check_login,
    ]
    for call in calls:
        with pytest.raises(NetworkError, match="web page") as caught:
            call()
        assert "portal" in caught.value.hint


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": 5}', b'{"tags": [5]}', b"\xff", b"[" * 100_000])
def test_a_broken_listing_is_an_error_of_the_tree(hostile: Any, reply: Any, chat: Registry, body: bytes) -> None:
    hostile.on("GET", "/v2/chat/tags/list", reply(body=body))
    with pytest.raises(FormatError, match="no list of tags"):
        chat.tags()


def test_a_listing_is_followed_over_its_pages_and_what_is_no_tag_left_out(
    hostile: Any, reply: Any, chat: Registry
) -> None:
    link = {"Link": '</v2/chat/tags/list?n=2&last=b>; rel="next"'}
    pages = (reply(body=b'{"name":"chat","tags":["a","b\\u001b[31m"]}', headers=link), reply(body=b'{"tags":["c"]}'))
    hostile.on("GET", "/v2/chat/tags/list", *pages)
    assert chat.tags() == ["a", "c"]
    assert hostile.asked[-1].target == "/v2/chat/tags/list?n=2&last=b"
    hostile.on("GET", "/v2/chat/tags/list", reply(body=b'{"name":"chat","tags":null}'))
    assert chat.tags() == []


def test_a_listing_without_end_is_given_up(hostile: Any, reply: Any, chat: Registry) -> None:
    link = {"Link": '<list?n=1>; rel="next"'}
    hostile.on("GET", "/v2/chat/tags/list", reply(body=b'{"tags":["a"]}', headers=link))
    with pytest.raises(NetworkError, match="without end"):
        chat.tags()


def test_no_page_is_fetched_from_another_host(hostile: Any, canary: Any, reply: Any, connect: Any) -> None:
    hostile.on(
        "GET",
        "/v2/chat/tags/list",
        reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'}),
        reply(body=b'{"tags":["a"]}', headers={"Link": f'<{canary.url}/v2/x>; rel="next"'}),
    )
    with pytest.raises(PolicyError, match=re.escape(canary.host)):
        connect(hostile.host, "chat", login=LOGIN).tags()
    assert "Authorization" in hostile.asked[-1].headers
    assert canary.asked == []


@pytest.mark.parametrize("cut", [0, 1, 9_999])
def test_a_truncated_blob_is_never_accepted(hostile: Any, reply: Any, chat: Registry, cut: int) -> None:
    hostile.on("GET", BLOBS, reply(body=DATA, length=len(DATA), cut=cut))
    with pytest.raises(NetworkError, match="broke off"):
        _read(chat)


@pytest.mark.parametrize("body", [DATA[:-1], DATA + b"x", b"", DATA[:-1] + b"?"])
@pytest.mark.parametrize("chunked", [False, True])
def test_another_blob_than_promised_is_never_accepted(
    hostile: Any, reply: Any, chat: Registry, body: bytes, *, chunked: bool
) -> None:
    hostile.on("GET", BLOBS, reply(body=body, chunked=chunked))
    with pytest.raises(IntegrityError):
        _read(chat)


def test_an_encoded_blob_is_refused(hostile: Any, reply: Any, chat: Registry) -> None:
    hostile.on("GET", BLOBS, reply(body=DATA, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(IntegrityError, match="encoded"):
        _read(chat)


def test_a_blob_is_followed_to_storage_without_the_login(hostile: Any, canary: Any, reply: Any, connect: Any) -> None:
    challenge = reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    hostile.on("GET", BLOBS, challenge, reply(307, headers={"Location": f"{canary.url}/signed"}))
    canary.on("GET", "/signed", reply(body=DATA))
    assert _read(connect(hostile.host, "chat", login=LOGIN)) == DATA
    assert hostile.asked[-1].headers["Authorization"].startswith("Basic ")
    assert "Authorization" not in canary.asked[0].headers


def test_storage_that_refuses_is_not_given_the_login(hostile: Any, canary: Any, reply: Any, connect: Any) -> None:
    challenge = reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    hostile.on("GET", BLOBS, reply(307, headers={"Location": f"{canary.url}/signed"}))
    canary.on("GET", "/signed", challenge)
    with pytest.raises(AccessDeniedError):
        _read(connect(hostile.host, "chat", login=LOGIN))
    assert all("Authorization" not in asked.headers for asked in canary.asked)
    assert len(canary.asked) == 1


def test_a_challenge_from_where_the_api_redirects_to_is_not_answered(
    hostile: Any, canary: Any, reply: Any, connect: Any
) -> None:
    hostile.on("GET", "/v2/", reply(302, headers={"Location": f"{canary.url}/v2/"}))
    canary.on("GET", "/v2/", reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'}))
    with pytest.raises(AccessDeniedError):
        connect(hostile.host, "chat", login=LOGIN).check_login()
    assert all("Authorization" not in asked.headers for asked in (*hostile.asked, *canary.asked))


def test_a_challenge_within_the_origin_is_answered_after_a_redirect(hostile: Any, reply: Any, connect: Any) -> None:
    hostile.on("GET", MANIFESTS, reply(301, headers={"Location": "/v2/new/manifests/1"}))
    challenge = reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    hostile.on("GET", "/v2/new/manifests/1", challenge, reply(body=MANIFEST.raw))
    assert connect(hostile.host, "chat", login=LOGIN).document("1") == MANIFEST


def test_a_rest_is_asked_for_by_range(hostile: Any, reply: Any, chat: Registry) -> None:
    rest = reply(206, DATA[4000:], {"Content-Range": f"bytes 4000-{len(DATA) - 1}/{len(DATA)}"})
    hostile.on("GET", BLOBS, rest)
    assert _read(chat, 4000) == DATA[4000:]
    assert hostile.asked[-1].headers["Range"] == "bytes=4000-"


def test_where_ranges_are_ignored_what_is_there_already_is_read_past(hostile: Any, reply: Any, chat: Registry) -> None:
    hostile.on("GET", BLOBS, reply(body=DATA))
    assert _read(chat, 4000) == DATA[4000:]


@pytest.mark.parametrize("said", ["bytes 0-9999/10000", "bytes 4000-9998/10000", "bytes 4000-9999/9999", ""])
def test_another_rest_than_asked_for_is_refused(hostile: Any, reply: Any, chat: Registry, said: str) -> None:
    hostile.on("GET", BLOBS, reply(206, DATA[4000:], {"Content-Range": said}))
    with pytest.raises(IntegrityError):
        _read(chat, 4000)


@pytest.mark.parametrize(
    "realm", ["https://evil.test/token", "http://evil.test/token", "https://169.254.169.254/", "file:///etc/passwd"]
)
def test_a_login_never_goes_to_a_strangers_realm(hostile: Any, reply: Any, connect: Any, realm: str) -> None:
    hostile.on("GET", MANIFESTS, reply(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}))
    with pytest.raises(PolicyError) as caught:
        connect(hostile.host, "chat", login=LOGIN).document("1")
    assert hostile.host in caught.value.message
    assert "canary" not in caught.value.message + caught.value.hint


def test_a_wider_scope_than_the_repositorys_is_not_fetched(hostile: Any, reply: Any, connect: Any) -> None:
    scope = "repository:chat:pull,push repository:other:delete registry:catalog:*"
    challenge = f'Bearer realm="{hostile.url}/token",service="x",scope="{scope}"'
    hostile.on("GET", MANIFESTS, reply(401, headers={"WWW-Authenticate": challenge}), reply(body=MANIFEST.raw))
    hostile.on("GET", "/token", reply(body=b'{"token":"t"}'))
    assert connect(hostile.host, "chat", login=LOGIN).document("1") == MANIFEST
    [token] = [asked.target for asked in hostile.asked if asked.path == "/token"]
    assert token == "/token?service=x&scope=repository:chat:pull,push"


def test_a_redirect_of_the_token_server_does_not_carry_the_password_on(
    hostile: Any, canary: Any, reply: Any, connect: Any
) -> None:
    challenge = f'Bearer realm="{hostile.url}/token",service="x"'
    hostile.on("GET", MANIFESTS, reply(401, headers={"WWW-Authenticate": challenge}))
    hostile.on("GET", "/token", reply(302, headers={"Location": f"{canary.url}/token"}))
    canary.on("GET", "/token", reply(401))
    with pytest.raises(AccessDeniedError):
        connect(hostile.host, "chat", login=LOGIN).document("1")
    assert "Authorization" not in canary.asked[0].headers
    identity = Credential("<token>", "canary-refresh", "identity")
    hostile.on("POST", "/token", reply(307, headers={"Location": f"{canary.url}/token"}))
    with pytest.raises(PolicyError):
        connect(hostile.host, "chat", login=identity).document("1")
    assert all(b"canary-refresh" not in asked.body for asked in canary.asked)


def test_no_upload_goes_to_another_host(hostile: Any, canary: Any, reply: Any, chat: Registry, memory: Any) -> None:
    hostile.on("POST", UPLOADS, reply(202, headers={"Location": f"{canary.url}/take"}))
    with pytest.raises(PolicyError, match=re.escape(canary.host)):
        chat.put_blob(BLOB, memory(DATA), _ignore)
    assert canary.asked == []


def test_the_digest_joins_a_location_that_has_a_query(hostile: Any, reply: Any, chat: Registry, memory: Any) -> None:
    hostile.on("POST", UPLOADS, reply(202, headers={"Location": "/up?state=a%2Fb&x=1"}))
    hostile.on("PUT", "/up", reply(201, headers={"Docker-Content-Digest": BLOB.digest}))
    assert chat.put_blob(BLOB, memory(DATA), _ignore) == ""
    put = hostile.asked[-1]
    assert put.target == f"/up?state=a%2Fb&x=1&digest={BLOB.digest.replace(':', '%3A')}"
    assert put.body == DATA
    assert put.headers["Content-Length"] == str(len(DATA))


def test_a_registry_that_stored_another_digest_is_named(hostile: Any, reply: Any, chat: Registry, memory: Any) -> None:
    hostile.on("POST", UPLOADS, reply(202, headers={"Location": "/up"}))
    hostile.on("PUT", "/up", reply(201, headers={"Docker-Content-Digest": Digest.of(b"other")}))
    with pytest.raises(IntegrityError, match=BLOB.digest):
        chat.put_blob(BLOB, memory(DATA), _ignore)
    hostile.on("PUT", MANIFESTS, reply(201, headers={"Docker-Content-Digest": Digest.of(b"other")}))
    with pytest.raises(IntegrityError, match=MANIFEST.digest):
        chat.put_document(MANIFEST, "1")


def _session(reply: Any, status: int, url: str, reached: int | None = None) -> Any:
    headers = {"Location": url, **({} if reached is None else {"Range": f"0-{reached - 1}"})}
    return reply(status, headers=headers)


def test_a_chunk_that_got_lost_half_way_is_resumed(
    hostile: Any, reply: Any, connect: Any, memory: Any, naps: list[float]
) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up/0"))
    hostile.on("PATCH", "/up/0", _session(reply, 202, "/up/1", 4000))
    hostile.on("PATCH", "/up/1", reply(hang_up=True))
    hostile.on("GET", "/up/1", _session(reply, 204, "/up/2", 5000))
    hostile.on("PATCH", "/up/2", _session(reply, 202, "/up/3", 9000))
    hostile.on("PATCH", "/up/3", _session(reply, 202, "/up/4", 10_000))
    hostile.on("PUT", "/up/4", reply(201))
    source = memory(DATA)
    connect(hostile.host, "chat", chunk_size=4000).put_blob(BLOB, source, _ignore)
    assert source.opened == [0, 5000]
    sent = [(asked.headers["Content-Range"], len(asked.body)) for asked in hostile.asked if asked.method == "PATCH"]
    assert sent == [("0-3999", 4000), ("4000-7999", 4000), ("5000-8999", 4000), ("9000-9999", 1000)]
    assert len(naps) == 1


def test_a_registry_that_took_less_than_a_chunk_gets_the_rest(
    hostile: Any, reply: Any, connect: Any, memory: Any
) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PATCH", "/up", _session(reply, 202, "/up", 3000), _session(reply, 202, "/up", 10_000))
    hostile.on("PUT", "/up", reply(201))
    connect(hostile.host, "chat", chunk_size=20_000).put_blob(BLOB, memory(DATA), _ignore)
    first, second = [asked for asked in hostile.asked if asked.method == "PATCH"]
    assert first.body == DATA
    assert second.body == DATA[3000:]
    assert second.headers["Content-Range"] == "3000-9999"


def test_a_range_that_does_not_fit_is_asked_about(hostile: Any, reply: Any, connect: Any, memory: Any) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PATCH", "/up", reply(416), _session(reply, 202, "/up", 10_000))
    hostile.on("GET", "/up", _session(reply, 204, "/up", 2000))
    hostile.on("PUT", "/up", reply(201))
    connect(hostile.host, "chat", chunk_size=20_000).put_blob(BLOB, memory(DATA), _ignore)
    assert [asked.headers["Content-Range"] for asked in hostile.asked if asked.method == "PATCH"] == [
        "0-9999",
        "2000-9999",
    ]


def test_a_registry_that_claims_more_than_there_is_is_not_believed(
    hostile: Any, reply: Any, connect: Any, memory: Any
) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PATCH", "/up", _session(reply, 202, "/up", 10_001))
    with pytest.raises(IntegrityError, match="claims"):
        connect(hostile.host, "chat", chunk_size=20_000).put_blob(BLOB, memory(DATA), _ignore)


def test_the_least_chunk_that_a_registry_names_is_kept(hostile: Any, reply: Any, connect: Any, memory: Any) -> None:
    hostile.on("POST", UPLOADS, reply(202, headers={"Location": "/up", "OCI-Chunk-Min-Length": "6000"}))
    hostile.on("PATCH", "/up", _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", reply(201))
    connect(hostile.host, "chat", chunk_size=1000).put_blob(BLOB, memory(DATA), _ignore)
    assert [len(asked.body) for asked in hostile.asked if asked.method == "PATCH"] == [6000, 4000]


def test_a_blob_too_large_for_one_request_goes_in_ever_smaller_chunks(
    hostile: Any, reply: Any, chat: Registry, memory: Any
) -> None:
    data = bytes(9 * 1024 * 1024)
    blob = Descriptor.of(data, "x/y")
    limit = 2 * 1024 * 1024

    def take(asked: Any) -> Any:
        return reply(413) if len(asked.body) > limit else _session(reply, 202, "/up")

    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", lambda asked: reply(413) if len(asked.body) > limit else reply(201))
    hostile.on("PATCH", "/up", take)
    chat.put_blob(blob, memory(data), _ignore)
    sizes = [len(asked.body) // 1024 // 1024 for asked in hostile.asked if asked.method in ("PUT", "PATCH")]
    assert sizes == [9, 8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]


def test_a_blob_that_is_always_too_large_is_named(hostile: Any, reply: Any, chat: Registry, memory: Any) -> None:
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", reply(413))
    with pytest.raises(LadingError, match="too large") as caught:
        chat.put_blob(BLOB, memory(DATA), _ignore)
    assert caught.value.exit_code == 1


def test_a_registry_that_knows_no_head_is_pushed_to(hostile: Any, reply: Any, chat: Registry, memory: Any) -> None:
    hostile.on("HEAD", BLOBS, reply(405))
    hostile.on("POST", UPLOADS, _session(reply, 202, "/up"))
    hostile.on("PUT", "/up", reply(201))
    assert chat.has(BLOB) is False
    assert chat.put_blob(BLOB, memory(DATA), _ignore) == ""
    assert [asked.method for asked in hostile.asked[-3:]] == ["HEAD", "POST", "PUT"]


def test_a_blob_of_another_size_is_not_the_blob(hostile: Any, reply: Any, chat: Registry) -> None:
    hostile.on("HEAD", BLOBS, reply(body=DATA[:-1]))
    assert chat.has(BLOB) is False


@pytest.mark.parametrize("location", [None, "http://[broken", "ftp://x/y"])
def test_an_upload_without_a_usable_place_is_an_error_of_the_tree(
    hostile: Any, reply: Any, chat: Registry, memory: Any, location: str | None
) -> None:
    hostile.on("POST", UPLOADS, reply(202, headers={"Location": location} if location else {}))
    with pytest.raises((NetworkError, PolicyError)):
        chat.put_blob(BLOB, memory(DATA), _ignore)


def test_docker_hub_is_reached_by_its_real_name(connect: Any) -> None:
    assert str(connect("docker.io", "library/x")._origin) == "https://registry-1.docker.io"


def test_other_hosts_are_never_tried_with_plain_http(connect: Any) -> None:
    assert str(connect("registry.acme.io:5000", "x")._origin) == "https://registry.acme.io:5000"


def test_a_missing_repository_without_a_listing_still_names_the_tag(hostile: Any, reply: Any, chat: Registry) -> None:
    hostile.on("GET", "/v2/chat/tags/list", reply(403))
    with pytest.raises(NotFoundError, match=r"has no tag `1` for `chat`$"):
        chat.document("1")
    with pytest.raises(NotFoundError):
        chat.resolve("1")


@pytest.mark.parametrize("said", [None, "junk", MANIFEST.digest])
def test_a_claimed_digest_is_read_where_it_is_one(hostile: Any, reply: Any, chat: Registry, said: str | None) -> None:
    hostile.on("HEAD", MANIFESTS, reply(headers={"Docker-Content-Digest": said} if said else {}))
    assert chat.resolve("1") == (MANIFEST.digest if said == MANIFEST.digest else None)
