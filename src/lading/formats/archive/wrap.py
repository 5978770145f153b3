"""Writing: a file becomes a tar archive, or a part of one, by what stands before and after its bytes.

The file's bytes begin at a multiple of 4096, so that a file system that shares blocks can share them between the
archive and the file. The time is a constant, like owner and mode unless given: the same file makes the same archive
anywhere.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.formats.archive.tar import BLOCK

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from lading.content import ByteReader

ALIGNED = 4096
"""Bytes; a block of the common file systems."""

END = bytes(2 * BLOCK)
"""What ends an archive."""

_MAX_OCTAL = 8**11 - 1
_MAX_USTAR_NAME = 100
_COMMENT = b"comment="


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What stands before and after the `length` bytes of a file to make them a tar archive, where `path` names it."""

    path: str
    head: bytes
    length: int
    tail: bytes

    @property
    def size(self) -> int:
        """Bytes of the archive."""
        return len(self.head) + self.length + len(self.tail)


def wrap(path: str, length: int, *, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> Wrapping:
    """Return what makes the `length` bytes of a file an archive of it and its folders.

    `path` is relative, with forward slashes, and was held to what can be a file's name. `owner` is user and group.
    """
    raw = path.encode()
    folders = [raw[:place] + b"/" for place in range(len(raw)) if raw[place : place + 1] == b"/"]
    before = b"".join(_folder(folder) for folder in folders)
    head = before + _extended(raw, length, len(before)) + _header(raw, length, b"0", mode, owner)
    return Wrapping(path, head, length, padding(length) + END)


def folder_head(path: str) -> bytes:
    """Return what stands for a folder in an archive."""
    return _folder(path.encode() + b"/")


def file_head(path: str, length: int, offset: int) -> bytes:
    """Return what stands before a file's bytes where an archive is `offset` bytes long so far; `padding` follows them."""
    raw = path.encode()
    return _extended(raw, length, offset) + _header(raw, length, b"0", 0o644)


def padding(length: int) -> bytes:
    """Return what stands after the `length` bytes of a file."""
    return bytes(-length % BLOCK)


class WrappedReader(io.RawIOBase):
    """The stream of an archive, of the stream of its file; closing it closes that one."""

    def __init__(self, wrapping: Wrapping, inner: ByteReader) -> None:
        self._inner = inner
        self._streams: list[ByteReader] = [io.BytesIO(wrapping.head), inner, io.BytesIO(wrapping.tail)]

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""
        while self._streams:
            if count := self._streams[0].readinto(buffer):
                return count
            del self._streams[0]
        return 0

    def close(self) -> None:
        """Close the file's stream too."""
        if not self.closed:
            self._inner.close()
        super().close()


def _extended(name: bytes, length: int, before: int) -> bytes:
    """Return the extended header for a file, filled up so that its bytes come to lie on a multiple of ALIGNED."""
    records = b""
    if len(name) > _MAX_USTAR_NAME:
        records += _record(b"path=" + name)
    if length > _MAX_OCTAL:
        records += _record(b"size=%d" % length)
    # Its own header, the body and the file's header; a comment is at least this long and says nothing.
    least = len(_record(_COMMENT))
    fixed = before + 2 * BLOCK
    body = -(-(len(records) + least) // BLOCK) * BLOCK
    body += -(fixed + body) % ALIGNED
    records += _comment(body - len(records))
    return _header(b"././@PaxHeader", len(records), b"x", 0o644) + records


def _folder(name: bytes) -> bytes:
    return _with_long_name(name) + _header(name, 0, b"5", 0o755)


def _with_long_name(name: bytes) -> bytes:
    if len(name) <= _MAX_USTAR_NAME:
        return b""
    records = _record(b"path=" + name)
    padding = bytes(-len(records) % BLOCK)
    return _header(b"././@PaxHeader", len(records), b"x", 0o644) + records + padding


def _record(said: bytes) -> bytes:
    length = len(said) + 2
    while len(b"%d" % length) + 2 + len(said) != length:
        length = len(b"%d" % length) + 2 + len(said)
    return b"%d %s\n" % (length, said)


def _comment(length: int) -> bytes:
    """Return a comment of exactly that length as a record, digits of the length included."""
    digits = b"%d " % length
    return digits + _COMMENT + b" " * (length - len(digits) - len(_COMMENT) - 1) + b"\n"


def _header(name: bytes, size: int, flag: bytes, mode: int, owner: tuple[int, int] = (0, 0)) -> bytes:
    # What is too long for its field stands in the extended header before, which readers take instead.
    fields = (
        name[:_MAX_USTAR_NAME].ljust(100, b"\0"),
        b"%07o\0" % mode,
        *(b"%07o\0" % number for number in owner),
        b"%011o\0" % (size if size <= _MAX_OCTAL else 0),
        b"%011o\0" % 0,
        b" " * 8,
        flag,
        bytes(100),
        b"ustar\x0000",
        bytes(32 + 32),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        bytes(155 + 12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
