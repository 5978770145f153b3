"""The watch over linked files while they are in use: one that is changed is told within a second or two."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from lading import fs
from lading.errors import StoppedError
from lading.store.hashing import hash_file
from lading.store.linked import changed, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lading.digest import Digest
    from lading.store.blobs import Blobs


@dataclass(slots=True)
class _Held:
    digest: Digest
    origin: str
    descriptor: int
    stamp: tuple[int, int, int, int, int] | None = None


class Watch:
    """Holds the linked files among some blobs open; `check` is to be called again and again. A context manager.

    What is held is the file that a runtime has in its memory, whatever becomes of its names. Entering raises what
    opening the blobs raises. Blobs of the store's own cost nothing.
    """

    __slots__ = ("_blobs", "_digests", "_ended", "_held", "_turn")

    def __init__(self, blobs: Blobs, digests: Iterable[Digest]) -> None:
        self._blobs = blobs
        self._digests = tuple(digests)
        self._held: list[_Held] = []
        self._turn = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        linked = set(self._blobs.linked.digests())
        try:
            for digest in dict.fromkeys(self._digests):
                if digest in linked and (origin := self._blobs.linked.origin(digest)):
                    self._held.append(_Held(digest, origin, self._blobs.open_file(digest)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        with self._turn:
            while self._held:
                os.close(self._held.pop().descriptor)

    def check(self) -> None:
        """Raise IntegrityError, naming the file, if one was changed; a stamp that differs has it hashed again.

        May be called from another thread than the one that holds the watch, whose end stops a hashing that is under
        way: StoppedError.
        """
        with self._turn:
            for held in self._held:
                with fs.os_errors(held.origin):
                    status = os.fstat(held.descriptor)
                if stamp_of(status) != held.stamp:
                    self._look_at(held, status)

    def _look_at(self, held: _Held, status: os.stat_result) -> None:
        linked = self._blobs.linked
        if linked.origin(held.digest):
            linked.check(held.digest, self._blobs.path(held.digest), status, lambda: self._is_itself(held))
        elif not self._is_itself(held):
            # Packed anew with a copy meanwhile: the store forgot the file, and who began before still reads it.
            raise changed(held.origin, held.digest)
        # A file that was written to a moment ago may be again without a trace.
        held.stamp = stamp_of(status) if fs.settled(status) else None

    def _is_itself(self, held: _Held) -> bool:
        with fs.os_errors(held.origin):
            return hash_file(held.descriptor, held.digest.algorithm, self._proceed)[0] == held.digest

    def _proceed(self, _done: int) -> None:
        if self._ended.is_set():
            msg = "the watch was ended"
            raise StoppedError(msg)
