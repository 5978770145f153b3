from __future__ import annotations

import socket

import pytest

from lading.errors import LadingError, PolicyError, UsageError
from lading.server import check_address
from lading.server.address import free_port, listener, url


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    check_address(host, ())


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org", "127.1", "::ffff:127.0.0.1", "0"]
)
def test_anywhere_else_needs_one(host: str) -> None:
    with pytest.raises(PolicyError) as caught:
        check_address(host, ())
    assert caught.value.message == "refusing to listen beyond this machine without a key"
    assert caught.value.hint == "--api-key-file FILE, or LADING_API_KEY"
    check_address(host, ("key",))


@pytest.mark.parametrize("host", ["", "127.0.0.1,0.0.0.0", "/run/x.sock", "x.sock", "127.0.0.1 ", "a\nb", "[::1]"])
def test_what_llama_cpp_would_read_as_more_than_one_address_is_refused(host: str) -> None:
    with pytest.raises(UsageError):
        check_address(host, ("key",))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:8"),
        ("0.0.0.0", "http://127.0.0.1:8"),
        ("::", "http://[::1]:8"),
        ("::1", "http://[::1]:8"),
        ("localhost", "http://localhost:8"),
    ],
)
def test_clients_here_get_an_address_that_they_can_use(host: str, expected: str) -> None:
    assert url(host, 8) == expected


def test_port_zero_becomes_a_free_one() -> None:
    port = free_port("127.0.0.1", 0)
    assert port > 0
    assert free_port("127.0.0.1", port) == port


def test_a_host_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(UsageError, match=r"192\.0\.2\.1"):
        free_port("192.0.2.1", 0)
    with pytest.raises(UsageError, match="no such host"):
        free_port("no.such.host.invalid", 0)


def test_nobody_listens_on_a_free_port() -> None:
    assert listener(free_port("127.0.0.1", 0)) == ""


def test_a_taken_port_is_refused_on_ipv6_too() -> None:
    with socket.socket(socket.AF_INET6) as holder:
        holder.bind(("::1", 0))
        holder.listen()
        with pytest.raises(LadingError, match="is taken by"):
            free_port("::1", holder.getsockname()[1])
