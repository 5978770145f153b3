from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from disks import mounted
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import descriptor, put

from lading.digest import Digest
from lading.errors import AccessDeniedError, FormatError, LadingError, NotFoundError
from lading.store import Store
from lading.store.views import safe_parts

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import CheckStore

ONE, TWO = descriptor(b"1"), descriptor(b"2")
MODEL = Digest.of(b"model")
HOSTILE = [
    "",
    ".",
    "./",
    "..",
    "../x",
    "a/../x",
    "a/..",
    "a/../../x",
    "/x",
    "//x",
    "/etc/passwd",
    "a\0b",
    "a\nb",
    "a\x1b[2Jb",
    "a\x7fb",
    "a\x9bb",
    "..\\x",
    "a\\b",
    "C:\\x",
    "a" * 256,
    "é" * 128,
    "a/" * 600 + "b",
    "\ud800",
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    put(made, "a", b"1", b"2")
    return made


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outside(store: Store) -> list[str]:
    return sorted(
        str(path) for path in store.root.parent.rglob("*") if store.root / "models" not in (path, *path.parents)
    )


def test_a_view_has_the_files_under_their_names_and_is_made_once(store: Store, check_store: CheckStore) -> None:
    files = [("model.gguf", ONE), ("deep/er/tokenizer.json", TWO), ("copy.gguf", ONE), ("./same.gguf", TWO)]
    folder = store.view(MODEL, files)
    expected = {"model.gguf": b"1", "deep/er/tokenizer.json": b"2", "copy.gguf": b"1", "same.gguf": b"2"}
    assert tree(folder) == expected
    assert folder.parent == store.root / "models"
    before = folder.stat().st_mtime_ns
    assert store.view(MODEL, files) == folder
    assert folder.stat().st_mtime_ns == before
    (folder / "model.gguf").unlink()
    (folder / "copy.gguf").unlink()
    (folder / "copy.gguf").symlink_to("nowhere")
    store.view(MODEL, files)
    assert tree(folder) == expected
    check_store(store.root, idle=True)


def test_a_view_costs_no_space(store: Store) -> None:
    folder = store.view(MODEL, [("model.gguf", ONE)])
    assert (folder / "model.gguf").samefile(store.root / ONE.digest.path)


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:30])
def test_a_hostile_name_is_refused_before_anything_is_made(store: Store, name: str) -> None:
    before = outside(store)
    with pytest.raises(FormatError) as error:
        store.view(MODEL, [("fine", ONE), (name, TWO)])
    assert error.value.hint
    assert len(error.value.message) < 500
    assert not (store.root / "models").exists()
    assert outside(store) == before


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a"],
        ["a", "./a"],
        ["a", "a/b"],
        ["a/b", "a"],
        ["a/b/c", "a/b"],
        ["a//b", "a/b"],
        ["a", "A"],
        ["a/B", "A/b"],
        ["a/b", "A"],
        ["caf\u00e9", "cafe\u0301"],
    ],
)
def test_names_that_clash_are_refused(store: Store, names: list[str]) -> None:
    with pytest.raises(FormatError, match="want the name"):
        store.view(MODEL, list(zip(names, (ONE, TWO), strict=True)))
    assert not (store.root / "models").exists()


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(["..", ".", "/", "a", "\\", "\0", "é"])).map("".join)))
def test_the_parts_of_any_name_stay_inside_or_are_refused(name: str) -> None:
    try:
        parts = safe_parts(name)
    except FormatError:
        return
    assert parts
    inside = os.path.normpath(os.path.join("/root", *parts))  # noqa: PTH118 - what the system would make of it
    assert inside.startswith("/root/")
    assert not {"..", ".", ""} & set(parts)


def test_a_blob_that_is_not_there_has_no_view(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.view(MODEL, [("a", ONE), ("b", descriptor(b"absent"))])
    assert not (store.root / "models").exists()


def test_where_no_second_name_can_be_given_it_is_a_link(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lading.fs.hard_link", lambda _source, _target: False)
    folder = store.view(MODEL, [("deep/model.gguf", ONE)])
    link = folder / "deep" / "model.gguf"
    assert link.is_symlink()
    assert not os.readlink(link).startswith("/")  # noqa: PTH115 - as it is written
    assert link.read_bytes() == b"1"
    assert store.view(MODEL, [("deep/model.gguf", ONE)]) == folder


def test_a_stray_folder_where_a_file_is_due_is_an_error_that_names_it(store: Store) -> None:
    (store.root / "models" / MODEL.file_name / "model.gguf").mkdir(parents=True)
    with pytest.raises(LadingError, match=r"model\.gguf"):
        store.view(MODEL, [("model.gguf", ONE)])


def test_threads_that_want_the_same_view_all_get_it(store: Store) -> None:
    errors: list[BaseException] = []

    def make(model: Digest) -> None:
        try:
            store.view(model, [(f"{number}.gguf", ONE) for number in range(30)])
        except BaseException as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    for turn in range(5):
        model = Digest.of(b"%d" % turn)
        threads = [threading.Thread(target=make, args=(model,)) for _number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert errors == []


def test_a_whole_view_is_given_out_from_a_read_only_store(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 1 << 20) as disk:
        store = Store(disk.path / "store")
        put(store, "a", b"1", b"2")
        folder = store.view(MODEL, [("model.gguf", ONE)])
        disk.freeze()
        assert store.view(MODEL, [("model.gguf", ONE)]) == folder
        with pytest.raises(AccessDeniedError, match="read-only"):
            store.view(MODEL, [("model.gguf", ONE), ("other", TWO)])
