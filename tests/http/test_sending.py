"""Bodies that are read while they are sent."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest

from lading.errors import IntegrityError, NetworkError
from lading.http.sending import BLOCK, blocks

LARGE = bytes(range(256)) * (6 * BLOCK // 256) + b"the rest"


class Body:
    """A payload in memory that remembers how it was used."""

    def __init__(self, data: bytes, size: int | None = None, *, step: int = BLOCK) -> None:
        self.size = len(data) if size is None else size
        self.told: list[int] = []
        self.readers: list[Reader] = []
        self._data = data
        self._step = step

    def open(self) -> Reader:
        self.readers.append(Reader(self._data, self._step))
        return self.readers[-1]

    def progress(self, done: int, /) -> None:
        self.told.append(done)


class Reader(io.BytesIO):
    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self._step = step
        self.threads: set[int] = set()
        self.fail_at: int | None = None

    def readinto(self, buffer: Any, /) -> int:
        self.threads.add(threading.get_ident())
        if self.fail_at is not None and self.tell() >= self.fail_at:
            msg = "the source broke off"
            raise NetworkError(msg)
        return super().readinto(memoryview(buffer).cast("B")[: self._step])


class Failing(Body):
    def open(self) -> Reader:
        reader = super().open()
        reader.fail_at = 2 * BLOCK
        return reader


def _send(body: Body) -> bytes:
    return b"".join(bytes(block) for block in blocks(body))


@pytest.mark.parametrize("data", [b"", b"x", b"x" * BLOCK, LARGE])
@pytest.mark.parametrize("step", [100_000, BLOCK])
def test_a_body_is_sent_whole_and_told_of_after_each_block(data: bytes, step: int) -> None:
    body = Body(data, step=step)
    assert _send(body) == data
    assert body.told == sorted(body.told)
    assert body.told[-1:] == ([len(data)] if data else [])
    assert all(reader.closed for reader in body.readers)


def test_a_large_body_is_read_beside_the_thread_that_sends_it() -> None:
    large, small = Body(LARGE), Body(b"x" * BLOCK)
    for body in (large, small):
        _send(body)
    here = threading.get_ident()
    assert here not in large.readers[0].threads
    assert small.readers[0].threads == {here}


@pytest.mark.parametrize("data", [b"abc", LARGE])
def test_a_source_of_another_length_never_gets_its_last_block_sent(data: bytes) -> None:
    for wrong, words in ((len(data) + 1, "ended after"), (len(data) - 1, "is longer")):
        body = Body(data, wrong)
        with pytest.raises(IntegrityError, match=words):
            _send(body)
        assert max(body.told, default=0) < wrong
        assert body.readers[0].closed


def test_a_failure_of_the_source_is_the_senders() -> None:
    body = Failing(LARGE)
    with pytest.raises(NetworkError, match="broke off"):
        _send(body)
    assert body.told[-1] == 2 * BLOCK
    assert body.readers[0].closed


def test_a_sender_that_stops_leaves_no_thread_and_no_open_source() -> None:
    before = threading.active_count()
    body = Body(LARGE)
    stream = blocks(body)
    next(stream)
    stream.close()
    assert threading.active_count() == before
    assert body.readers[0].closed
    # Not all of the body was read for nothing.
    assert body.readers[0].threads
    assert body.told == []


def test_no_more_is_read_ahead_than_a_few_blocks() -> None:
    body = Body(LARGE * 3)
    stream = blocks(body)
    next(stream)
    reader = body.readers[0]
    for _wait in range(100):
        if reader.tell() >= 4 * BLOCK:
            break
        threading.Event().wait(0.01)
    threading.Event().wait(0.05)
    assert reader.tell() == 4 * BLOCK
    stream.close()
