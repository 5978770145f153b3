from __future__ import annotations

import pytest

from lading.errors import LadingError, PolicyError, UsageError
from lading.http.origin import Origin, is_internal, is_loopback, next_hop


def test_an_origin_knows_its_default_port_and_drops_case() -> None:
    assert Origin.of("https://Registry.Acme.IO/v2/") == Origin("https", "registry.acme.io", 443)
    assert Origin.of("https://registry.acme.io:443/").authority == "registry.acme.io"
    assert Origin.of("http://[::1]:5000/").authority == "[::1]:5000"


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "file:///etc/passwd", "//host/x", "https://", "http://h:99999/", "javascript:1"]
)
def test_other_schemes_have_no_origin(url: str) -> None:
    with pytest.raises(UsageError):
        Origin.of(url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:80", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("::1", True),
        ("localhost.evil.com", False),
        ("127.0.0.1.nip.io", False),
        ("0x7f.1", False),
        ("10.0.0.1", False),
        ("registry.acme.io:5000", False),
    ],
)
def test_loopback_is_granted_to_plain_spellings_only(host: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "fe80::1",
        "localhost",
        "a.localhost",
    ],
)
def test_internal_addresses_are_seen_in_every_spelling(host: str) -> None:
    assert is_internal(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "10.0.0.1", "registry.acme.io", "2001:4860::1", "face.be"])
def test_other_addresses_are_not_internal(host: str) -> None:
    assert not is_internal(host)


def test_a_relative_location_stays_with_its_origin() -> None:
    assert next_hop("GET", 307, "https://a.io/v2/x", "../blob?y=1&z=%2F") == "https://a.io/blob?y=1&z=%2F"


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://a.io/x", "http://a.io/x"),
        ("https://a.io/x", "http://b.io/x"),
        ("https://a.io/x", "file:///etc/passwd"),
        ("https://a.io/x", "ftp://a.io/x"),
        ("https://a.io/x", "https://user:secret@a.io/x"),
        ("https://a.io/x", "https://127.0.0.1/x"),
        ("https://a.io/x", "https://169.254.169.254/latest/meta-data"),
        ("https://a.io/x", "https://0x7f.1/x"),
        ("https://a.io/x", "https://[::1]/x"),
        ("https://a.io/x", "//[broken"),
    ],
)
def test_a_redirect_down_or_inwards_is_refused(url: str, location: str) -> None:
    with pytest.raises(PolicyError):
        next_hop("GET", 302, url, location)


@pytest.mark.parametrize(
    ("method", "status", "location"), [("PUT", 307, "https://b.io/"), ("POST", 302, "/y"), ("PATCH", 303, "/y")]
)
def test_an_upload_follows_no_redirect_elsewhere_or_one_that_changes_the_method(
    method: str, status: int, location: str
) -> None:
    with pytest.raises(PolicyError):
        next_hop(method, status, "https://a.io/x", location)
    assert next_hop("PUT", 307, "https://a.io/x", "/y") == "https://a.io/y"


@pytest.mark.parametrize("location", ["", "\x00", "https://a.io/\r\nX: y", "/\u2603", "?", "#", "http:", "///"])
def test_odd_locations_never_smuggle_control_characters(location: str) -> None:
    try:
        target = next_hop("GET", 302, "https://a.io/x", location)
    except LadingError:
        return
    assert target.isascii()
    assert target.isprintable()
