"""Sources for tests of the store: in memory or in a folder, counting what is asked of them, honest or not."""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING

from lading.digest import Digest
from lading.errors import NotFoundError
from lading.manifest import Descriptor, Document, Manifest, parse_document
from lading.ranges import FileRanges

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _typeshed import WriteableBuffer

    from lading.content import ByteReader, RangeReader
    from lading.store import Store

BLOB = "application/octet-stream"


def ignore(_done: int) -> None:
    """Nobody looks at the progress."""


def descriptor(data: bytes, algorithm: str = "sha256") -> Descriptor:
    return Descriptor(media_type=BLOB, digest=Digest.of(data, algorithm), size=len(data))


def manifest(*layers: bytes, config: bytes = b"{}", title: str = "x") -> Manifest:
    """Return the manifest of an artifact with these layers."""
    return Manifest.build(
        descriptor(config), tuple(descriptor(layer) for layer in layers), annotations={"title": title}
    )


def put(store: Store, name: str | None, *layers: bytes, config: bytes = b"{}", title: str = "x") -> Manifest:
    """Write a whole artifact into a store and name it."""
    made = manifest(*layers, config=config, title=title)
    for data in (config, *layers):
        store.put_bytes(data)
    store.put_document(made, name)
    return made


class Memory:
    """Blobs in memory. It verifies nothing: who receives from it must.

    `bodies` may be changed to make it lie; `opened` lists what was asked of it, with offsets.
    """

    def __init__(self, *blobs: bytes) -> None:
        self.bodies = {str(Digest.of(data, kind)): data for data in blobs for kind in ("sha256", "sha512")}
        self.opened: list[tuple[str, int]] = []
        self.before_read: Callable[[str, int], None] = lambda _digest, _offset: None

    def document(self, name: str, /) -> Document:
        if name not in self.bodies:
            raise NotFoundError(name)
        return parse_document(self.bodies[name], name=name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        self.opened.append((str(blob.digest), offset))
        return _Watched(self, str(blob.digest), offset)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        raise NotImplementedError


class _Watched(io.BytesIO):
    def __init__(self, source: Memory, digest: str, offset: int) -> None:
        super().__init__(source.bodies[digest][offset:])
        self._source = source
        self._digest = digest
        self._offset = offset

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._source.before_read(self._digest, self._offset + self.tell())
        return super().readinto(buffer)


class Folder:
    """Blobs that are files named by their digests, given out slowly; a log beside them has a line per request."""

    def __init__(self, folder: Path, *, step: int = 1 << 20, pause: float = 0.0) -> None:
        self._folder = folder
        self._step = step
        self._pause = pause

    def add(self, data: bytes) -> Descriptor:
        self._folder.mkdir(exist_ok=True)
        blob = descriptor(data)
        (self._folder / blob.digest.file_name).write_bytes(data)
        return blob

    @property
    def log(self) -> list[int]:
        """The offsets that were asked for, oldest first."""
        path = self._folder / "log"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def document(self, name: str, /) -> Document:
        raise NotImplementedError

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        with (self._folder / "log").open("a") as log:
            log.write(f"{offset}\n")
        file = (self._folder / blob.digest.file_name).open("rb", buffering=0)
        file.seek(offset)
        return _Slow(file, self._step, self._pause)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        return FileRanges(os.open(self._folder / blob.digest.file_name, os.O_RDONLY), "x")


class _Slow(io.RawIOBase):
    def __init__(self, file: io.FileIO, step: int, pause: float) -> None:
        self._file = file
        self._step = step
        self._pause = pause

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        time.sleep(self._pause)
        return self._file.readinto(memoryview(buffer).cast("B")[: self._step])

    def close(self) -> None:
        self._file.close()
        super().close()
