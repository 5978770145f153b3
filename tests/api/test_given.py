from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lading import api
from lading.errors import NotFoundError, UsageError
from lading.model import Role

if TYPE_CHECKING:
    from pathlib import Path


def test_words_and_paths_are_what_package_takes(tmp_path: Path) -> None:
    terms = tmp_path / "terms"
    terms.write_text("MIT")
    given = api.given(
        name="Tales",
        template=tmp_path / "t.jinja",
        mmproj=tmp_path / "eyes.gguf",
        adapters=[tmp_path / "a.gguf", tmp_path / "b.gguf"],
        licences=[str(terms), "(MIT OR Apache-2.0) AND LicenseRef-Mine"],
        params=[("temp", "0.5")],
        annotations=[("org.example.note", "a=b ü")],
    )
    assert given == api.Given(
        files=(
            (Role.TEMPLATE, tmp_path / "t.jinja"),
            (Role.PROJECTOR, tmp_path / "eyes.gguf"),
            (Role.ADAPTER, tmp_path / "a.gguf"),
            (Role.ADAPTER, tmp_path / "b.gguf"),
            (Role.LICENCE, terms),
        ),
        name="Tales",
        licence="(MIT OR Apache-2.0) AND LicenseRef-Mine",
        settings={"temperature": 0.5},
        annotations={"org.example.note": "a=b ü"},
    )
    assert api.given() == api.Given()


@pytest.mark.parametrize("text", ["Apache-2.0", "Unlicense", "GPL-2.0-or-later WITH Bison-exception-2.2", "cc0-1.0"])
def test_a_name_of_spdx_is_a_licence(text: str) -> None:
    assert api.given(licences=[text]).licence == text


@pytest.mark.parametrize("text", ["LICENSE", "license.txt", "COPYING", "terms.md", "legal/MIT"])
def test_a_licence_that_looks_like_a_file_must_be_one(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match=text):
        api.given(licences=[text])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"licences": ["see the website!"]}, "is no file and no licence"),
        ({"licences": ["MIT", "Apache-2.0"]}, "two licences"),
        ({"params": [("threads", "4")]}, "`threads`"),
        ({"annotations": [("io.lading.parameters", "1")]}, "lading's own"),
        ({"annotations": [("a b", "1")]}, "'a b'"),
        ({"annotations": [("", "1")]}, "''"),
        ({"annotations": [("a", "1"), ("a", "2")]}, "twice"),
        ({"annotations": [("a", "x" * 70_000)]}, "longer than 64 KiB"),
        ({"annotations": [("a", "\udcff")]}, "is no text"),
    ],
)
def test_a_word_that_makes_no_sense_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        api.given(**wrong)
    assert said in caught.value.message
