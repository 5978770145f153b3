"""Digests, and the readers that hold bytes to them (OCI image-spec, descriptor.md, "Digests").

The only module that turns a digest into a path: a digest that exists as a value is
safe to use as one, because its algorithm and hex have been checked.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Protocol, Self

from lading.errors import FormatError, IntegrityError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as ReadBuffer
    from _typeshed import WriteableBuffer as Buffer

    from lading.content import ByteReader

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)
_SHOWN = 80


class Hasher(Protocol):
    """What hashlib's objects can do."""

    def update(self, data: ReadBuffer, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far."""


def new_hasher(algorithm: str, data: ReadBuffer = b"") -> Hasher:
    """Return what hashes by an algorithm that a digest can have."""
    import hashlib  # noqa: PLC0415 - it loads OpenSSL, which those who hash nothing need not wait for

    return hashlib.new(algorithm, data)


class Digest(str):
    """A content digest `algorithm:hex`, checked when made: sha256 or sha512 with all its lower-case digits.

    Raises FormatError for any other text.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check `text` and make it a digest."""
        algorithm, colon, digits = text.partition(":")
        if not colon:
            msg = f"malformed digest {text[:_SHOWN]!r}"
            raise FormatError(msg, hint="a digest looks like sha256:<64 hex digits>")
        length = _HEX_LENGTH.get(algorithm)
        if length is None:
            msg = f"unknown digest algorithm {algorithm[:_SHOWN]!r}"
            raise FormatError(msg, hint="sha256 and sha512 are accepted")
        if len(digits) != length or _HEX.fullmatch(digits) is None:
            msg = f"malformed {algorithm} digest {digits[:_SHOWN]!r}"
            raise FormatError(msg, hint=f"a {algorithm} digest has {length} lower-case hex digits")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: ReadBuffer, algorithm: str = "sha256") -> Self:
        """Return the digest of `data`."""
        return cls.result(algorithm, new_hasher(algorithm, data))

    @classmethod
    def result(cls, algorithm: str, hasher: Hasher) -> Self:
        """Return what `hasher`, of that algorithm, has seen so far, as a digest."""
        return cls(f"{algorithm}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """The part before the colon."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The part after the colon."""
        return self.partition(":")[2]

    @property
    def path(self) -> str:
        """The blob's path inside an OCI layout: `blobs/<algorithm>/<hex>`."""
        return f"blobs/{self.algorithm}/{self.hex}"

    @property
    def file_name(self) -> str:
        """A file name for what is kept about this digest: `<algorithm>-<hex>`."""
        return f"{self.algorithm}-{self.hex}"

    @property
    def short(self) -> str:
        """The form shown to people: the algorithm and twelve digits."""
        return self[: len(self.algorithm) + 13]


class Verifier:
    """Counts and hashes bytes that flow by, and says at the end whether they are the ones promised.

    `name` is what messages call the content. `size` may be None when only the digest is
    known, `digest` None when only the size is (a file from a plain URL).
    """

    __slots__ = ("_digest", "_hasher", "_name", "_size", "algorithm", "seen")

    def __init__(self, name: str, *, size: int | None, digest: Digest | None) -> None:
        self._name = name
        self._size = size
        self._digest = digest
        self.algorithm = digest.algorithm if digest else "sha256"
        self._hasher = new_hasher(self.algorithm)
        self.seen = 0

    def update(self, data: ReadBuffer) -> None:
        """Take the next bytes; raises IntegrityError as soon as there are more than promised."""
        self.seen += memoryview(data).nbytes
        if self._size is not None and self.seen > self._size:
            msg = f"{self._name} is longer than the {self._size} bytes promised"
            raise IntegrityError(msg, hint="the source does not hold what its manifest says")
        self._hasher.update(data)

    def finish(self) -> Digest:
        """Return the digest of all bytes; raises IntegrityError if size or digest are not as promised."""
        if self._size is not None and self.seen != self._size:
            msg = f"{self._name} ended after {self.seen} of {self._size} bytes"
            raise IntegrityError(msg, hint="the source sent less than its manifest says; try again")
        actual = Digest.result(self.algorithm, self._hasher)
        if self._digest is not None and actual != self._digest:
            msg = f"{self._name} has digest {actual}, not {self._digest}"
            raise IntegrityError(msg, hint="the source does not hold what its manifest says")
        return actual


class VerifyingReader(io.RawIOBase):
    """A reader that raises, instead of ending, unless size and digest are as promised.

    The last bytes are handed over only once they are known to be right. It never asks its source for more than
    the one byte past `size` that proves a longer body.
    """

    def __init__(self, inner: ByteReader, name: str, *, size: int, digest: Digest) -> None:
        self._inner = inner
        self._left = size
        self._verifier = Verifier(name, size=size, digest=digest)
        self._verified = False

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` from the source; 0 only after a verified end. Raises IntegrityError."""
        view = memoryview(buffer).cast("B")
        if not len(view) or self._verified:
            return 0
        window = view[: self._left]
        count = self._inner.readinto(window) if self._left else 0
        self._verifier.update(window[:count])
        self._left -= count
        if not count or not self._left:
            # Before the last bytes are handed over: who knows the size may never ask for the end.
            self._finish()
        return count

    def unverified(self) -> ByteReader:
        """Hand over the source, before the first read, to one who verifies its bytes too; this reader is over then."""
        # Dropping a reader closes it, and with it what it holds.
        inner, self._inner = self._inner, io.BytesIO()
        return inner

    def _finish(self) -> None:
        if not self._left and self._inner.readinto(bytearray(1)):
            self._verifier.update(b"\0")
        self._verifier.finish()
        self._verified = True

    def close(self) -> None:
        """Close the source too."""
        if not self.closed:
            self._inner.close()
        super().close()
