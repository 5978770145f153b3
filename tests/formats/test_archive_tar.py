from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest
from archives import BLOCK, END, Layers, files, header, member, padded, pax, real_tar, tar
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.errors import FormatError, IntegrityError
from lading.formats.archive import Cursor, Entry, Kind, RangeCursor, StreamCursor, read_entries
from lading.ranges import BytesRanges

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "layer sha256:abc"
needs_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="no tar on this machine")


def by_ranges(data: bytes) -> Cursor:
    return RangeCursor(BytesRanges(data, "x"), NAME)


def by_stream(data: bytes) -> Cursor:
    return StreamCursor(io.BytesIO(data), NAME)


@pytest.fixture(params=[by_ranges, by_stream])
def cursor(request: pytest.FixtureRequest) -> Callable[[bytes], Cursor]:
    made: Callable[[bytes], Cursor] = request.param
    return made


def listed(data: bytes) -> list[Entry]:
    """What both ways of reading agree on."""
    found = list(read_entries(by_ranges(data)))
    assert list(read_entries(by_stream(data))) == found
    return found


def contents(data: bytes) -> dict[str, bytes]:
    return {one.name: data[one.offset : one.offset + one.size] for one in listed(data) if one.kind is Kind.FILE}


@needs_tar
@pytest.mark.parametrize("form", ["gnu", "pax", "oldgnu"])
def test_what_tar_writes_is_read_to_the_byte(tmp_path: Path, form: str) -> None:
    long = "folder with a long name " * 5 + "/" + "n" * 180 + "é"
    bodies = {"a.gguf": os.urandom(100_000), "empty": b"", "b/c/d.txt": b"x" * BLOCK, long: b"deep"}
    for name, body in bodies.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(body)
    (tmp_path / "link").symlink_to("a.gguf")
    data = real_tar(tmp_path, options=["--format", form])
    assert contents(data) == bodies
    kinds = {entry.name: entry.kind for entry in listed(data)}
    assert kinds["b/c"] is Kind.FOLDER
    assert kinds["link"] is Kind.SYMBOLIC_LINK


@needs_tar
@pytest.mark.parametrize("form", ["ustar", "v7"])
def test_old_forms_are_read_too(tmp_path: Path, form: str) -> None:
    name = "d" * 60 + "/" + "n" * 39 if form == "v7" else "d" * 140 + "/" + "n" * 90
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b"body")
    assert contents(real_tar(tmp_path, name, options=["--format", form])) == {name: b"body"}


@needs_tar
def test_hard_links_and_pipes_are_told_by_their_kind(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"body")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "p")
    kinds = {entry.name: entry.kind for entry in listed(real_tar(tmp_path, "a", "b", "p"))}
    assert kinds == {"a": Kind.FILE, "b": Kind.HARD_LINK, "p": Kind.DEVICE}


def test_bodies_are_not_read_where_ranges_can_pass_over_them() -> None:
    source = Layers()
    blob = source.add(files(("a.gguf", bytes(10_000_000)), ("b.gguf", bytes(10_000_000))), "x")
    assert len(list(read_entries(RangeCursor(source.ranges(blob), NAME)))) == 2
    assert source.read < 300_000


def test_many_small_files_take_few_reads() -> None:
    asked: list[tuple[int, int]] = []

    class Noting(BytesRanges):
        def read_at(self, offset: int, length: int, /) -> bytes:
            asked.append((offset, length))
            return super().read_at(offset, length)

    data = files(*((f"f{number}", bytes(3000)) for number in range(4000)))
    assert len(list(read_entries(RangeCursor(Noting(data, "x"), NAME)))) == 4000
    assert len(asked) < 15
    assert sum(min(length, len(data) - offset) for offset, length in asked) <= len(data)


def test_the_bytes_of_the_entry_at_hand_can_be_read_and_need_not_be(cursor: Callable[[bytes], Cursor]) -> None:
    place = cursor(files(("a", b"12345"), ("b", b"67890"), ("c", b"abcde")))
    found = {}
    for entry in read_entries(place):
        if entry.name != "b":
            found[entry.name] = place.read(entry.size if entry.name == "c" else 2)
    assert found == {"a": b"12", "c": b"abcde"}


def test_a_name_is_plain_whatever_it_was_written_as() -> None:
    data = tar(member("./", flag=b"5"), member("./a//b/./c", b"x"), member("d/", flag=b"0"))
    assert [(entry.name, entry.kind) for entry in listed(data)] == [
        ("", Kind.FOLDER),
        ("a/b/c", Kind.FILE),
        ("d", Kind.FOLDER),
    ]


def test_the_last_word_of_an_extended_header_counts_and_only_for_the_next_entry() -> None:
    data = tar(pax(("path", "first"), ("path", "a" * 300), ("mtime", "1.5")), member("short", b"x"), member("b", b"y"))
    assert contents(data) == {"a" * 300: b"x", "b": b"y"}
    sized = tar(pax(("size", "3")), header("a", 0) + padded(b"abc"))
    assert contents(sized) == {"a": b"abc"}
    long = tar(member("././@LongLink", b"n" * 200 + b"\0", b"L"), member("n" * 100, b"x"))
    assert contents(long) == {"n" * 200: b"x"}


def test_a_long_link_target_and_a_comment_for_all_are_of_no_interest() -> None:
    data = tar(
        pax(("comment", "0" * 40), flag=b"g"),
        member("././@LongLink", b"t" * 200 + b"\0", b"K"),
        member("l", flag=b"2"),
        member("a", b"x"),
    )
    assert [(entry.name, entry.kind) for entry in listed(data)] == [("l", Kind.SYMBOLIC_LINK), ("a", Kind.FILE)]


@pytest.mark.parametrize("end", [b"", bytes(BLOCK), bytes(BLOCK + 100), END + bytes(9 * 1024)])
def test_an_archive_may_end_without_its_end_and_with_more_of_it(end: bytes) -> None:
    assert contents(member("a", b"x") + end) == {"a": b"x"}
    assert contents(header("a", 3) + b"abc") == {"a": b"abc"}, "umoci leaves out the last padding too"


def test_a_large_size_is_read_in_both_forms() -> None:
    size = 9 * 2**40
    for raw in (header("big", b"\x80" + size.to_bytes(11, "big")), pax(("size", str(size))) + header("big")):
        # A stream of that length cannot be made here; the entry is seen before its end is missed.
        with pytest.raises(FormatError, match="cut off"):
            list(read_entries(by_stream(raw)))
        assert next(read_entries(by_stream(raw))).size == size


def test_a_signed_checksum_of_an_old_writer_is_accepted() -> None:
    raw = header("é")
    signed = sum(byte - 256 if byte > 127 else byte for byte in raw[:148] + b" " * 8 + raw[156:])
    assert [entry.name for entry in listed(header("é", checksum=b"%06o\0 " % signed) + END)] == ["é"]


def test_what_is_no_utf8_keeps_the_archive_readable() -> None:
    assert [entry.name for entry in listed(tar(member(b"\xff\xfe", b"x")))] == ["\udcff\udcfe"]


HOSTILE = {
    "nothing": (b"", "is cut off"),
    "half a header": (header("a")[:300], "is cut off"),
    "a lone empty block": (bytes(BLOCK) + member("a", b"x") + END, "goes on after an empty block"),
    "text": (b"<html>" * 200, "is no tar archive"),
    "a wrong checksum": (header("a", checksum=b"000000\0 ") + END, "checksum is wrong"),
    "no checksum": (header("a", checksum=b"xxxxxxxx") + END, "checksum is no number"),
    "a changed name": (b"b" + header("a")[1:] + END, "checksum is wrong"),
    "a member after the end": (tar() + member("a", b"x") + END, "goes on after its end"),
    "endless padding": (tar() + bytes(2 * 1024 * 1024), "goes on after its end"),
    "a body cut off": (header("a", 2000) + bytes(1000), "cut off"),
    "half a second header": (member("a", b"x") + header("b")[:100], "cut off"),
    "a size beyond the archive": (header("a", 8**11 - 1) + END, "cut off"),
    "eight exbibytes": (header("a", b"\x80" + (2**63).to_bytes(11, "big")) + END, "impossible size"),
    "a negative size": (header("a", b"\xff" * 12) + END, "negative size"),
    "a size in words": (header("a", b"many\0".ljust(12, b"\0")) + END, "size of a is no number"),
    "a size with a sign": (header("a", b"-0000000001\0") + END, "is no number"),
    "a size in pax with a sign": (pax(("size", "-1")) + header("a") + END, "impossible size"),
    "a size in pax beyond all": (pax(("size", "9" * 19)) + header("a") + END, "impossible size"),
    "the parent folder": (tar(member("../a", b"x")), r"impossible name `\.\./a`"),
    "the parent of a folder": (tar(member("a/../../b", b"x")), "impossible name"),
    "the parent in pax": (tar(pax(("path", "a/../b")), member("a", b"x")), "impossible name"),
    "the parent in GNU's long name": (tar(member("L", b"../b\0", b"L"), member("a", b"x")), "impossible name"),
    "the parent in the prefix": (tar(header("a", prefix=b"..")), r"impossible name `\.\./a`"),
    "an absolute name": (tar(member("/etc/passwd", b"x")), "impossible name `/etc/passwd`"),
    "an absolute folder": (tar(member("/", flag=b"5")), "impossible name"),
    "no name": (tar(member("", b"x")), "a file without a name"),
    "a name of dots": (tar(member("./.", b"x")), "a file without a name"),
    "a nul in a name": (tar(pax(("path", "a\0b")), member("a", b"x")), "impossible name"),
    "a name without end": (tar(pax(("path", "a" * 40_000)), member("a", b"x")), "impossible name"),
    "a link with a body": (tar(member("a", b"x", b"2")), "a, a symbolic link with 1 bytes"),
    "a folder with a body": (tar(member("a", b"x", b"5")), "a, a folder with 1 bytes"),
    "a sparse file of GNU's": (tar(member("a", b"x", b"S")), "a, which is a sparse file"),
    "a sparse file in pax": (tar(pax(("GNU.sparse.major", "1")), member("a", b"x")), r"GNU\.sparse\.major"),
    "an unknown kind": (tar(member("a", b"x", b"Z")), "of the unknown kind Z"),
    "a path for all": (tar(pax(("path", "b"), flag=b"g"), member("a", b"x")), "extended header with path"),
    "a size for all": (tar(pax(("size", "9"), flag=b"g"), member("a", b"x")), "extended header with size"),
    "an extended header of nothing": (tar(pax(("path", "a"))), "cut off"),
    "a huge extended header": (header("x", 2**21, b"x") + bytes(2**21) + END, "an extended header of"),
    "an extended header cut off": (header("x", 600, b"x") + bytes(100), "cut off"),
    "a record without a length": (tar(member("x", b"path=a\n", b"x"), member("a")), "malformed extended header"),
    "a record of length 0": (tar(member("x", b"0 path=a\n", b"x"), member("a")), "malformed extended header"),
    "a record too long": (tar(member("x", b"99 path=a\n", b"x"), member("a")), "malformed extended header"),
    "a record too short": (tar(member("x", b"5 path=a\n", b"x"), member("a")), "malformed extended header"),
    "a record without a value": (tar(member("x", b"7 path\n", b"x"), member("a")), "which is not read"),
}


@pytest.mark.parametrize(("data", "why"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_plain_archive_is_refused_by_name(cursor: Callable[[bytes], Cursor], data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why) as caught:
        list(read_entries(cursor(data)))
    assert NAME in caught.value.message
    assert caught.value.message.isprintable()
    assert caught.value.hint


def test_a_strangers_name_reaches_no_terminal_as_it_is(cursor: Callable[[bytes], Cursor]) -> None:
    with pytest.raises(FormatError) as caught:
        list(read_entries(cursor(tar(member(b"../\x1b[2J\n" + b"x" * 80, b"x")))))
    assert caught.value.message.isprintable()


def test_an_archive_of_more_files_than_anybody_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lading.formats.archive.tar.MAX_ENTRIES", 3)
    many = files(*((f"f{number}", b"") for number in range(4)))
    with pytest.raises(FormatError, match="holds more than 3 files"):
        list(read_entries(by_ranges(many)))


def test_every_damage_ends_in_an_error_or_in_entries_within_the_archive() -> None:
    original = files(("a.gguf", b"x" * 700), ("d/b", b""))[: -len(END)] + tar(
        pax(("path", "é" * 60)), member("c", b"y" * 10), member("L", b"n" * 150 + b"\0", b"L"), member("n", b"z")
    )
    chance = random.Random(11)
    for _ in range(1500):
        data = bytearray(original)
        for _ in range(chance.choice((1, 1, 2, 5))):
            match chance.randrange(4):
                case 0:
                    data[chance.randrange(len(data))] = chance.randrange(256)
                case 1:
                    # A whole header with a right checksum in a place where none was.
                    at = chance.randrange(len(data) // BLOCK) * BLOCK
                    flag = chance.choice((b"0", b"5", b"x", b"L", b"2", b"S"))
                    data[at : at + BLOCK] = header("h", chance.choice((0, 1, 512, 10**6)), flag)
                case 2:
                    del data[chance.randrange(len(data)) :]
                    data += bytes(BLOCK)
                case _:
                    del data[chance.randrange(len(data)) :][:100]
        outcomes: list[object] = []
        for way in (by_ranges, by_stream):
            try:
                found = list(read_entries(way(bytes(data))))
            except IntegrityError:
                outcomes.append("refused")
                continue
            assert all(entry.offset + entry.size <= len(data) for entry in found)
            outcomes.append(found)
        assert outcomes[0] == outcomes[1], "both ways must see the same archive"


@settings(derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=150),
            st.binary(max_size=1500),
        ),
        max_size=6,
        unique_by=lambda item: item[0],
    )
)
def test_any_files_come_back_from_pythons_own_writer(named: list[tuple[str, bytes]]) -> None:
    wanted = {name: body for name, body in named if name not in (".", "..")}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            for name, body in wanted.items():
                info = tarfile.TarInfo(name)
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
        assert contents(buffer.getvalue()) == wanted
