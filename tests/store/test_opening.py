"""In which folders a store is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lading.errors import UsageError
from lading.store import Store

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_of_other_things_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    store = Store(tmp_path)
    assert store.tags() == ()
    with pytest.raises(UsageError, match=r"holds other things: thesis\.txt") as caught:
        store.put_bytes(b"x")
    assert "LADING_STORE" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("there", ["ingest", "locks", "lost+found", "blobs"])
def test_a_store_that_was_only_begun_is_gone_on_with(tmp_path: Path, there: str) -> None:
    (tmp_path / there).mkdir()
    assert Store(tmp_path).put_bytes(b"x")


def test_a_layout_of_anybody_is_a_store_whatever_lies_beside(tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "README").write_text("theirs")
    assert Store(tmp_path).put_bytes(b"x")
