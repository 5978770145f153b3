"""Request bodies: what is to be sent next is read, and hashed, while what was read is sent."""

from __future__ import annotations

import threading
from contextlib import closing
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from lading.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Generator

    from lading.content import ByteReader

BLOCK = 1024 * 1024
"""Bytes read at a time; a body that is no longer than this is read by the thread that sends it."""

_BLOCKS = 4


class Payload(Protocol):
    """A request body of known length that can be opened again for another try."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    def open(self) -> ByteReader:
        """Return its bytes from the start."""

    def progress(self, done: int, /) -> None:
        """Hear that `done` bytes of this body are sent."""


_Rooms = SimpleQueue["bytearray | None"]
_Ready = SimpleQueue["memoryview | BaseException | None"]


def blocks(payload: Payload) -> Generator[memoryview]:
    """Yield a body's bytes, each block valid until the next is asked for; close it to have the body's source closed.

    Raises IntegrityError for a source that is shorter or longer than it said, before its last block is yielded.
    """
    done = 0
    with closing(_ahead(payload) if payload.size > BLOCK else _at_once(payload)) as pieces:
        for piece in pieces:
            yield piece
            done += len(piece)
            payload.progress(done)


def _at_once(payload: Payload) -> Generator[memoryview]:
    rooms: _Rooms = SimpleQueue()
    room = bytearray(max(1, payload.size))
    rooms.put(room)
    for piece in _read(payload, rooms):
        yield piece
        rooms.put(room)


def _ahead(payload: Payload) -> Generator[memoryview]:
    rooms: _Rooms = SimpleQueue()
    ready: _Ready = SimpleQueue()
    over = threading.Event()
    for _number in range(_BLOCKS):
        rooms.put(bytearray(BLOCK))
    thread = threading.Thread(target=_work, args=(payload, rooms, ready, over), daemon=True)
    thread.start()
    try:
        while (piece := ready.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
            rooms.put(piece.obj)  # type: ignore[arg-type] # a view of one of the rooms above
    finally:
        # Whoever sends the body again opens its source anew: by then it must be closed.
        over.set()
        rooms.put(None)
        thread.join()


def _work(payload: Payload, rooms: _Rooms, ready: _Ready, over: threading.Event) -> None:
    try:
        with closing(_read(payload, rooms)) as pieces:
            for piece in pieces:
                ready.put(piece)
                if over.is_set():
                    return
        ready.put(None)
    except BaseException as failure:  # noqa: BLE001 - raised where the body is sent
        ready.put(failure)


def _read(payload: Payload, rooms: _Rooms) -> Generator[memoryview]:
    source = payload.open()
    try:
        done = 0
        while done < payload.size and (room := rooms.get()) is not None:
            window = memoryview(room)[: payload.size - done]
            count = source.readinto(window)
            if not count:
                msg = f"the source ended after {done} of {payload.size} bytes"
                raise IntegrityError(msg)
            done += count
            # Also makes a verifying source speak before the last block leaves.
            if done == payload.size and source.readinto(bytearray(1)):
                msg = f"the source is longer than {payload.size} bytes"
                raise IntegrityError(msg)
            yield window[:count]
    finally:
        source.close()
