from __future__ import annotations

import gzip
import io
import random
import shutil
import struct
import sys
from typing import TYPE_CHECKING

import pytest
from archives import compressed, files, real_tar

from lading.errors import FormatError
from lading.formats.archive import Compression, StreamCursor, decompressed, read_entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b"".join(b"line %d\n" % number for number in range(40_000))
PACKERS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.GZIP: lambda data: gzip.compress(data, mtime=0),
    Compression.ZSTD: zstd.compress,
}
both = pytest.mark.parametrize("kind", PACKERS)
needs = {name: pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} here") for name in ("gzip", "zstd")}


def unpacked(data: bytes, kind: Compression, step: int = 100_000) -> bytes:
    reader = decompressed(io.BytesIO(data), kind, "layer x")
    buffer = memoryview(bytearray(step))
    parts = []
    while count := reader.readinto(buffer):
        parts.append(bytes(buffer[:count]))
    assert reader.readinto(buffer) == 0, "the end stays the end"
    reader.close()
    return b"".join(parts)


@both
@pytest.mark.parametrize("step", [1000, 65_537, 10_000_000])
def test_a_stream_comes_back_whole_in_reads_of_any_length(kind: Compression, step: int) -> None:
    noise = random.Random(1).randbytes(300_000)
    for data in (TEXT, noise, b"", b"x"):
        assert unpacked(PACKERS[kind](data), kind, step) == data


@both
def test_streams_one_after_another_are_one(kind: Compression) -> None:
    pack = PACKERS[kind]
    assert unpacked(pack(b"a") + pack(b"") + pack(TEXT) + pack(b"z"), kind) == b"a" + TEXT + b"z"


def test_the_frames_that_zstd_chunked_hides_its_table_in_are_passed_over() -> None:
    hidden = struct.pack("<II", 0x184D2A50, 4) + b"abcd"
    assert unpacked(zstd.compress(b"one") + hidden + zstd.compress(b"two") + hidden, Compression.ZSTD) == b"onetwo"


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        pytest.param(Compression.GZIP, ["gzip", "-9"], marks=needs["gzip"]),
        pytest.param(Compression.ZSTD, ["zstd", "-q", "-3"], marks=needs["zstd"]),
        pytest.param(Compression.ZSTD, ["zstd", "-q", "--ultra", "-22", "--long=27"], marks=needs["zstd"]),
    ],
)
def test_what_real_compressors_write_is_read(tmp_path: Path, kind: Compression, command: list[str]) -> None:
    (tmp_path / "a.gguf").write_bytes(TEXT)
    data = compressed(real_tar(tmp_path, "a.gguf"), *command)
    cursor = StreamCursor(decompressed(io.BytesIO(data), kind, "layer x"), "layer x")
    found = {entry.name: cursor.read(entry.size) for entry in read_entries(cursor)}
    assert found == {"a.gguf": TEXT}


@both
@pytest.mark.parametrize("left", [0, 1, 10, 1000, -1])
def test_a_stream_that_breaks_off_is_refused(kind: Compression, left: int) -> None:
    with pytest.raises(FormatError, match="layer x is cut off"):
        unpacked(PACKERS[kind](TEXT)[:left], kind)


@both
@pytest.mark.parametrize("data", [b"no such stream", b"\0" * 100, TEXT, files(("a", b"x"))])
def test_what_is_in_another_format_is_refused(kind: Compression, data: bytes) -> None:
    with pytest.raises(FormatError, match=f"layer x is no {kind} stream"):
        unpacked(data, kind)
    with pytest.raises(FormatError, match=f"layer x is no {kind} stream"):
        unpacked(PACKERS[kind](TEXT) + data, kind)


@both
def test_damage_within_is_refused(kind: Compression) -> None:
    # gzip has a checksum of its own; zstd's is optional, so what it cannot tell the layer's digest must.
    data = bytearray(gzip.compress(TEXT) if kind is Compression.GZIP else _with_checksum(TEXT))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(FormatError, match="layer x is"):
        unpacked(bytes(data), kind)


def _with_checksum(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


@both
def test_a_bomb_is_stopped_in_bounded_memory(kind: Compression) -> None:
    bomb = PACKERS[kind](bytes(256 * 1024 * 1024))
    reader = decompressed(io.BytesIO(bomb), kind, "layer x")
    buffer = memoryview(bytearray(1 << 20))
    given: list[int] = []
    with pytest.raises(FormatError, match="layer x becomes more than") as caught:
        given.extend(iter(lambda: reader.readinto(buffer), 0))
    assert sum(given) <= 65 * 1024 * 1024
    assert "compressed ones" in caught.value.message
    reader.close()


@both
def test_small_things_may_shrink_as_much_as_they_like(kind: Compression) -> None:
    assert unpacked(PACKERS[kind](bytes(60_000_000)), kind, 1 << 20) == bytes(60_000_000)


def test_no_stream_becomes_longer_than_any_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lading.formats.archive.compression.MAX_LENGTH", 1000)
    with pytest.raises(FormatError, match="becomes more than"):
        unpacked(gzip.compress(random.Random(1).randbytes(2000)), Compression.GZIP)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd here")
def test_a_window_that_would_eat_the_memory_is_refused() -> None:
    # The stream's length is not told, so the frame asks for the whole window of 2 GiB.
    huge = compressed(b"x", "zstd", "-q", "--ultra", "-22", "--long=31")
    with pytest.raises(FormatError, match="is no zstd stream"):
        unpacked(huge, Compression.ZSTD)


def test_many_short_members_take_time_in_proportion_alone() -> None:
    member = gzip.compress(b"", mtime=0)
    assert unpacked(member * 20_000, Compression.GZIP) == b""
