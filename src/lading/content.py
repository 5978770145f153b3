"""What may be read from and written to: the contracts that transports and the store fulfil."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import WriteableBuffer

    from lading.digest import Digest
    from lading.manifest import Descriptor, Document

Progress = Callable[[int], None]
"""Called with the number of bytes of the current blob that are through, counted from its start."""


class ByteReader(Protocol):
    """A stream of bytes; closing it releases what is behind it."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Return up to `size` bytes; b"" at the end."""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""

    def close(self) -> None:
        """Release the stream; harmless when repeated."""


class RangeReader(Protocol):
    """Random access to one file, wherever it lies. Header readers need no more than this."""

    @property
    def name(self) -> str:
        """What messages call the file."""

    @property
    def size(self) -> int:
        """The file's whole size in bytes."""

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the file ends."""

    def close(self) -> None:
        """Release the file; harmless when repeated."""


class Stoppable(ByteReader, Protocol):
    """A stream that another thread than its reader's can end."""

    def abort(self) -> None:
        """End the stream from any thread: a read that waits raises NetworkError at once. It is still to be closed."""


@runtime_checkable
class Piecewise(RangeReader, Protocol):
    """Random access that streams, too, over a connection for each stream: several may bring a file's parts."""

    def stream(self, offset: int, length: int, /) -> Stoppable:
        """Stream `length` bytes from `offset` on, without verification.

        Raises at once where a patient reader would try again, and NetworkError after seconds of silence.
        """


class Source(Protocol):
    """A place to read an artifact from. What it returns has been held to its digest."""

    def document(self, name: str, /) -> Document:
        """Return the manifest or index under a tag or digest; raises NotFoundError."""

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a blob from `offset` on.

        Read from 0, its end raises unless size and digest are right; read from elsewhere,
        the caller verifies, who alone has the bytes before.
        """

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a blob, without verification."""


@runtime_checkable
class Redundant(Protocol):
    """A Source with more than one place behind it."""

    def distrust(self, blob: Descriptor, /) -> bool:
        """Hear that what was read of a blob is wrong; say whether another place gives it from now on."""


class Target(Protocol):
    """A place to write an artifact to."""

    def has(self, blob: Descriptor, /) -> bool:
        """Say whether the blob is there, whole."""

    def put_blob(self, blob: Descriptor, source: Source, progress: Progress, /) -> str:
        """Write a blob from `source`, verified; return "" or why no byte was moved ("mounted")."""

    def put_document(self, document: Document, tag: str | None, /) -> None:
        """Write a manifest or index whose blobs are all there, and name it."""


class Unnamed(Protocol):
    """Bytes of known length whose digest is known once they have been read."""

    @property
    def name(self) -> str:
        """What messages call them."""

    @property
    def size(self) -> int:
        """Their number."""

    def open(self, offset: int, /) -> ByteReader:
        """Stream them from `offset` on, up to which an earlier reader has come."""

    def finish(self) -> Digest:
        """Return the digest; raises IntegrityError unless all of them were read, and right."""


@runtime_checkable
class Roomy(Protocol):
    """A Target that knows how much room it has."""

    def require_room(self, blobs: Iterable[Descriptor], /) -> None:
        """Raise NoSpaceError if what is not there yet of these blobs would not fit."""


@runtime_checkable
class Receiving(Protocol):
    """A Target that takes a blob before anybody knows its digest."""

    def put_unnamed(self, stream: Unnamed, progress: Progress, /) -> Digest | None:
        """Write the bytes as a blob and return its digest; None, nothing read, where that cannot be.

        There is no blob unless `stream.finish` has found its bytes right.
        """
