"""Files by their paths: how a stage holds them, and how a step chooses among them."""

from __future__ import annotations

import pytest

from lading.build.outcome import Held
from lading.build.tree import Tree, choose, is_folder
from lading.digest import Digest
from lading.errors import FormatError, NotFoundError

HELD = Held(Digest.of(b"x"), 1)


def tree(*paths: str) -> Tree:
    return Tree(dict.fromkeys(paths, HELD))


def chosen(found: Tree, path: str, *exclude: str) -> dict[str, list[str]]:
    return {match.root: sorted(match.files) for match in choose(found, path, exclude, "the stage")}


ALL = tree("/a.gguf", "/b.gguf", "/dir/c.gguf", "/dir/deep/d.txt", "/dir/deep/e.md")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.gguf", {"/a.gguf": [""]}),
        ("/a.gguf", {"/a.gguf": [""]}),
        ("./x/../a.gguf", {"/a.gguf": [""]}),
        ("*.gguf", {"/a.gguf": [""], "/b.gguf": [""]}),
        ("[ab].gguf", {"/a.gguf": [""], "/b.gguf": [""]}),
        ("[^a].gguf", {"/b.gguf": [""]}),
        ("?.gguf", {"/a.gguf": [""], "/b.gguf": [""]}),
        ("dir", {"/dir": ["c.gguf", "deep/d.txt", "deep/e.md"]}),
        ("d*/deep", {"/dir/deep": ["d.txt", "e.md"]}),
        ("dir/*/*.txt", {"/dir/deep/d.txt": [""]}),
        ("/", {"/": ["a.gguf", "b.gguf", "dir/c.gguf", "dir/deep/d.txt", "dir/deep/e.md"]}),
    ],
)
def test_a_path_stands_for_a_file_a_folder_or_what_matches(path: str, expected: dict[str, list[str]]) -> None:
    assert chosen(ALL, path) == expected


def test_a_star_stays_within_its_folder() -> None:
    with pytest.raises(NotFoundError, match=r"the stage has no `\*\.txt`"):
        chosen(ALL, "*.txt")


def test_what_is_excluded_is_left_out_of_folders_and_of_matches() -> None:
    assert chosen(ALL, "dir", "**/*.md", "c.gguf") == {"/dir": ["deep/d.txt"]}
    assert chosen(ALL, "*.gguf", "b.*") == {"/a.gguf": [""], "/b.gguf": []}


def test_a_file_cannot_be_a_folder_too() -> None:
    with pytest.raises(FormatError, match="a file and a folder"):
        tree("/a").with_files({"/a/b": HELD})
    with pytest.raises(FormatError, match="a file and a folder"):
        tree("/a/b").with_files({"/a": HELD})
    with pytest.raises(FormatError):
        tree().with_files({"/a/../../b": HELD})
    assert tree("/a").with_files({"/a": HELD, "/ab/c": HELD}).has_folder("/ab")


@pytest.mark.parametrize(("text", "expected"), [("/", True), ("a/", True), (".", True), ("a/..", True), ("a", False)])
def test_a_destination_says_whether_it_is_a_folder(text: str, *, expected: bool) -> None:
    assert is_folder(text) is expected


def test_a_file_of_the_stage_hides_that_of_the_image_below() -> None:
    below = tree("/a", "/b")
    upon = Tree({"/a": Held(Digest.of(b"y"), 1)}, below)
    assert sorted(upon.names("/")) == ["/a", "/b"]
    assert upon.take(["/a", "/b"]) == {"/a": Held(Digest.of(b"y"), 1), "/b": HELD}
