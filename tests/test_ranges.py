from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lading.errors import LadingError
from lading.fs import open_regular
from lading.ranges import FileRanges

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ranges(tmp_path: Path) -> FileRanges:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    return FileRanges(open_regular(path), "the file")


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 3, b"\0\1\2"), (98, 5, b"bc"), (100, 5, b""), (10**15, 5, b""), (0, 0, b""), (5, -1, b"")],
)
def test_ranges_end_where_the_file_does(ranges: FileRanges, offset: int, length: int, expected: bytes) -> None:
    assert ranges.read_at(offset, length) == expected
    ranges.close()


def test_a_hostile_length_allocates_no_more_than_the_file_has(ranges: FileRanges) -> None:
    assert ranges.read_at(0, 2**60) == bytes(range(100))
    ranges.close()


def test_reading_a_closed_file_is_an_error_that_names_it(ranges: FileRanges) -> None:
    ranges.close()
    ranges.close()
    with pytest.raises(LadingError, match="cannot read the file"):
        ranges.read_at(0, 1)


def test_the_size_is_that_of_the_opening(ranges: FileRanges, tmp_path: Path) -> None:
    os.truncate(tmp_path / "file", 50)
    assert ranges.size == 100
    assert len(ranges.read_at(0, 100)) == 50
    assert ranges.name == "the file"
    ranges.close()
