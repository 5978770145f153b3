from __future__ import annotations

import threading

import pytest

from lading.errors import StoppedError
from lading.store.connections import Connections


def nothing() -> None:
    pass


def test_there_are_no_more_than_the_most() -> None:
    connections = Connections(3)
    with connections.one(nothing):
        assert connections.borrow()
        assert connections.borrow()
        assert not connections.borrow()
        connections.give_back()
        assert connections.borrow()
    assert connections.borrow()


def test_a_blob_that_waits_for_its_first_connection_comes_before_those_who_want_more() -> None:
    connections = Connections(1)
    assert connections.borrow()
    waiting, begun = threading.Event(), threading.Event()

    def blob() -> None:
        with connections.one(waiting.set):
            begun.set()

    thread = threading.Thread(target=blob)
    thread.start()
    assert waiting.wait(10)
    assert connections.wanted
    assert not connections.borrow()
    connections.give_back()
    assert begun.wait(10)
    thread.join()
    assert not connections.wanted
    assert connections.borrow()


def test_who_waits_may_give_up_and_waits_no_more() -> None:
    connections = Connections(1)
    assert connections.borrow()

    def stop() -> None:
        message = "enough"
        raise StoppedError(message)

    with pytest.raises(StoppedError), connections.one(stop):
        pytest.fail("there was none to be had")
    connections.give_back()
    assert connections.borrow()
