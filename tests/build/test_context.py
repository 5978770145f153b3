"""The user's folder as a build context: what is in it, and when it is read again."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lading import api
from lading.build.bench import Bench
from lading.build.context import open_context
from lading.errors import FormatError, IntegrityError, NotFoundError, StoppedError
from lading.events import Event, Started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lading.events import Reporter

BIG = 17 * 1024 * 1024


class Listener:
    """A reporter that keeps which items were begun: big files that are hashed are told of."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, Started):
            self.begun.append(event.key)


@contextmanager
def bench(folder: Path, reporter: Reporter | None = None) -> Iterator[Bench]:
    session = api.Session(api.load_config({"HOME": str(folder), "LADING_STORE": str(folder / "store")}), offline=True)
    with session.store.lease() as lease:
        told = reporter or Listener()
        yield Bench(session.store, lease, told, session.config, lambda: session.client, {}, offline=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub/b.md").write_text("b")
    (folder / "GGUFPackerfile").write_text("FROM scratch\n")
    return folder


def test_names_are_all_files_less_the_ignored_ones(root: Path, tmp_path: Path) -> None:
    (root / "sub/link").symlink_to("b.md")
    (root / "folder-link").symlink_to("sub")
    os.mkfifo(root / "pipe")
    with bench(tmp_path) as at:
        assert open_context(root, at).names("/") == ["/GGUFPackerfile", "/a.txt", "/sub/b.md", "/sub/link"]
        assert open_context(root, at).names("/sub") == ["/sub/b.md", "/sub/link"]
        (root / ".dockerignore").write_text("sub\n")
        assert open_context(root, at).names("/sub") == []
        (root / ".ggufpackerignore").write_text("*.txt\n")  # ours goes before
        assert "/a.txt" not in open_context(root, at).names("/")
        assert open_context(root, at).names("/sub")


def test_what_was_hashed_is_not_read_again_until_it_changes(root: Path, tmp_path: Path) -> None:
    (root / "a.txt").write_bytes(bytes(BIG))
    heard = Listener()
    with bench(tmp_path, heard) as at:
        first = open_context(root, at)
        held = first.take(["/a.txt"])["/a.txt"]
        assert (first.brought, heard.begun) == ({"/a.txt"}, ["/a.txt"])
        assert open_context(root, at).take(["/a.txt"])["/a.txt"] == held
        assert heard.begun == ["/a.txt"]
        with (root / "a.txt").open("r+b") as file:
            file.write(b"x")
        assert open_context(root, at).take(["/a.txt"])["/a.txt"].digest != held.digest
        assert heard.begun == ["/a.txt"] * 2


def test_a_small_file_is_copied_so_that_editing_it_leaves_the_image_whole(root: Path, tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        held = open_context(root, at).take(["/a.txt"])["/a.txt"]
        with (root / "a.txt").open("r+") as file:
            file.write("b")
        assert at.store.blobs.is_whole(held.digest, 1)


def test_a_file_that_changes_while_it_is_read_is_an_error(root: Path, tmp_path: Path) -> None:
    path = root / "a.txt"
    path.write_bytes(bytes(BIG))

    class Writer:
        def emit(self, event: Event) -> None:
            if isinstance(event, Started):
                with path.open("ab") as file:
                    file.write(b"more")

    with bench(tmp_path, Writer()) as at, pytest.raises(IntegrityError, match="was changed while it was read"):
        open_context(root, at).take(["/a.txt"])


def test_a_link_inside_is_followed_and_one_that_leads_out_refused(root: Path, tmp_path: Path) -> None:
    (root / "inside").symlink_to("sub/b.md")
    (root / "outside").symlink_to("/etc/hostname")
    with bench(tmp_path) as at:
        assert open_context(root, at).take(["/inside"])["/inside"].size == 1
        with pytest.raises(FormatError, match="leads out of the context"):
            open_context(root, at).take(["/outside"])


def test_a_context_that_is_no_folder_is_told_of(root: Path, tmp_path: Path) -> None:
    with bench(tmp_path) as at, pytest.raises(NotFoundError, match="is no folder"):
        open_context(root / "a.txt", at)


def test_reading_stops_with_the_build(root: Path, tmp_path: Path) -> None:
    (root / "a.txt").write_bytes(bytes(BIG))
    with bench(tmp_path) as at:
        at.stop.set()
        with pytest.raises(StoppedError):
            open_context(root, at).take(["/a.txt"])
