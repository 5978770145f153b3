"""A registry's blob received into a store through all that happens in the middle of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from lading.auth import Credential
from lading.errors import AccessDeniedError, IntegrityError
from lading.manifest import Descriptor
from lading.store import Store, stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA = random.Random(9).randbytes(3_000_000)
BLOB = Descriptor.of(DATA, "x/y")
PATH = f"/v2/chat/blobs/{BLOB.digest}"
HALF = 1_500_000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ENDURANCE", stream.Endurance(tries=3, first=0.001))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def ranged(reply: Any, *, cut: int | None = None) -> Callable[[Any], Any]:
    """Answer as a server that knows ranges; `cut` hangs up after so many bytes."""

    def answer(asked: Any) -> Any:
        start = int(asked.headers.get("Range", "bytes=0-")[6:-1])
        body = DATA[start:]
        if not start:
            return reply(body=body, cut=cut)
        said = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"}
        return reply(206, body=body, headers=said, cut=cut)

    return answer


def starts(hostile: Any) -> list[int]:
    return [int(one.headers.get("Range", "bytes=0-")[6:-1]) for one in hostile.asked if one.path == PATH]


def receive(store: Store, registry: Any, told: list[int] | None = None) -> None:
    assert store.put_blob(BLOB, registry, (told if told is not None else []).append) == ""
    assert (store.root / BLOB.digest.path).read_bytes() == DATA


@pytest.mark.parametrize("cut", [1, 4096, 700_000, 1 << 20, HALF - 1])
def test_a_connection_that_ends_early_costs_no_byte_that_came(
    store: Store, hostile: Any, reply: Any, connect: Any, cut: int
) -> None:
    hostile.on("GET", PATH, ranged(reply, cut=cut), ranged(reply, cut=cut), ranged(reply))
    receive(store, connect(hostile.host, "chat"))
    assert starts(hostile) == [0, cut, 2 * cut]


def test_a_server_that_ignores_ranges_is_read_past_what_came(
    store: Store, hostile: Any, reply: Any, connect: Any
) -> None:
    hostile.on("GET", PATH, reply(body=DATA, cut=HALF), reply(body=DATA))
    receive(store, connect(hostile.host, "chat"))
    assert starts(hostile) == [0, HALF]


def test_a_token_that_runs_out_in_mid_blob_is_renewed_and_the_bytes_are_kept(
    store: Store, hostile: Any, reply: Any, connect: Any
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{hostile.url}/token",service="s"'}
    tokens = [reply(body=b'{"token": "first"}'), reply(body=b'{"token": "second"}')]
    hostile.on("GET", "/token", *tokens)

    def guarded(asked: Any) -> Any:
        served = [one.headers.get("Authorization") for one in hostile.asked if one.path == PATH]
        good = "Bearer first" if "Range" not in asked.headers else "Bearer second"
        if served[-1] != good:
            return reply(401, headers=challenge)
        return ranged(reply, cut=HALF if good == "Bearer first" else None)(asked)

    hostile.on("GET", PATH, guarded)
    receive(store, connect(hostile.host, "chat", login=Credential("sam", "canary-password")))
    assert starts(hostile) == [0, 0, HALF, HALF]


def test_the_redirect_is_asked_for_again_in_mid_blob(store: Store, hostile: Any, reply: Any, connect: Any) -> None:
    """A signed address lives for minutes: what it refuses later is asked of the registry again."""
    hostile.on("GET", PATH, *(reply(307, headers={"Location": f"/signed/{turn}"}) for turn in "ab"))
    hostile.on("GET", "/signed/a", ranged(reply, cut=HALF), reply(403))
    hostile.on("GET", "/signed/b", ranged(reply))
    receive(store, connect(hostile.host, "chat"))
    assert [one.path for one in hostile.asked if "signed" in one.path] == ["/signed/a", "/signed/b"]


def test_failures_of_the_server_in_mid_blob_are_waited_out(
    store: Store, hostile: Any, reply: Any, connect: Any
) -> None:
    busy = [reply(503), reply(429, headers={"Retry-After": "0"}), reply(hang_up=True)]
    hostile.on("GET", PATH, ranged(reply, cut=HALF), *busy, ranged(reply))
    told: list[int] = []
    receive(store, connect(hostile.host, "chat"), told)
    assert starts(hostile) == [0, *[HALF] * 4]
    assert told == sorted(told)


@pytest.mark.parametrize("said", [f"bytes 0-{len(DATA) - 1}/{len(DATA)}", "", "bytes 5-9/10"])
def test_another_part_than_asked_for_makes_the_blob_start_once_more(
    store: Store, hostile: Any, reply: Any, connect: Any, said: str
) -> None:
    wrong = reply(206, body=DATA, headers={"Content-Range": said} if said else {})
    hostile.on("GET", PATH, ranged(reply, cut=HALF), wrong, ranged(reply))
    receive(store, connect(hostile.host, "chat"))
    assert starts(hostile) == [0, HALF, 0]


def test_a_source_that_only_sends_wrong_parts_is_given_up_after_one_restart(
    store: Store, hostile: Any, reply: Any, connect: Any
) -> None:
    cut, wrong = ranged(reply, cut=HALF), reply(206, body=DATA, headers={"Content-Range": "bytes 5-9/10"})
    hostile.on("GET", PATH, cut, wrong, cut, wrong)
    with pytest.raises(IntegrityError, match="another part"):
        store.put_blob(BLOB, connect(hostile.host, "chat"), lambda _done: None)
    assert starts(hostile) == [0, HALF, 0, HALF]


@pytest.mark.parametrize("status", [400, 416])
def test_a_server_that_will_not_go_on_in_mid_blob_is_asked_once_for_all_of_it(
    store: Store, hostile: Any, reply: Any, connect: Any, status: int
) -> None:
    hostile.on("GET", PATH, ranged(reply, cut=HALF), reply(status), reply(body=DATA))
    receive(store, connect(hostile.host, "chat"))
    assert starts(hostile) == [0, HALF, 0]
    assert "Range" not in hostile.asked[-1].headers


def test_a_refusal_in_mid_blob_is_told_and_what_came_is_kept(
    store: Store, hostile: Any, reply: Any, connect: Any
) -> None:
    hostile.on("GET", PATH, ranged(reply, cut=HALF), reply(403), ranged(reply))
    with pytest.raises(AccessDeniedError):
        store.put_blob(BLOB, connect(hostile.host, "chat"), lambda _done: None)
    receive(store, connect(hostile.host, "chat"))
    assert starts(hostile) == [0, HALF, HALF]
