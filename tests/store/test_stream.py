from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from sources import Memory, descriptor, ignore

from lading.digest import Verifier, VerifyingReader
from lading.errors import AccessDeniedError, IntegrityError, LadingError, NetworkError, StoppedError
from lading.pace import Pace, Paced
from lading.store import stream

if TYPE_CHECKING:
    from lading.content import ByteReader
    from lading.manifest import Descriptor
    from lading.store import Store

    from .conftest import CheckStore

DATA = random.Random(3).randbytes(6_000_000)


class Breaks(Memory):
    """A source whose streams break off after so many bytes each; `troubles` are raised by openings, in order."""

    def __init__(self, data: bytes, *, each: int) -> None:
        super().__init__(data)
        self.each = each
        self.troubles: list[LadingError | None] = []

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        if self.troubles and (trouble := self.troubles.pop(0)):
            raise trouble
        inner: Any = super().open(blob, offset)
        left = self.each

        def readinto(buffer: Any) -> int:
            nonlocal left
            if not left:
                message = "the line broke"
                raise NetworkError(message)
            count: int = type(inner).readinto(inner, memoryview(buffer)[:left])
            left -= count
            return count

        inner.readinto = readinto
        return inner  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ENDURANCE", stream.Endurance(tries=4, first=0.001))


@pytest.mark.parametrize("each", [1_000_000, 4096, 999_999, 5_999_999])
def test_a_stream_that_breaks_again_and_again_is_taken_up_where_it_broke(
    store: Store, check_store: CheckStore, each: int
) -> None:
    data = DATA if each > 4096 else DATA[:200_000]
    source = Breaks(data, each=each)
    told: list[int] = []
    assert store.put_blob(descriptor(data), source, told.append) == ""
    assert [offset for _digest, offset in source.opened] == list(range(0, len(data), each))
    assert told == sorted(told)
    assert check_store(store.root, idle=True) == {descriptor(data).digest}


def test_openings_that_fail_in_mid_blob_are_repeated_until_one_succeeds(store: Store) -> None:
    source = Breaks(DATA, each=3_000_000)
    source.troubles = [None, *[NetworkError("down")] * 3]
    store.put_blob(descriptor(DATA), source, ignore)
    assert [offset for _digest, offset in source.opened] == [0, 3_000_000]


def test_what_brings_nothing_new_is_given_up_and_what_came_is_kept(store: Store) -> None:
    source = Breaks(DATA, each=3_000_000)
    source.troubles = [None, *[NetworkError("down")] * 9]
    with pytest.raises(NetworkError, match="down"):
        store.put_blob(descriptor(DATA), source, ignore)
    assert len(source.troubles) == 5
    source.troubles = []
    store.put_blob(descriptor(DATA), source, ignore)
    assert source.opened[-1][1] == 3_000_000


@pytest.mark.parametrize("error", [NetworkError("down"), AccessDeniedError("no")])
def test_the_first_openings_failure_is_told_at_once(store: Store, error: LadingError) -> None:
    source = Breaks(DATA, each=3_000_000)
    source.troubles = [error, None]
    with pytest.raises(LadingError) as raised:
        store.put_blob(descriptor(DATA), source, ignore)
    assert raised.value is error
    assert len(source.troubles) == 1


def test_an_access_that_ends_in_mid_blob_is_told_and_what_came_is_kept(store: Store) -> None:
    source = Breaks(DATA, each=3_000_000)
    source.troubles = [None, AccessDeniedError("no more")]
    with pytest.raises(AccessDeniedError):
        store.put_blob(descriptor(DATA), source, ignore)
    store.put_blob(descriptor(DATA), source, ignore)
    assert source.opened[-1][1] == 3_000_000


REFUSALS = [LadingError("refused (400)"), IntegrityError("416"), IntegrityError("another part than was asked for")]


@pytest.mark.parametrize("error", REFUSALS)
def test_a_source_that_does_not_go_on_in_mid_blob_is_asked_once_for_all_of_it(
    store: Store, check_store: CheckStore, error: LadingError
) -> None:
    source = Breaks(DATA, each=3_000_000)
    source.troubles = [None, error]
    source.before_read = lambda _digest, _offset: setattr(source, "each", len(DATA) + 1)
    store.put_blob(descriptor(DATA), source, ignore)
    assert [offset for _digest, offset in source.opened] == [0, 0]
    assert check_store(store.root, idle=True) == {descriptor(DATA).digest}


@pytest.mark.parametrize("error", REFUSALS)
def test_a_source_that_refuses_again_and_again_is_given_up_after_one_restart(store: Store, error: LadingError) -> None:
    source = Breaks(DATA, each=3_000_000)
    source.troubles = [None, error, None, error, None]
    with pytest.raises(IntegrityError):
        store.put_blob(descriptor(DATA), source, ignore)
    assert source.troubles == [None]


@pytest.mark.parametrize("error", [LadingError("gone (410)"), NetworkError("down"), AccessDeniedError("no")])
def test_what_is_here_stays_where_a_source_neither_goes_on_nor_begins_anew(store: Store, error: LadingError) -> None:
    source = Breaks(DATA, each=3_000_000)
    source.troubles = [None, LadingError("gone (410)"), error]
    with pytest.raises(LadingError) as raised:
        store.put_blob(descriptor(DATA), source, ignore)
    assert raised.value is error
    source.troubles = []
    store.put_blob(descriptor(DATA), source, ignore)
    assert source.opened[-1][1] == 3_000_000


def test_who_waits_between_tries_may_give_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ENDURANCE", stream.Endurance(first=1000, longest=1000))
    told: list[int] = []

    def stop(done: int) -> None:
        told.append(done)
        if told.count(3_000_000) > 2:
            message = "enough"
            raise StoppedError(message)

    with pytest.raises(StoppedError):
        store.put_blob(descriptor(DATA), Breaks(DATA, each=3_000_000), stop)


def test_pieces_that_do_not_fit_together_are_dropped_and_the_blob_is_read_once_more(
    store: Store, check_store: CheckStore
) -> None:
    class Wrong(Breaks):
        def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
            self.bodies[blob.digest] = bytes(len(DATA)) if offset else DATA
            self.each = 3_000_000 if len(self.opened) == 0 else len(DATA) + 1
            return super().open(blob, offset)

    source = Wrong(DATA, each=0)
    store.put_blob(descriptor(DATA), source, ignore)
    assert [offset for _digest, offset in source.opened] == [0, 3_000_000, 0]
    assert check_store(store.root, idle=True) == {descriptor(DATA).digest}


def test_a_source_that_is_wrong_in_pieces_and_whole_is_given_up_after_one_restart(
    store: Store, check_store: CheckStore
) -> None:
    source = Breaks(DATA, each=3_000_000)
    source.bodies[str(descriptor(DATA).digest)] = bytes(len(DATA))
    with pytest.raises(IntegrityError):
        store.put_blob(descriptor(DATA), source, ignore)
    assert [offset for _digest, offset in source.opened] == [0, 3_000_000, 0, 3_000_000]
    assert check_store(store.root, idle=True) == set()


class Clock:
    """A clock that goes on by itself at each look; its sleepers sleep not."""

    def __init__(self, step: float) -> None:
        self._now = 0.0
        self._step = step

    def monotonic(self) -> float:
        self._now += self._step
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.mark.parametrize(("size", "fine"), [(200, False), (200_000, True)])
def test_a_stream_that_trickles_is_opened_anew_and_given_up_at_last(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    fine: bool,  # noqa: FBT001 - what is expected
) -> None:
    monkeypatch.setattr(stream, "time", Clock(10.0))

    class Trickle(Memory):
        def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
            inner: Any = super().open(blob, offset)
            inner.readinto = lambda buffer: type(inner).readinto(inner, memoryview(buffer)[:size])
            return inner  # type: ignore[no-any-return]

    source = Trickle(DATA)
    if fine:
        store.put_blob(descriptor(DATA), source, ignore)
        assert len(source.opened) == 1
        return
    with pytest.raises(NetworkError, match="too slowly"):
        store.put_blob(descriptor(DATA), source, ignore)
    assert len(source.opened) == stream.ENDURANCE.slow


def test_a_stream_that_breaks_after_every_few_bytes_is_given_up_like_one_that_trickles(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "time", Clock(1.0))
    data = DATA[:20_000]
    source = Breaks(data, each=10)
    with pytest.raises(NetworkError, match="too slowly"):
        store.put_blob(descriptor(data), source, ignore)
    assert len(source.opened) < 100
    assert store.received(descriptor(data)) > 0


def test_what_comes_slowly_because_it_is_to_is_not_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    endurance = stream.Endurance(window=0.05, least=20_000, slow=2)
    monkeypatch.setattr(stream, "ENDURANCE", endurance)
    data = DATA[:60_000]
    source = Memory(data)
    begun = time.monotonic()
    store.put_blob(descriptor(data), Paced(source, Pace(100_000)), ignore)
    assert time.monotonic() - begun >= 0.5
    assert len(source.opened) == 1


def test_what_comes_at_a_pace_is_hashed_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    update = Verifier.update

    def watched(self: Verifier, data: memoryview) -> None:
        seen.append(len(data))
        update(self, data)

    monkeypatch.setattr(Verifier, "update", watched)

    class Verified(Memory):
        def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
            return VerifyingReader(super().open(blob, offset), "it", size=blob.size, digest=blob.digest)

    store.put_blob(descriptor(DATA), Paced(Verified(DATA), Pace(1_000_000_000)), ignore)
    assert sum(seen) == len(DATA)
