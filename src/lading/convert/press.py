"""Pressing: finding out what a layer hashes to that is made of a file, or a file that lies in a layer.

What was found out once is kept beside the store as a hint. A hint that is wrong makes a copy fail at the digest, never
succeed with other bytes.
"""

from __future__ import annotations

import io
from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING

from lading.artifact.layers import Walk, archive_of
from lading.convert.overlay import Wrapped
from lading.digest import Digest, Verifier
from lading.errors import FormatError, IntegrityError
from lading.events import Advanced, Finished, Skipped, Started
from lading.store.unpacked import remember, remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, Progress, Receiving, Source
    from lading.events import Reporter
    from lading.formats.archive import Wrapping
    from lading.model import Part
    from lading.store import Store

_BLOCK = 1024 * 1024
_LAYER = "layer"


class Press:
    """Finds out digests. `store` keeps hints, if it can be written to.

    `target` takes a layer while its digest is found out, if there is one that can: then the layer is read only once.
    Without one it is read to be hashed, and again to be copied.
    """

    def __init__(
        self,
        store: Store,
        reporter: Reporter,
        target: Receiving | None = None,
    ) -> None:
        self._store = store
        self._reporter = reporter
        self._target = target
        self._trusting = True
        self.hinted = False
        """Whether a digest was told that was only remembered."""
        self.sent: dict[Digest, int] = {}
        """The layers that the target took meanwhile, and their bytes."""

    def forget(self) -> None:
        """Trust no hint from now on; what is found out then replaces them."""
        self._trusting = self.hinted = False

    def layer(self, part: Part, wrapping: Wrapping, source: Source) -> Digest:
        """Return what a raw part, wrapped, hashes to; the file's own bytes are held to its digest on the way."""
        key = Digest.of(wrapping.head + part.blob.digest.encode())
        if (known := self._known(key)) is not None:
            return known
        recipe = Wrapped(part.name, wrapping, part.blob, source)
        self._reporter.emit(Started(key, _LAYER, part.name, wrapping.size))

        def progress(done: int) -> None:
            self._reporter.emit(Advanced(key, done))

        stream = _Stream(recipe)
        taken = self._target.put_unnamed(stream, progress) if self._target else None
        digest = taken or _hashed(stream, progress)
        if taken:
            self.sent[digest] = wrapping.size
            self._reporter.emit(Finished(key))
        else:
            self._reporter.emit(Skipped(key, _LAYER, part.name, wrapping.size, "hashed"))
        if self._store.writable:
            remember(self._store, key, digest.encode())
        return digest

    def files(self, parts: Iterable[Part], source: Source) -> dict[str, Digest]:
        """Return what files that lie in layers hash to, by name; each layer is read whole and held to its digest."""
        found: dict[str, Digest] = {}
        for _layer, group in groupby(sorted(parts, key=_place), key=lambda part: part.blob.digest):
            found |= self._inside(list(group), source)
        return found

    def _inside(self, parts: list[Part], source: Source) -> dict[str, Digest]:
        archive = archive_of(parts[0])
        wanted = {part.member.offset: part for part in parts if part.member}
        found = {}
        buffer = memoryview(bytearray(_BLOCK))
        with closing(Walk(archive, source)) as walk:
            for entry in walk:
                part = wanted.pop(entry.offset, None)
                if part is None:
                    continue
                self._reporter.emit(Started(part.name, part.role.value, part.name, part.size))
                verifier = Verifier(part.name, size=part.size, digest=None)
                while count := walk.readinto(buffer):
                    verifier.update(buffer[:count])
                    self._reporter.emit(Advanced(part.name, verifier.seen))
                found[part.name] = verifier.finish()
                self._reporter.emit(Skipped(part.name, part.role.value, part.name, part.size, "hashed"))
        if wanted:
            part = next(iter(wanted.values()))
            msg = f"{part.name} is not where it was in {archive.name}"
            raise IntegrityError(msg, hint="the source does not hold what its manifest says")
        return found

    def _known(self, key: Digest) -> Digest | None:
        text = remembered(self._store, key) if self._trusting else None
        try:
            digest = Digest(text.decode()) if text else None
        except (FormatError, UnicodeDecodeError):
            return None
        self.hinted = self.hinted or digest is not None
        return digest


class _Stream:
    """A wrapped file as an Unnamed: its bytes are hashed once, in order, however often some are read."""

    def __init__(self, recipe: Wrapped) -> None:
        self._recipe = recipe
        self._all = Verifier(recipe.name, size=recipe.wrapping.size, digest=None)
        blob = recipe.blob
        self._file = Verifier(f"blob {blob.digest.short}", size=blob.size, digest=blob.digest)
        self.name = recipe.name
        self.size = recipe.wrapping.size

    def open(self, offset: int, /) -> ByteReader:
        """Stream the archive from `offset` on."""
        return _Seen(self._recipe.open(offset), offset, self._see)

    def finish(self) -> Digest:
        """Return the archive's digest; raises IntegrityError unless the file in it had its own."""
        self._file.finish()
        return self._all.finish()

    def _see(self, offset: int, data: memoryview) -> None:
        data = data[self._all.seen - offset :]
        if not len(data):
            return
        begin = self._all.seen - len(self._recipe.wrapping.head)
        self._all.update(data)
        self._file.update(data[max(0, -begin) : max(0, self._recipe.blob.size - begin)])


class _Seen(io.RawIOBase):
    """A stream that shows what is read of it, and where that was."""

    def __init__(self, inner: ByteReader, offset: int, see: Callable[[int, memoryview], None]) -> None:
        self._inner = inner
        self._offset = offset
        self._see = see

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        count = self._inner.readinto(view)
        self._see(self._offset, view[:count])
        self._offset += count
        return count

    def close(self) -> None:
        """Close the stream too."""
        if not self.closed:
            self._inner.close()
        super().close()


def _hashed(stream: _Stream, progress: Progress) -> Digest:
    buffer = memoryview(bytearray(_BLOCK))
    done = 0
    with closing(stream.open(0)) as reader:
        while count := reader.readinto(buffer):
            done += count
            progress(done)
    return stream.finish()


def _place(part: Part) -> tuple[str, int]:
    return part.blob.digest, part.member.offset if part.member else 0
