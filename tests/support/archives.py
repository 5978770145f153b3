"""Archives for tests: made by hand, so that they may lie, or by the real tar; and a source that holds them as layers."""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING

from lading.digest import Digest, VerifyingReader
from lading.manifest import Descriptor
from lading.model import Part, Role, role_of
from lading.ranges import BytesRanges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lading.content import ByteReader, RangeReader
    from lading.manifest import Document

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: bytes | str,
    size: int | bytes = 0,
    flag: bytes = b"0",
    *,
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """Write a header by hand. A size in bytes is put into its field as it is."""
    raw = name.encode() if isinstance(name, str) else name
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    block = b"".join(
        [
            raw.ljust(100, b"\0"),
            b"0000644\0" + b"0000000\0" * 2,
            field,
            b"00000000000\0",
            b" " * 8,
            flag,
            bytes(100),
            magic.ljust(8, b"\0"),
            bytes(80),
            prefix.ljust(167, b"\0"),
        ]
    )
    assert len(block) == BLOCK
    return block[:148] + (b"%06o\0 " % sum(block) if checksum is None else checksum) + block[156:]


def padded(body: bytes) -> bytes:
    return body + bytes(-len(body) % BLOCK)


def member(name: bytes | str, body: bytes = b"", flag: bytes = b"0") -> bytes:
    return header(name, len(body), flag) + padded(body)


def pax(*records: tuple[str, bytes | str], flag: bytes = b"x") -> bytes:
    """Write an extended header with these records."""
    body = b""
    for key, value in records:
        said = key.encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
        length = len(said) + 2
        while len(str(length)) + 1 + len(said) != length:
            length = len(str(length)) + 1 + len(said)
        body += b"%d " % length + said
    return member("pax", body, flag)


def tar(*pieces: bytes) -> bytes:
    return b"".join(pieces) + END


def files(*named: tuple[str, bytes]) -> bytes:
    """Return an archive of regular files."""
    return tar(*(member(name, body) for name, body in named))


def real_tar(folder: Path, *names: str, options: Sequence[str] = ()) -> bytes:
    """Return what the machine's tar makes of files in a folder."""
    command = ["tar", *options, "-C", str(folder), "-cf", "-", *(names or ["."])]
    return subprocess.run(command, check=True, capture_output=True).stdout


def compressed(data: bytes, *command: str) -> bytes:
    """Return what a real compressor makes of bytes."""
    return subprocess.run([*command, "-c"], input=data, check=True, capture_output=True).stdout


def parts_of(bodies: Mapping[str, bytes], roles: Mapping[str, Role]) -> tuple[Part, ...]:
    """Return files as the parts of a model; `roles` where a name does not tell."""
    return tuple(
        Part(roles.get(name) or role_of(name), name, Descriptor.of(body, "application/octet-stream"))
        for name, body in bodies.items()
    )


class Layers:
    """A source of blobs in memory that verifies as every source must. `read` counts the bytes taken by ranges."""

    def __init__(self, *blobs: bytes) -> None:
        self.bodies = {Digest.of(data): data for data in blobs}
        self.read = 0
        self.opened = 0

    def add(self, data: bytes, media_type: str, **annotations: str) -> Descriptor:
        self.bodies[Digest.of(data)] = data
        blob = Descriptor.of(data, media_type)
        return Descriptor(media_type=media_type, digest=blob.digest, size=blob.size, annotations=annotations)

    def document(self, name: str, /) -> Document:
        raise KeyError(name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        self.opened += 1
        stream = io.BytesIO(self.bodies[blob.digest][offset:])
        return (
            stream
            if offset
            else VerifyingReader(stream, f"blob {blob.digest.short}", size=blob.size, digest=blob.digest)
        )

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        return _Counted(self, self.bodies[blob.digest], blob.digest.short)


class Sparse(BytesRanges):
    """A file's beginning, followed by zeros for as long as it takes."""

    def __init__(self, head: bytes, size: int) -> None:
        super().__init__(head, "x")
        self.size = size

    def read_at(self, offset: int, length: int, /) -> bytes:
        length = max(0, min(length, self.size - offset))
        return super().read_at(offset, length).ljust(length, b"\0")


class _Counted(BytesRanges):
    def __init__(self, source: Layers, data: bytes, name: str) -> None:
        super().__init__(data, name)
        self._source = source

    def read_at(self, offset: int, length: int, /) -> bytes:
        data = super().read_at(offset, length)
        self._source.read += len(data)
        return data
