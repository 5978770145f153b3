"""What `pull` tells of several models, of one that is nowhere, and how a failure reads in JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CommandLine

GONE = "oci-layout:gone:1"


@pytest.fixture
def layout(lading: CommandLine, story: Path) -> str:
    lading("pack", story, "-t", "story:1")
    lading("push", "story:1", "oci-layout:out:a")
    return "oci-layout:out:a"


def test_one_that_cannot_be_had_does_not_keep_the_others(lading: CommandLine, layout: str) -> None:
    told = lading("pull", GONE, layout, "hf://a/b@main:Q4_K_M", code=3)
    assert told.stdout.startswith("pulled  a ")
    errors = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
    assert ["gone" in errors[0], "hf://a/b@main:Q4_K_M" in errors[1]] == [True, True]
    assert len(errors) == 2
    # The first failure decides.
    told = lading("pull", "--json", "hf://a/b@main:Q4_K_M", GONE, layout, code=2)
    assert [one["reference"] for one in json.loads(told.stdout)] == ["a"]


def test_a_failure_is_the_last_event(lading: CommandLine, layout: str) -> None:
    told = lading("pull", layout, GONE, "--progress=json", code=3).stderr
    *_, last = map(json.loads, told.splitlines())
    assert (last["event"], last["code"]) == ("failed", 3)
    assert "gone" in last["text"]
    [only] = map(json.loads, lading("pull", "--progress", "json", "--parallel", "0", GONE, code=2).stderr.splitlines())
    assert (only["event"], only["code"], only["hint"]) == ("failed", 2, "lading pull --help")


@pytest.mark.parametrize(
    "command", [("pull", "tale"), ("run", "tale", "Once"), ("inspect", "tale"), ("copy", "tale", "oci-layout:out:1")]
)
def test_a_bare_name_that_is_nowhere_is_told_once_with_the_place_asked(
    lading: CommandLine, command: tuple[str, ...]
) -> None:
    # Nothing listens at port 1, so no name leads anywhere.
    told = lading(*command, more={"HTTPS_PROXY": "http://127.0.0.1:1"}, code=5).stderr
    [error, hint] = told.splitlines()
    assert error.startswith("error: no model here is named `tale`, and at ollama://tale:latest: ")
    assert hint.startswith("hint: ")


def test_a_bare_name_that_is_a_file_or_folder_here_is_told_how_to_be_named(lading: CommandLine, story: Path) -> None:
    (lading.folder / "models").mkdir()
    story.rename(lading.folder / "models.tar")
    proxied = {"HTTPS_PROXY": "http://127.0.0.1:1"}
    assert "hint: for the folder here: ./models\n" in lading("pull", "models", more=proxied, code=5).stderr
    assert "here: oci-archive:models.tar, or" in lading("pull", "models.tar", more=proxied, code=5).stderr
