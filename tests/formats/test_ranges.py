from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lading.errors import FormatError, LadingError
from lading.formats.gguf import read_header
from lading.ranges import BytesRanges, FileRanges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.content import RangeReader

CONTENT = bytes(range(256)) * 4


@pytest.fixture(params=["file", "bytes"])
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RangeReader]:
    if request.param == "bytes":
        yield BytesRanges(CONTENT, "thing")
        return
    path = tmp_path / "thing"
    path.write_bytes(CONTENT)
    ranges = FileRanges(os.open(path, os.O_RDONLY), "thing", len(CONTENT))
    yield ranges
    ranges.close()


def test_ranges_are_what_the_file_holds(reader: RangeReader) -> None:
    assert (reader.name, reader.size) == ("thing", 1024)
    assert reader.read_at(0, 1024) == CONTENT
    assert reader.read_at(1000, 24) == CONTENT[1000:]
    assert reader.read_at(1000, 100) == CONTENT[1000:]
    assert reader.read_at(5, 0) == b""
    assert reader.read_at(1024, 10) == b""
    assert reader.read_at(2**63, 10) == b""


def test_closing_again_is_harmless(reader: RangeReader) -> None:
    reader.close()
    reader.close()


def test_a_closed_file_is_closed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    descriptor = os.open(tmp_path / "f", os.O_RDONLY)
    ranges = FileRanges(descriptor, "f", 1)
    ranges.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with pytest.raises(LadingError, match="cannot read f"):
        ranges.read_at(0, 1)


def test_bytes_beyond_the_size_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    ranges = FileRanges(os.open(tmp_path / "f", os.O_RDONLY), "f", 10)
    assert ranges.read_at(0, 100) == CONTENT[:10]
    ranges.close()


def test_a_file_that_shrank_yields_less_and_the_header_reader_notices(tmp_path: Path, small_gguf: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(small_gguf)
    ranges = FileRanges(os.open(path, os.O_RDONLY), "m.gguf", len(small_gguf))
    os.truncate(path, 100)
    with pytest.raises(FormatError, match=r"m\.gguf ended at byte 100 while it was read"):
        read_header(ranges)
    ranges.close()


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """CVE-2024-39721: a server read /dev/random as a model, for ever."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with pytest.raises(FormatError, match="not a regular file"):
            FileRanges(descriptor, str(path), 2**40)
        os.close(descriptor)
