"""The headers of a tar archive: ustar, pax and GNU's long names (POSIX.1-2017, pax; tar(5) of GNU tar).

Two readers that disagree about an archive are how hostile bytes get past the first of them. So what is not plain is
refused and never guessed: a wrong checksum, a number in no known form, a link with a body, sparse files, a name
that leads out of the archive, anything after the end. Only the end itself may be missing, with the last padding: umoci
leaves out both, and whose bytes are held to a digest cannot lose any of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from lading.errors import FormatError
from lading.formats.archive.cursor import cut_off
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from lading.formats.archive.cursor import Cursor

BLOCK = 512
"""Bytes of a header, and what every body is padded to a multiple of."""

MAX_ENTRIES = 500_000
"""In one archive; large images have some hundred thousand."""

_MAX_EXTENDED = 1024 * 1024
_MAX_PADDING = 1024 * 1024
_MAX_SIZE = 2**63 - 1
_MAX_NAME = 32 * 1024
_SHOWN = 80
_OCTAL = re.compile(rb"[ ]*([0-7]*)[ \0]*")
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_RECORD_LENGTH = re.compile(rb"([0-9]{1,7}) ")
_EMPTY = bytes(BLOCK)
_MALFORMED = "the archive is damaged, or made to be read in two ways"


class Kind(StrEnum):
    """What an entry of an archive is."""

    FILE = "file"
    FOLDER = "folder"
    SYMBOLIC_LINK = "symbolic link"
    HARD_LINK = "hard link"
    DEVICE = "device"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous, once
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMBOLIC_LINK,
    b"3": Kind.DEVICE,
    b"4": Kind.DEVICE,
    b"5": Kind.FOLDER,
    b"6": Kind.DEVICE,  # a pipe
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or other thing in an archive.

    `name` is a relative path without `.` and empty segments, not yet held to what can be a file here; `offset`, from
    the archive's start, and `size` say where a file's bytes lie.
    """

    name: str
    kind: Kind
    offset: int
    size: int


@dataclass(slots=True)
class _Extended:
    """What headers before an entry's own said of it."""

    name: bytes | None = None
    size: int | None = None


def read_entries(cursor: Cursor) -> Iterator[Entry]:
    """Yield what is in an archive, in its order, and read the archive to its end.

    While an entry is at hand the caller may read its bytes from the cursor, and no more than those. Raises FormatError,
    naming the archive and the entry, for what is not a plain tar archive, and what the cursor raises.
    """
    extended = _Extended()
    count = 0
    while (header := _header(cursor)) is not None:
        flag = header[156:157]
        if flag in (b"x", b"g", b"L", b"K"):
            _extend(cursor, header, flag, extended)
            continue
        entry = _entry(cursor, header, flag, extended)
        count += 1
        if count > MAX_ENTRIES:
            _refuse(cursor, f"holds more than {MAX_ENTRIES:,} files")
        extended = _Extended()
        end = entry.offset + entry.size
        if cursor.size is not None and end > cursor.size:
            shown = f"{clean(entry.name)[:_SHOWN]} in {cursor.name}"
            raise cut_off(shown)
        yield entry
        cursor.skip(end - cursor.position)
        cursor.read(-entry.size % BLOCK)
    if extended != _Extended():
        raise cut_off(cursor.name)
    _end(cursor)


def _header(cursor: Cursor) -> bytes | None:
    """Return the next header; None at the end, whose marker is read."""
    block = cursor.read(BLOCK)
    if not block and cursor.position:
        return None
    if len(block) < BLOCK:
        raise cut_off(cursor.name)
    if block == _EMPTY:
        if any(cursor.read(BLOCK)):
            _refuse(cursor, "goes on after an empty block")
        return None
    said = _number(cursor, block[148:156], "checksum")
    bare = block[:148] + b" " * 8 + block[156:]
    # Old writers summed signed bytes.
    if said not in (sum(bare), sum(bare) - 256 * sum(byte > 127 for byte in bare)):  # noqa: PLR2004 - the sign bit
        _refuse(cursor, "is no tar archive, or damaged: a header's checksum is wrong")
    return block


def _extend(cursor: Cursor, header: bytes, flag: bytes, extended: _Extended) -> None:
    size = _number(cursor, header[124:136], "size")
    if size > _MAX_EXTENDED:
        _refuse(cursor, f"has an extended header of {size} bytes")
    body = cursor.read(size)
    if len(body) < size:
        raise cut_off(cursor.name)
    cursor.read(-size % BLOCK)
    if flag == b"L":
        extended.name = body.rstrip(b"\0")
    elif flag != b"K":  # where a link leads is never of interest
        _take_records(cursor, body, extended, everywhere=flag == b"g")


def _take_records(cursor: Cursor, body: bytes, extended: _Extended, *, everywhere: bool) -> None:
    place = 0
    while place < len(body):
        match = _RECORD_LENGTH.match(body, place)
        length = int(match[1]) if match else 0
        record = body[place : place + length]
        if match is None or length <= len(match[0]) or len(record) != length or record[-1:] != b"\n":
            _refuse(cursor, "has a malformed extended header")
        key, equals, value = record[len(match[0]) : -1].partition(b"=")
        place += length
        if not equals or key.startswith(b"GNU.sparse") or (everywhere and key in (b"path", b"size")):
            _refuse(cursor, f"has an extended header with {ascii(key[:_SHOWN])[2:-1]}, which is not read")
        if key == b"path":
            extended.name = value
        elif key == b"size":
            if not _DECIMAL.fullmatch(value):
                _refuse(cursor, "has a file with an impossible size")
            extended.size = int(value)


def _entry(cursor: Cursor, header: bytes, flag: bytes, extended: _Extended) -> Entry:
    raw = _raw_name(header) if extended.name is None else extended.name
    kind = _KINDS.get(flag)
    # Before there was a flag for folders their names ended so.
    if kind is Kind.FILE and raw.endswith(b"/"):
        kind = Kind.FOLDER
    name = _name(cursor, raw, kind)
    shown = clean(name)[:_SHOWN]
    if kind is None:
        what = "a sparse file" if flag == b"S" else f"of the unknown kind {ascii(flag)[2:-1]}"
        _refuse(cursor, f"has {shown}, which is {what}")
    size = _number(cursor, header[124:136], f"size of {shown}") if extended.size is None else extended.size
    if size > _MAX_SIZE:
        _refuse(cursor, f"has {shown} with an impossible size")
    if size and kind is not Kind.FILE:
        _refuse(cursor, f"has {shown}, a {kind} with {size} bytes")
    return Entry(name, kind, cursor.position, size)


def _raw_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    # GNU's own header, "ustar ", has times where the standard has the first part of a long name.
    if header[257:263] != b"ustar\0":
        return name
    prefix = header[345 : 476 if header[508:512] == b"tar\0" else 500].partition(b"\0")[0]
    return prefix + b"/" + name if prefix else name


def _name(cursor: Cursor, raw: bytes, kind: Kind | None) -> str:
    # What is no UTF-8 can stand beside a model in an image; as a file of a model it is refused by its name.
    name = raw.decode("utf-8", "surrogateescape")
    segments = [segment for segment in name.split("/") if segment not in ("", ".")]
    shown = clean(name)[:_SHOWN]
    if name.startswith("/") or ".." in segments or "\0" in name or len(name) > _MAX_NAME:
        _refuse(cursor, f"has the impossible name `{shown}`")
    if not segments and kind is not Kind.FOLDER:
        _refuse(cursor, "has a file without a name")
    return "/".join(segments)


def _number(cursor: Cursor, field: bytes, what: str) -> int:
    if field[0] & 0x80:
        # GNU's form for large numbers: binary, the first bit set; with the second bit set it is negative.
        if field[0] & 0x40:
            _refuse(cursor, f"has a negative {what}")
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    match = _OCTAL.fullmatch(field)
    if match is None:
        _refuse(cursor, f"is no tar archive, or damaged: the {what} is no number")
    return int(match[1] or b"0", 8)


def _end(cursor: Cursor) -> None:
    """Read what follows the end marker; raises FormatError unless it is a bounded number of zeros."""
    padding = cursor.read(_MAX_PADDING + 1)
    if len(padding) > _MAX_PADDING or padding.count(0) != len(padding):
        _refuse(cursor, "goes on after its end")


def _refuse(cursor: Cursor, what: str) -> NoReturn:
    msg = f"{cursor.name} {what}"
    raise FormatError(msg, hint=_MALFORMED)
