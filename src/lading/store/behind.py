"""Hashing behind: what a part already holds is hashed from the disk while more is received and appended to it.

That pays where the hash is much faster than the source. A fast source waits until the hash has caught up.
"""

from __future__ import annotations

import mmap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from lading.errors import IntegrityError, LadingError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from lading import fs
    from lading.content import Progress
    from lading.digest import Verifier

BLOCK = 1024 * 1024
"""Bytes read at a time; one block is read while another is hashed."""

_NAP = 0.1

_TELLING = 32 * 1024 * 1024
"""Bytes that come before their speed is held against that of the hash."""

_OUTRUN = 4
"""What comes at more than one part in so many of the hash's speed is waited with: to read it back costs more."""


class Behind:
    """Shows a part's bytes to a verifier in their order: from the disk until it has caught up, then as they come.

    A context manager, whose end stops it. What it fails by is raised by `finish`.
    """

    def __init__(self, partial: fs.Partial, verifier: Verifier, written: int) -> None:
        self._partial = partial
        self._verifier = verifier
        self._written = written
        self._begun = written
        self._read = 0
        self._hashed = 0
        self._ended = False
        self._failure: LadingError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._caught_up = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        with self._changed:
            if error is not None:
                self._written = 0
            self._ended = True
            self._changed.notify_all()
        self._thread.join()

    def take(self, offset: int, data: memoryview) -> None:
        """See bytes that come, before they are written: they are hashed at once if all before them is.

        Raises what has failed meanwhile.
        """
        if self._failure is not None:
            raise self._failure
        if not self._caught_up:
            with self._changed:
                if self._hashed != offset:
                    return
                self._ended = self._caught_up = True
                self._changed.notify_all()
            self._thread.join()
        self._verifier.update(data)

    def hold(self, end: int, progress: Progress) -> None:
        """Wait until all before `end`, which is on its way to the disk, is hashed, if the source is too fast to go on.

        `progress` is called meanwhile, and may raise to give up.
        """
        came = end - self._begun
        if came < _TELLING or came * _OUTRUN < self._read:
            return
        while not self._is_done(end):
            with self._changed:
                self._changed.wait(_NAP)
            progress(end)

    def reach(self, end: int) -> None:
        """Hear that all bytes before `end` are written."""
        with self._changed:
            self._written = end
            self._changed.notify_all()

    def finish(self, progress: Progress) -> None:
        """Wait until all that is written is hashed; `progress` is called meanwhile, and may raise to give up."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(_NAP)
            progress(self._written)
        if self._failure is not None:
            raise self._failure

    def _is_done(self, end: int) -> bool:
        return self._caught_up or self._failure is not None or self._hashed >= end

    def _run(self) -> None:
        try:
            self._follow()
        except LadingError as error:
            self._failure = error

    def _follow(self) -> None:
        # Page-aligned, as reading past the cache wants it.
        block, other = (memoryview(mmap.mmap(-1, BLOCK)) for _number in range(2))
        offset = 0
        hashed: Future[None] | None = None
        with ThreadPoolExecutor(1) as hasher:
            while count := self._ready(offset) or self._wait(offset, hashed):
                if self._partial.read_into(offset, block[:count]) != count:
                    msg = f"{self._partial.path} was cut while it was read"
                    raise IntegrityError(msg, hint="repeat the command when nothing else writes to the store")
                if hashed is not None:
                    hashed.result()
                hashed = hasher.submit(self._verifier.update, block[:count])
                offset += count
                self._read = offset
                block, other = other, block

    def _ready(self, offset: int) -> int:
        """Return how many bytes to read next, so that reads stay aligned; 0 where nothing is written yet."""
        with self._changed:
            return max(0, min(BLOCK - offset % BLOCK, self._written - offset))

    def _wait(self, offset: int, hashed: Future[None] | None) -> int:
        """Wait for more to be written, with nothing left to hash, and return its size; 0 at the end."""
        if hashed is not None:
            hashed.result()
        with self._changed:
            self._hashed = offset
            self._changed.notify_all()
            while self._written <= offset and not self._ended:
                self._changed.wait()
        return self._ready(offset)
