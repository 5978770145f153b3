"""One file behind a plain URL: looked at by ranges, pulled whole, named after the URL."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from hostile_server import Asked, Hostile, Reply

    from conftest import CommandLine

pytestmark = pytest.mark.integration


@pytest.fixture
def url(hostile: Hostile, reply: type[Reply], storyteller: Path) -> str:
    data = storyteller.read_bytes()

    def serve(asked: Asked) -> Reply:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("Range", ""))
        if wanted is None:
            return reply(200, data, {"ETag": '"one"'})
        start, end = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        return reply(206, data[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(data)}", "ETag": '"one"'})

    for method in ("HEAD", "GET"):
        hostile.on(method, "/models/story.gguf", serve)
    return f"{hostile.url}/models/story.gguf"


def test_a_file_is_looked_at_without_being_fetched(lading: CommandLine, url: str) -> None:
    page = lading("inspect", url).stdout
    assert "Storyteller, llama, 1.4 M parameters, F16" in page
    read = re.search(r"\((\d+) requests, ([\d.]+) kB read\)", page)
    assert read is not None
    assert float(read[2]) < 600


def test_a_file_is_pulled_as_a_model_and_is_the_same_model_everywhere(
    lading: CommandLine, url: str, tmp_path: Path
) -> None:
    pulled = json.loads(lading("pull", url, "--json").stdout)[0]
    assert pulled["format"] == "modelpack"
    assert pulled["reference"].startswith("url:")
    assert json.loads(lading("pull", url, "--json").stdout)[0]["up_to_date"]
    other = json.loads(lading("pull", url, "--json", more={"LADING_STORE": str(tmp_path / "other")}).stdout)[0]
    assert other["digest"] == pulled["digest"]
    assert lading("run", url, "Once upon a time", "-n", "4").stdout.strip()
    lading("verify")


def test_a_file_that_breaks_off_leaves_nothing_under_its_name(
    lading: CommandLine, url: str, hostile: Hostile, reply: type[Reply], storyteller: Path
) -> None:
    data = storyteller.read_bytes()
    serve = hostile._script["GET", "/models/story.gguf"][0]
    assert callable(serve)

    def broken(asked: Asked) -> Reply:
        return serve(asked) if "Range" in asked.headers else reply(200, data, cut=1_000_000)

    hostile.on("GET", "/models/story.gguf", broken)
    lading("pull", url, code=5)
    assert json.loads(lading("list", "--json").stdout) == []
    assert "no faults" in lading("verify").stdout


def test_a_url_that_is_no_weights_file_is_refused(lading: CommandLine, hostile: Hostile, reply: type[Reply]) -> None:
    hostile.on("HEAD", "/page.html", reply(200, b"<html>"))
    assert ".gguf" in lading("pull", f"{hostile.url}/page.html", code=2).stderr
    assert "https" in lading("pull", "http://192.0.2.1/story.gguf", code=9).stderr
    assert "password" in lading("pull", "https://me:secret@example.org/story.gguf", code=2).stderr
    assert "secret" not in lading("pull", "https://me:secret@example.org/story.gguf", code=2).stderr
