"""Receiving: a stream of bytes becomes a verified part of the store, and what an earlier receiver left is taken up.

Receiving, hashing and writing overlap: blocks go round through three threads, the caller's among them, so memory
stays bounded by their number. The frontier, up to which bytes are hashed and synced, follows at most
`fs.SYNCED_EACH` bytes and the blocks behind: more than that is never fetched again after a death or a power cut.
"""

from __future__ import annotations

import mmap
import sys
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

from lading import fs
from lading.digest import Verifier
from lading.errors import IntegrityError, NoSpaceError
from lading.store.behind import Behind
from lading.store.connections import Shared
from lading.store.stream import LastingStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.content import ByteReader, Progress, Source
    from lading.digest import Digest
    from lading.manifest import Descriptor

CHUNK = fs.SYNCED_EACH
"""Bytes per block at most. With half as many all of it costs a tenth more CPU; more would be lost by a death."""

_BLOCKS = 3
_MUCH = 16 * 1024 * 1024
"""Bytes left by an earlier receiver that are worth hashing while more comes, for one more reading of what comes."""
_HELD_BACK = 0.5
"""Seconds until a block that fills slowly is passed on, so that a slow line does not keep its bytes from the disk."""
_TOLD_EACH = 0.1
"""Seconds between calls of `progress` within a block."""


def receive(
    partial: fs.Partial,
    blob: Descriptor,
    source: Source,
    progress: Progress,
    verifier: Callable[[], Verifier] | None = None,
) -> Digest:
    """Fill `partial` with a blob's bytes, verified, from where it ends, and return their digest.

    A broken stream is taken up where it broke. Where the bytes prove wrong, or the source does not go on in mid-blob,
    the blob is read once more from its start. Raises IntegrityError for bytes that are wrong again, with nothing left
    of them; after any other failure what came so far is kept. `verifier` makes what the bytes are held to; by default
    that is size and digest.
    """
    made = verifier or (lambda: Verifier(f"blob {blob.digest.short}", size=blob.size, digest=blob.digest))
    held = partial.reopen()
    if held > blob.size:
        partial.truncate(0)
        held = 0
    try:
        stream = LastingStream(source, blob, held, progress, partial)
        try:
            return _fill(partial, made(), blob.size, stream, progress)
        except IntegrityError:
            # Over one connection, so that bytes that are wrong again were not put together wrongly.
            again = LastingStream(source.inner if isinstance(source, Shared) else source, blob, 0, progress)
            if stream.refused:
                # What is here may be right: it goes once the blob comes from its start.
                again.open()
            partial.truncate(0)
            return _fill(partial, made(), blob.size, again, progress)
    except IntegrityError:
        partial.discard()
        raise


def receive_stream(partial: fs.Partial, reader: ByteReader, verifier: Verifier, progress: Progress) -> None:
    """Fill an empty part with all of a stream, and let `verifier` see it; the caller asks it for the verdict."""
    with _Pipeline(partial, 0, lambda _offset, data: verifier.update(data), threaded=True) as pipeline:
        _flow(pipeline, reader, None, progress)


def _fill(partial: fs.Partial, verifier: Verifier, size: int, stream: LastingStream, progress: Progress) -> Digest:
    held = partial.size
    try:
        if _MUCH <= held < size:
            _fill_ahead(partial, verifier, size, stream, progress)
        else:
            _fill_in_step(partial, verifier, size, stream, progress)
    finally:
        stream.close()
    return verifier.finish()


def _fill_in_step(
    partial: fs.Partial, verifier: Verifier, size: int, stream: LastingStream, progress: Progress
) -> None:
    held = partial.size
    progress(0)
    with _Pipeline(partial, 0, lambda _offset, data: verifier.update(data), threaded=size > CHUNK) as pipeline:
        while pipeline.end < held:
            count = partial.read_into(pipeline.end, pipeline.room()[: held - pipeline.end])
            if not count:
                msg = f"{partial.path} was cut while it was read"
                raise IntegrityError(msg, hint="repeat the command when nothing else writes to the store")
            pipeline.pass_on(count, written=True)
            progress(pipeline.end)
        if held < size:
            _flow(pipeline, stream, size, progress)


def _fill_ahead(partial: fs.Partial, verifier: Verifier, size: int, stream: LastingStream, progress: Progress) -> None:
    """Receive and write at once, while the hash comes after, from the disk."""
    held = partial.size
    progress(held)
    with Behind(partial, verifier, held) as behind:
        with _Pipeline(partial, held, behind.take, threaded=True, written=behind.reach) as pipeline:

            def tell(received: int) -> None:
                pipeline.check()
                progress(received)

            def tell_and_wait(received: int) -> None:
                progress(received)
                behind.hold(pipeline.end, tell)

            _flow(pipeline, stream, size, tell_and_wait)
        behind.finish(progress)


def _flow(pipeline: _Pipeline, reader: ByteReader, size: int | None, progress: Progress) -> None:
    ended = False
    while not ended and (size is None or pipeline.end <= size):
        room = pipeline.room()
        # One byte past the end proves a longer body; nothing more is asked for.
        window = room if size is None else room[: size + 1 - pipeline.end]
        filled = 0
        begun = told = time.monotonic()
        try:
            while filled < len(window) and told - begun < _HELD_BACK:
                count = reader.readinto(window[filled:])
                if not count:
                    ended = True
                    break
                filled += count
                if (now := time.monotonic()) - told > _TOLD_EACH:
                    told = now
                    progress(min(pipeline.end + filled, size or sys.maxsize))
        finally:
            # Also what came before a break is kept.
            if filled:
                pipeline.pass_on(filled)
        if filled and (size is None or pipeline.end <= size):
            progress(pipeline.end)


class _Block:
    __slots__ = ("count", "offset", "view", "written")

    def __init__(self) -> None:
        # Page-aligned.
        self.view = memoryview(mmap.mmap(-1, CHUNK))
        self.offset = 0
        self.count = 0
        self.written = False


_Queue = SimpleQueue["_Block | None"]


class _Pipeline:
    """Blocks on their way, from offset `end` on, to who wants to see them and then to the disk.

    `see` gets each block's offset and bytes, `written` how far the part reaches on the disk. A context manager: its end
    waits for the last block.

    The first failure on the way is raised by the next `room`, or by the end. After a failure of the caller what was
    received is settled, and so is what a full disk took; after another one of the disk all beyond the frontier is dropped.
    """

    def __init__(
        self,
        partial: fs.Partial,
        end: int,
        see: Callable[[int, memoryview], None],
        *,
        threaded: bool,
        written: Callable[[int], None] = lambda _end: None,
    ) -> None:
        self._partial = partial
        self._see = see
        self._written = written
        self._failure: BaseException | None = None
        self._unwritten: BaseException | None = None
        self._free: _Queue = SimpleQueue()
        self._hashing: _Queue = SimpleQueue()
        self._writing: _Queue = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._block: _Block | None = None
        self.end = end
        for _number in range(_BLOCKS if threaded else 1):
            self._free.put(_Block())
        if threaded:
            self._threads = [
                threading.Thread(target=self._work, args=(self._hashing, self._hash, self._writing), daemon=True),
                threading.Thread(target=self._work, args=(self._writing, self._write, self._free), daemon=True),
            ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._hashing.put(None)
        for thread in self._threads:
            thread.join()
        if self._unwritten is not None and not isinstance(self._unwritten, NoSpaceError):
            self._partial.reopen()
        elif error is not None or self._failure is not None:
            self._partial.settle()
        if self._failure is not None and error is None:
            raise self._failure

    def room(self) -> memoryview:
        """Return what the next bytes go into, waiting until it is free."""
        if self._block is None:
            self._block = self._free.get()
            assert self._block is not None  # noqa: S101 - the end of the blocks is put there after the last one
        self.check()
        # Blocks end where the part is synced.
        each = self._partial.synced_each
        return self._block.view[: each - self.end % each]

    def check(self) -> None:
        """Raise what failed on the way."""
        if self._failure is not None:
            raise self._failure

    def pass_on(self, count: int, *, written: bool = False) -> None:
        """Hash the first `count` bytes of the room, and write them unless they are `written`."""
        block = self._block
        assert block is not None  # noqa: S101 - `room` was asked for
        self._block = None
        block.offset, block.count, block.written = self.end, count, written
        self.end += count
        if self._threads:
            self._hashing.put(block)
            return
        self._free.put(block)
        self._hash(block)
        self._write(block)

    def _work(
        self,
        waiting: _Queue,
        step: Callable[[_Block], None],
        done: _Queue,
    ) -> None:
        while (block := waiting.get()) is not None:
            if self._failure is None:
                try:
                    step(block)
                except BaseException as failure:  # noqa: BLE001 - raised where the blocks come from
                    self._failure = failure
            done.put(block)
        done.put(None)

    def _hash(self, block: _Block) -> None:
        self._see(block.offset, block.view[: block.count])

    def _write(self, block: _Block) -> None:
        if not block.written:
            try:
                self._partial.append(block.offset, block.view[: block.count])
            except BaseException as failure:
                self._unwritten = failure
                raise
        self._written(block.offset + block.count)
