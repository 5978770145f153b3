"""An OCI image layout as a tar, written from its first byte to its last: what `save` makes, and a Target for `push`.

Owner, times, modes and order are fixed: the same models make the same bytes anywhere. The index comes last, since
nobody knows the names before; a docker that knows no layouts finds its images by a list beside it. Bodies begin at multiples of 4096, where the disk takes them without the page cache.
"""

from __future__ import annotations

import mmap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO, Protocol

import msgspec

from lading import fs, media
from lading.digest import VerifyingReader
from lading.errors import LadingError, NoSpaceError, NotFoundError, UsageError
from lading.formats.archive import END, file_head, folder_head, padding
from lading.manifest import Manifest, encode
from lading.store.stream import LastingStream
from lading.text import size as human_size
from lading.transport.docker_archive import LIST, docker_list, is_image

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from lading.content import ByteReader, Progress, Source
    from lading.digest import Digest
    from lading.manifest import Descriptor, Document

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_BLOCK = 1024 * 1024


class Sink(Protocol):
    """Where an archive is written to."""

    def append(self, offset: int, data: memoryview, /) -> None:
        """Write all of `data` at `offset`, which is the end."""

    def cut(self, offset: int, /) -> None:
        """Take back what was written from `offset` on."""

    def commit(self) -> None:
        """Make what was written the whole of it."""

    def close(self) -> None:
        """Let go; what was not committed is gone."""


def require_room(folder: Path, blobs: Iterable[Descriptor]) -> None:
    """Raise NoSpaceError if an archive of these blobs would not fit in a folder."""
    needed, left = sum(blob.size for blob in blobs), fs.free_bytes(folder)
    if needed > left:
        msg = f"{human_size(needed)} are to be written and {human_size(left)} are free in {folder.absolute()}"
        raise NoSpaceError(msg, hint="free some space, or name a file in another place")


class FileSink:
    """A file, which has its name once it is whole; another of that name is replaced then. Raises UsageError, NotFoundError."""

    def __init__(self, path: Path) -> None:
        if not path.parent.is_dir():
            msg = f"the folder {path.parent} does not exist"
            raise NotFoundError(msg, hint="make it, or check how it is written")
        if path.exists() and not path.is_file():
            msg = f"{path} is no file that could be replaced"
            raise UsageError(msg, hint="name a file to write; `-o -` writes to standard output")
        self._path = path
        self._partial = fs.Partial(path.with_name(f".{path.name}.new"))
        self._partial.truncate(0)

    def append(self, offset: int, data: memoryview, /) -> None:
        """Write all of `data` at `offset`, which is the end."""
        self._partial.append(offset, data)

    def cut(self, offset: int, /) -> None:
        """Take back what was written from `offset` on."""
        self._partial.truncate(offset)

    def commit(self) -> None:
        """Sync the file and give it its name."""
        self._partial.commit(self._path, mode=0o644)

    def close(self) -> None:
        """Remove the file unless it has its name; harmless when repeated."""
        partial, self._partial = self._partial, None  # type: ignore[assignment]
        if partial is not None:
            partial.discard()
            partial.close()


class StreamSink:
    """A stream, of which nothing can be taken back: after a failure its reader has an archive that is cut off."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._end = 0

    def append(self, offset: int, data: memoryview, /) -> None:
        """Write all of `data`; raises LadingError where something was to be taken back."""
        if offset != self._end:
            msg = "the archive cannot go on: what was written to a stream stays written"
            raise LadingError(msg, hint="repeat the command, and drop what the stream's reader got")
        self._stream.write(data)
        self._end += len(data)

    def cut(self, offset: int, /) -> None:
        """Do nothing: what comes next is refused."""

    def commit(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def close(self) -> None:
        """Do nothing: the stream is its owner's."""


class LayoutTar:
    """An archive in the making; a Target, of which `finish` makes the last bytes. One blob is written at a time."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._offset = 0
        self._held: set[str] = set()
        self._folders: frozenset[str] = frozenset()
        self._small = memoryview(mmap.mmap(-1, _BLOCK))
        self._named: dict[str, Document] = {}
        self._images: dict[Digest, Manifest] = {}
        self._writing = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of the archive so far."""
        return self._offset

    def has(self, blob: Descriptor, /) -> bool:
        """Say whether the blob is in the archive."""
        return blob.digest.path in self._held

    def put_blob(self, blob: Descriptor, source: Source, progress: Progress, /) -> str:
        """Append a blob, unless it is there; what is wrong or breaks off is taken back."""
        with self._writing:
            if self.has(blob):
                return "present"
            stream = LastingStream(source, blob, 0, progress)
            name = f"blob {blob.digest.short}"
            with closing(VerifyingReader(stream, name, size=blob.size, digest=blob.digest)) as reader:
                self._append(blob.digest.path, blob.size, reader, progress)
        return ""

    def put_document(self, document: Document, tag: str | None, /) -> None:
        """Append a manifest or index, unless it is there, and name it in the archive's index."""
        with self._writing:
            if document.digest.path not in self._held:
                self._put(document.digest.path, document.raw)
            if isinstance(document, Manifest) and is_image(document):
                self._images[document.digest] = document
            if tag is not None:
                self._named[tag] = document

    def finish(self) -> None:
        """Write the list of images, the index and the end, and commit the archive."""
        entries = [
            msgspec.Raw(encode(msgspec.structs.replace(document.descriptor, annotations={media.REF_NAME: name})))
            for name, document in self._named.items()
        ]
        index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}
        images = docker_list(self._named, self._images)
        with self._writing:
            if images:
                self._put(LIST, images)
            self._put("index.json", msgspec.json.encode(index))
            self._write(END)
            self._sink.commit()

    def close(self) -> None:
        """Let go of the sink; harmless when repeated."""
        self._sink.close()

    def _put(self, path: str, data: bytes) -> None:
        self._begin(path, len(data))
        self._write(data + padding(len(data)))
        self._held.add(path)

    def _append(self, path: str, size: int, reader: ByteReader, progress: Progress) -> None:
        start, folders = self._offset, self._folders
        try:
            self._begin(path, size)
            body = self._offset
            with closing(_blocks(reader, size)) as blocks:
                for block in blocks:
                    self._sink.append(self._offset, block)
                    self._offset += len(block)
                    progress(self._offset - body)
            self._write(padding(size))
        except BaseException:
            self._offset = start
            self._folders = folders
            self._sink.cut(start)
            raise
        self._held.add(path)

    def _begin(self, path: str, size: int) -> None:
        """Write what stands before a file's bytes, and before all of them what makes this a layout."""
        if not self._offset:
            self._write(file_head("oci-layout", len(_LAYOUT), 0) + _LAYOUT + padding(len(_LAYOUT)))
        new = [path[:place] for place, char in enumerate(path) if char == "/" and path[:place] not in self._folders]
        self._folders = self._folders.union(new)
        self._write(b"".join(map(folder_head, new)))
        self._write(file_head(path, size, self._offset))

    def _write(self, data: bytes) -> None:
        # Where a page begins in the file one has to begin in memory, or the disk does not take it without the cache.
        place = self._offset % mmap.PAGESIZE
        while data:
            piece = data[: len(self._small) - place]
            self._small[place : place + len(piece)] = piece
            self._sink.append(self._offset, self._small[place : place + len(piece)])
            self._offset += len(piece)
            data = data[len(piece) :]
            place = 0


class ArchiveTarget(LayoutTar):
    """A file as Target of one artifact: it has its name once the artifact has its `tag`, or any, and replaces what was there."""

    def __init__(self, path: Path, tag: str | None = None) -> None:
        super().__init__(FileSink(path))
        self._folder = path.parent
        self._tag = tag

    def require_room(self, blobs: Iterable[Descriptor], /) -> None:
        """Raise NoSpaceError if these blobs would not fit beside what the archive replaces."""
        require_room(self._folder, blobs)

    def put_document(self, document: Document, tag: str | None, /) -> None:
        """Append a manifest or index; with its last tag it is the last, and the archive is whole."""
        super().put_document(document, tag)
        if tag is not None and self._tag in (None, tag):
            self.finish()


def _blocks(reader: ByteReader, size: int) -> Generator[memoryview]:
    """Yield a stream in page-aligned blocks, each overwritten by the one after the next, read and hashed in a thread."""
    filling, full = memoryview(mmap.mmap(-1, _BLOCK)), memoryview(mmap.mmap(-1, _BLOCK))
    if size < _BLOCK:
        while count := _fill(reader, full):
            yield full[:count]
        return
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(_fill, reader, filling)
        while count := pending.result():
            filling, full = full, filling
            pending = pool.submit(_fill, reader, filling)
            yield full[:count]


def _fill(reader: ByteReader, view: memoryview) -> int:
    filled = 0
    while filled < len(view) and (count := reader.readinto(view[filled:])):
        filled += count
    return filled
