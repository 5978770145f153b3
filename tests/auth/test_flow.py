from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.auth.challenge import parse
from lading.auth.credentials import Credential
from lading.auth.flow import Grant, TokenAnswer, TokenRequest, authorize, check_realm, merge_scopes
from lading.errors import AccessDeniedError, FormatError, LadingError, NetworkError, PolicyError
from lading.http import Origin

if TYPE_CHECKING:
    from collections.abc import Callable

REGISTRY = Origin.of("https://registry.acme.io")
PASSWORD = Credential("sam", "canary:pass")
IDENTITY = Credential("<token>", "canary-refresh", "identity")
BEARER = 'Bearer realm="https://auth.acme.io/token",service="registry.acme.io",scope="repository:chat:pull"'
SCOPES = ("repository:chat:pull", "repository:other:pull")


def _dance(
    header: str,
    answer: Callable[[TokenRequest], TokenAnswer],
    *,
    credential: Credential | None = None,
    registry: Origin = REGISTRY,
) -> tuple[Grant, list[TokenRequest]]:
    flow = authorize(parse([header]), registry=registry, subject="`chat`", credential=credential, scopes=SCOPES)
    asked: list[TokenRequest] = []
    try:
        request = next(flow)
        while True:
            asked.append(request)
            request = flow.send(answer(request))
    except StopIteration as end:
        return end.value, asked


def _token(_request: TokenRequest) -> TokenAnswer:
    return TokenAnswer(200, b'{"token":"abc","expires_in":300}')


def test_without_a_login_an_anonymous_token_is_asked_for() -> None:
    grant, [asked] = _dance(BEARER, _token)
    assert grant == Grant("Bearer abc", 300.0)
    assert (asked.method, asked.authorization, asked.form) == ("GET", None, None)
    assert asked.url.startswith("https://auth.acme.io/token?service=registry.acme.io&")
    assert parse_qs(urlsplit(asked.url).query) == {"service": ["registry.acme.io"], "scope": list(SCOPES)}


def test_a_password_goes_to_the_token_server_as_basic() -> None:
    _grant, [asked] = _dance(BEARER, _token, credential=PASSWORD)
    assert asked.authorization == "Basic " + base64.b64encode(b"sam:canary:pass").decode()


def test_an_identity_token_is_posted() -> None:
    _grant, [asked] = _dance(BEARER, _token, credential=IDENTITY)
    assert (asked.method, asked.url, asked.authorization) == ("POST", "https://auth.acme.io/token", None)
    assert asked.form is not None
    assert parse_qs(asked.form.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["canary-refresh"],
        "service": ["registry.acme.io"],
        "client_id": ["lading"],
        "scope": [" ".join(SCOPES)],
    }


@pytest.mark.parametrize("status", [404, 405])
def test_a_token_server_without_post_is_asked_by_get(status: int) -> None:
    def answer(request: TokenRequest) -> TokenAnswer:
        return TokenAnswer(status, b"") if request.method == "POST" else _token(request)

    grant, asked = _dance(BEARER, answer, credential=IDENTITY)
    assert grant.authorization == "Bearer abc"
    assert [request.method for request in asked] == ["POST", "GET"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"access_token": "xyz"}, Grant("Bearer xyz", 60.0)),
        ({"token": "a", "access_token": "b", "expires_in": 0}, Grant("Bearer a", 60.0)),
        ({"token": "a", "expires_in": "soon"}, Grant("Bearer a", 60.0)),
        ({"token": "a", "expires_in": True}, Grant("Bearer a", 60.0)),
    ],
)
def test_a_token_lives_sixty_seconds_unless_told_otherwise(body: dict[str, object], expected: Grant) -> None:
    grant, _asked = _dance(BEARER, lambda _request: TokenAnswer(200, json.dumps(body).encode()))
    assert grant == expected


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"token":5}', b'{"token":""}', b'{"token":"a\\r\\nX: y"}', b"[" * 99_999]
)
def test_what_is_no_token_is_refused(body: bytes) -> None:
    with pytest.raises(FormatError, match=r"auth\.acme\.io"):
        _dance(BEARER, lambda _request: TokenAnswer(200, body))


def test_a_refused_login_names_the_user_and_never_the_password() -> None:
    with pytest.raises(AccessDeniedError, match=r"auth\.acme\.io refuses the login of `sam`") as caught:
        _dance(BEARER, lambda _request: TokenAnswer(401, b""), credential=PASSWORD)
    assert "canary" not in caught.value.message + caught.value.hint


def test_a_refused_anonymous_request_says_how_to_log_in() -> None:
    with pytest.raises(AccessDeniedError) as caught:
        _dance(BEARER, lambda _request: TokenAnswer(401, b""))
    assert caught.value.message == "registry.acme.io wants a login for `chat` (401, realm auth.acme.io)"
    assert caught.value.hint == "lading login registry.acme.io, or docker login: the same credentials are read"


def test_a_failing_token_server_is_a_network_error() -> None:
    with pytest.raises(NetworkError, match="503"):
        _dance(BEARER, lambda _request: TokenAnswer(503, b""))


def test_basic_is_answered_with_the_login_and_needs_one() -> None:
    grant, asked = _dance('Basic realm="x"', _token, credential=PASSWORD)
    assert asked == []
    assert grant.authorization.startswith("Basic ")
    assert grant.expires_in is None
    with pytest.raises(AccessDeniedError, match="wants a login"):
        _dance('Basic realm="x"', _token)


def test_bearer_wins_over_basic_and_a_ready_token_over_both() -> None:
    grant, asked = _dance(f'Basic realm="x", {BEARER}', _token, credential=PASSWORD)
    assert (grant.authorization, len(asked)) == ("Bearer abc", 1)
    grant, asked = _dance(BEARER, _token, credential=Credential("x", "ready", "bearer"))
    assert (grant.authorization, asked) == ("Bearer ready", [])


def test_an_unknown_way_to_log_in_is_named() -> None:
    with pytest.raises(AccessDeniedError, match="offers: negotiate"):
        _dance("Negotiate", _token, credential=PASSWORD)


@pytest.mark.parametrize("credential", [PASSWORD, IDENTITY, Credential("x", "ready", "bearer")])
def test_no_credential_goes_over_plain_http_beyond_loopback(credential: Credential) -> None:
    for header in ('Basic realm="x"', BEARER):
        with pytest.raises(PolicyError, match="plain http"):
            _dance(header, _token, credential=credential, registry=Origin.of("http://registry.acme.io"))
    grant, _asked = _dance('Basic realm="x"', _token, credential=PASSWORD, registry=Origin.of("http://localhost:5000"))
    assert grant.authorization.startswith("Basic ")


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://registry.acme.io", "https://registry.acme.io/token"),
        ("https://registry.acme.io", "https://registry.acme.io:8443/token"),
        ("https://registry.acme.io", "https://auth.acme.io/token"),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("https://registry-1.docker.io", "https://auth.docker.io/token"),
        ("https://r.acme.co.uk", "https://auth.acme.co.uk/token"),
        ("http://localhost:5000", "http://127.0.0.1:5001/token"),
        ("https://10.0.0.5", "https://10.0.0.5:5001/token"),
    ],
)
def test_a_secret_goes_to_the_registrys_own_domain(registry: str, realm: str) -> None:
    assert check_realm(realm, Origin.of(registry), secret=True) == Origin.of(realm)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://registry.acme.io", "https://evil.com/token"),
        ("https://registry.acme.io", "https://registry.acme.io.evil.com/token"),
        ("https://registry.acme.io", "https://acme.io@evil.com/token"),
        ("https://registry.acme.io", "https://evilacme.io/token"),
        ("https://registry.acme.io", "http://registry.acme.io/token"),
        ("https://registry.acme.io", "http://auth.acme.io/token"),
        ("https://registry.acme.io", "https://127.0.0.1/token"),
        ("https://registry.acme.io", "http://127.0.0.1/token"),
        ("https://registry.acme.io", "https://169.254.169.254/token"),
        ("https://registry.acme.io", "https://[::1]/token"),
        ("https://registry.acme.io", "https://0x7f.1/token"),
        ("https://registry.acme.io", "file:///etc/passwd"),
        ("https://registry.acme.io", "registry.acme.io/token"),
        ("https://a.co.uk", "https://b.co.uk/token"),
        ("https://a.github.io", "https://b.github.io/token"),
        ("https://a.azurecr.io", "https://b.azurecr.io/token"),
        ("https://10.0.0.5", "https://9.0.0.5/token"),
        ("https://registry", "https://other/token"),
        ("http://localhost:5000", "http://evil.com/token"),
        ("http://localhost:5000", "https://evil.com/token"),
    ],
)
def test_a_secret_never_goes_to_a_stranger(registry: str, realm: str) -> None:
    with pytest.raises(PolicyError) as caught:
        check_realm(realm, Origin.of(registry), secret=True)
    assert Origin.of(registry).authority in caught.value.message

    def never(_request: TokenRequest) -> TokenAnswer:
        pytest.fail("a request was sent")

    for credential in (PASSWORD, IDENTITY):
        with pytest.raises(PolicyError):
            _dance(f'Bearer realm="{realm}"', never, credential=credential, registry=Origin.of(registry))


def test_anonymous_requests_may_go_to_public_strangers_over_https_only() -> None:
    assert check_realm("https://login.example.org/t", REGISTRY, secret=False).host == "login.example.org"
    for realm in ("http://login.example.org/t", "https://127.0.0.1/t", "https://169.254.169.254/t"):
        with pytest.raises(PolicyError):
            check_realm(realm, REGISTRY, secret=False)


def test_scopes_of_one_resource_are_joined() -> None:
    assert merge_scopes("repository:a:pull", "repository:a:pull,push", "repository:b:pull", "registry:catalog:*") == (
        "repository:a:pull,push",
        "repository:b:pull",
        "registry:catalog:*",
    )


@given(st.text(max_size=100), st.binary(max_size=100), st.integers(100, 599))
def test_only_errors_of_the_tree_leave_the_dance(realm: str, body: bytes, status: int) -> None:
    header = f'Bearer realm="https://registry.acme.io/{realm}", Bearer realm="{realm}"'
    with suppress(LadingError):
        grant, _asked = _dance(header, lambda _request: TokenAnswer(status, body), credential=PASSWORD)
        assert grant.authorization.isprintable()
