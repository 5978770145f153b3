from __future__ import annotations

import io
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from archives import Sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.digest import Digest
from lading.formats.archive import Kind, RangeCursor, WrappedReader, read_entries, wrap
from lading.ranges import BytesRanges

if TYPE_CHECKING:
    from pathlib import Path

PATHS = ["models/a.gguf", "x", "models/" + "d" * 150 + "/" + "é" * 100, "a/b/c/d/e/f/g/h/i/j", "n" * 100, "n" * 101]


def archive(path: str, body: bytes) -> bytes:
    return io.BufferedReader(WrappedReader(wrap(path, len(body)), io.BytesIO(body))).read()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 5000])
def test_a_wrapped_file_is_an_archive_of_it_and_its_folders(path: str, size: int) -> None:
    body = b"x" * size
    data = archive(path, body)
    assert len(data) == wrap(path, size).size
    *folders, file = read_entries(RangeCursor(BytesRanges(data, "x"), "x"))
    parents = path.split("/")[:-1]
    assert [entry.name for entry in folders] == ["/".join(parents[: depth + 1]) for depth in range(len(parents))]
    assert {entry.kind for entry in folders} <= {Kind.FOLDER}
    assert (file.name, file.kind, file.size) == (path, Kind.FILE, size)
    assert data[file.offset : file.offset + size] == body
    assert file.offset % 4096 == 0, "file systems share whole blocks"


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar on this machine")
@pytest.mark.parametrize("path", PATHS)
def test_tar_unpacks_it_without_a_word(tmp_path: Path, path: str) -> None:
    body = bytes(range(256)) * 40
    done = subprocess.run(
        ["tar", "-C", str(tmp_path), "-xf", "-"], input=archive(path, body), capture_output=True, check=True
    )
    assert done.stderr == b""
    assert (tmp_path / path).read_bytes() == body
    assert (tmp_path / path).stat().st_mtime == 0


def test_a_file_beyond_eight_gibibytes_has_its_size_in_the_extended_header() -> None:
    size = 40 * 2**30
    wrapping = wrap("models/a.gguf", size)
    assert b"size=%d\n" % size in wrapping.head
    assert wrapping.size == len(wrapping.head) + size + 1024
    entries = read_entries(RangeCursor(Sparse(wrapping.head, wrapping.size), "x"))
    assert [(entry.name, entry.size) for entry in entries] == [("models", 0), ("models/a.gguf", size)]


def test_the_same_file_makes_the_same_bytes_for_ever() -> None:
    # A change of these digests makes every image anew, and sends its weights again.
    assert Digest.of(archive("models/a.gguf", b"GGUF")) == (
        "sha256:f0768256dd7af3b66ddd364dd551c145a7d6465bebf198510049d4a935101880"
    )


@settings(derandomize=True, deadline=None)
@given(
    st.lists(
        st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=90).filter(
            lambda name: name not in (".", "..")
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 2000),
)
def test_any_name_and_length_come_back(segments: list[str], size: int) -> None:
    path = "/".join(segments)
    data = archive(path, b"y" * size)
    *_, file = read_entries(RangeCursor(BytesRanges(data, "x"), "x"))
    assert (file.name, data[file.offset : file.offset + file.size]) == (path, b"y" * size)
    assert file.offset % 4096 == 0


def test_closing_closes_the_file() -> None:
    inner = io.BytesIO(b"x")
    reader = WrappedReader(wrap("a", 1), inner)
    reader.close()
    reader.close()
    assert inner.closed
