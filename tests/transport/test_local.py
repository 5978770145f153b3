"""Layouts of others: which of several models is meant, and what writing needs beside their own files goes again."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

import pytest
from sources import put

from lading.digest import Digest
from lading.errors import FormatError, UsageError
from lading.reference import Layout
from lading.transport.local import only_tag, open_layout, tidy

if TYPE_CHECKING:
    from pathlib import Path

    from lading.store import Store

PART = Digest.of(b"to come").file_name


@pytest.fixture
def layout(tmp_path: Path) -> Store:
    made = open_layout(Layout(str(tmp_path / "layout")))
    put(made, "story:1", b"weights")
    return made


def test_nothing_but_the_layout_is_left_when_nobody_writes(layout: Store) -> None:
    tidy(layout)
    assert sorted(path.name for path in layout.root.iterdir()) == ["blobs", "index.json", "oci-layout"]
    tidy(layout)


@pytest.mark.parametrize("folder", ["ingest", "leases"])
def test_work_of_which_a_killed_writer_left_a_part_goes(layout: Store, folder: str) -> None:
    (layout.work / folder).rmdir()
    tidy(layout)
    assert not layout.work.exists()


@pytest.mark.parametrize("folder", ["ingest", "leases"])
def test_a_layout_of_whose_work_a_part_is_left_is_written_to(layout: Store, folder: str) -> None:
    (layout.work / folder).rmdir()
    put(layout, "story:2", b"more")
    assert [tag.name for tag in layout.tags()] == ["story:1", "story:2"]


@pytest.mark.parametrize("name", ["unknown.1.7f", "index.json", f"{PART}.record", "sha256-short"])
def test_what_a_killed_writer_left_and_nobody_can_take_up_goes_with_it(layout: Store, name: str) -> None:
    (layout.work / "ingest" / name).write_bytes(b"left")
    tidy(layout)
    assert not layout.work.exists()


def test_what_another_writer_can_take_up_or_holds_stays(layout: Store) -> None:
    left, held = (layout.work / "ingest" / name for name in (PART, "unknown.1.7f"))
    left.write_bytes(b"to")
    held.write_bytes(b"to")
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        tidy(layout)
        assert held.exists()
    tidy(layout)
    assert [path.name for path in (layout.work / "ingest").iterdir()] == [PART]


def test_of_several_one_has_to_be_named(layout: Store) -> None:
    place = Layout(str(layout.root))
    assert only_tag(layout, place) == "story:1"
    put(layout, "story:2", b"more")
    with pytest.raises(UsageError, match="holds 2 models: story:1, story:2"):
        only_tag(layout, place)
    for name in ("story:1", "story:2"):
        layout.untag(name)
    with pytest.raises(FormatError, match="holds no model"):
        only_tag(layout, place)
