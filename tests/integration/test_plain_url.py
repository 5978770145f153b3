"""One file behind a plain URL: looked at by ranges, pulled whole, named after the URL."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hostile_server import Handler, Quiet
from trials import weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hostile_server import Asked, Hostile, Reply

    from conftest import CommandLine

pytestmark = pytest.mark.integration

MEBIBYTE = 1 << 20


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


def asked(hostile: Hostile, method: str) -> list[Mapping[str, str]]:
    """Return the headers of the requests for bytes of the body, or of the questions for it; the header's are left out."""
    heads = [one.headers for one in hostile.asked if one.method == method]
    return [one for one in heads if re.fullmatch(r"(bytes=\d+-)?", one.get("Range", ""))]


def test_pulling_again_costs_one_request_and_no_byte(lading: CommandLine, url: str, hostile: Hostile) -> None:
    lading("pull", url)
    before = len(hostile.asked)
    again = json.loads(lading("pull", url, "--json").stdout)[0]
    assert again["up_to_date"]
    assert again["new_bytes"] == 0
    assert [one.method for one in hostile.asked[before:]] == ["HEAD"]
    lading("rm", again["reference"])
    named = json.loads(lading("pull", url, "-t", "story:1", "--json").stdout)[0]
    assert (named["digest"], named["new_bytes"]) == (again["digest"], 0)
    assert len(asked(hostile, "GET")) == 1


@pytest.mark.parametrize("kind", ["gguf", "no gguf"])
def test_a_big_file_comes_whole_from_a_server_that_knows_no_ranges(
    lading: CommandLine, hostile: Hostile, reply: type[Reply], kind: str
) -> None:
    data = weights(5 * MEBIBYTE) if kind == "gguf" else bytes(5 * MEBIBYTE)
    for method in ("HEAD", "GET"):
        hostile.on(method, "/big.gguf", reply(200, data))
    pulled = lading("pull", f"{hostile.url}/big.gguf", "--json", code=0 if kind == "gguf" else 6)
    whole = [one for one in hostile.asked if one.method == "GET" and "Range" not in one.headers]
    assert len(whole) == 1
    if kind == "gguf":
        assert json.loads(pulled.stdout)[0]["new_bytes"] == len(data)
    else:
        assert json.loads(lading("list", "--json").stdout) == []


@pytest.fixture
def big(tmp_path: Path) -> bytes:
    """A model of 24 MiB."""
    return weights(24 * MEBIBYTE)


class Dying:
    """A server that breaks off at 16 MiB, and is silent from then on until it is mended."""

    def __init__(self, hostile: Hostile, reply: type[Reply], data: bytes, headers: Mapping[str, str]) -> None:
        self.data = data
        self.headers = headers
        self.silent = threading.Event()
        self.mended = threading.Event()
        self._reply = reply
        for method in ("HEAD", "GET"):
            hostile.on(method, "/big.gguf", self._serve)
        self.url = f"{hostile.url}/big.gguf"

    def _serve(self, asked: Asked) -> Reply:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("Range", ""))
        if asked.method == "HEAD" or wanted is None:
            cut = None if asked.method == "HEAD" or self.mended.is_set() else 16 * MEBIBYTE
            return self._reply(200, self.data, self.headers, cut=cut)
        if asked.headers.get("If-Range", self.headers.get("ETag")) not in self.headers.values():
            return self._reply(200, self.data, self.headers)
        start, end = int(wanted[1]), int(wanted[2] or len(self.data) - 1)
        if not wanted[2] and not self.mended.is_set():
            self.silent.set()
            self.mended.wait(60)
        span = {"Content-Range": f"bytes {start}-{end}/{len(self.data)}"}
        return self._reply(206, self.data[start : end + 1], {**self.headers, **span})

    def kill_a_pull(self, lading: CommandLine) -> None:
        """Kill a process that pulls once 16 MiB have come."""
        process = lading.start("pull", self.url)
        assert self.silent.wait(60)
        process.kill()
        process.communicate()
        self.mended.set()


@pytest.mark.parametrize(
    "headers", [{"ETag": '"one"'}, {"ETag": 'W/"one"', "Last-Modified": "Tue, 14 Nov 2023 08:00:00 GMT"}]
)
def test_a_pull_that_was_killed_is_taken_up(
    lading: CommandLine, hostile: Hostile, reply: type[Reply], big: bytes, headers: dict[str, str]
) -> None:
    server = Dying(hostile, reply, big, headers)
    server.kill_a_pull(lading)
    before = len(asked(hostile, "GET"))
    pulled = json.loads(lading("pull", server.url, "--json").stdout)[0]
    [rest] = asked(hostile, "GET")[before:]
    assert int(rest["Range"][6:-1]) >= 8 * MEBIBYTE
    assert rest["If-Range"] in headers.values()
    blobs = {path.read_bytes() for path in (lading.store / "blobs/sha256").iterdir()}
    assert big in blobs
    assert pulled["new_bytes"] == len(big)


def test_a_part_of_a_version_that_is_gone_is_not_taken_up(
    lading: CommandLine, hostile: Hostile, reply: type[Reply], big: bytes
) -> None:
    server = Dying(hostile, reply, big, {"ETag": '"one"'})
    server.kill_a_pull(lading)
    server.data, server.headers = big[:-1] + bytes([big[-1] ^ 1]), {"ETag": '"two"'}
    before = len(asked(hostile, "GET"))
    lading("pull", server.url)
    assert [one.get("Range") for one in asked(hostile, "GET")[before:]] == [None]
    assert server.data in {path.read_bytes() for path in (lading.store / "blobs/sha256").iterdir()}
    # The part of the first version has no owner any more.
    left = sum(path.stat().st_size for path in (lading.store / "ingest").iterdir())
    assert left >= 8 * MEBIBYTE
    assert "unfinished" in lading("prune").stdout
    assert list((lading.store / "ingest").iterdir()) == []


@pytest.mark.parametrize("arguments", [["--no-resume"], []])
def test_a_part_is_dropped_on_request_and_where_nothing_tells_its_version(
    lading: CommandLine, hostile: Hostile, reply: type[Reply], big: bytes, arguments: list[str]
) -> None:
    server = Dying(hostile, reply, big, {"ETag": '"one"' if arguments else 'W/"one"'})
    if arguments:
        server.kill_a_pull(lading)
    else:
        assert "broke off" in lading("pull", server.url, code=5).stderr
        server.mended.set()
    before = len(asked(hostile, "GET"))
    lading("pull", server.url, *arguments)
    assert [one.get("Range") for one in asked(hostile, "GET")[before:]] == [None]


def test_what_a_query_holds_is_told_nowhere(
    lading: CommandLine, url: str, hostile: Hostile, reply: type[Reply]
) -> None:
    secret = "canary-7f3a"
    hostile.on("HEAD", "/models/story.txt", reply(body=b"x"))
    signed = f"{url}?token={secret}"
    said = [
        lading("inspect", signed),
        lading("inspect", signed, "--json"),
        lading("pull", signed, "--json", "--progress", "json"),
        lading("pull", signed, "--limit-rate", "1G", "--no-resume", "--progress", "plain"),
        lading("pull", signed.replace("story", "gone"), code=3),
        lading("pull", signed.replace(".gguf", ".txt"), code=2),
        lading("inspect", signed, "--json"),
        lading("list", "--json"),
        lading("verify", "--json"),
    ]
    assert any(f"token={secret}" in one.target for one in hostile.asked)
    assert [secret in done.stdout + done.stderr for done in said] == [False] * len(said)
    assert json.loads(said[-2].stdout)[0]["source"] == url
    blob = max((lading.store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.unlink()
    assert secret not in lading("verify", "--repair").stdout, "the store keeps it, to fetch a lost file again"
    assert blob.exists()


class Narrow:
    """A server that sends 10 MB/s over each connection; pieces from the middle are of the version `pieces`, if one is given.

    `deaf` to If-Range, it sends a piece of what it has to whoever wants one of another version.
    """

    def __init__(self, data: bytes, *, pieces: bytes = b"", deaf: bool = False) -> None:
        self.asked: list[Mapping[str, str]] = []
        self._data = data
        self._pieces = pieces
        self._deaf = deaf

        def serve(handler: Handler) -> None:
            self._serve(handler)

        self._server = Quiet(("127.0.0.1", 0), type("Slow", (Handler,), {"do_HEAD": serve, "do_GET": serve}))
        self.url = f"http://127.0.0.1:{self._server.server_port}/big.gguf"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def middle(self) -> list[Mapping[str, str]]:
        """The headers of the requests for pieces, the header of the file left out."""
        return [one for one in self.asked if re.fullmatch(r"bytes=\d{7,}-\d+", one.get("Range", ""))]

    def _serve(self, handler: Handler) -> None:
        headers = dict(handler.headers.items())
        self.asked.append(headers)
        other = bool(self._pieces) and self.middle[-1:] == [headers]
        data, version = (self._pieces, '"two"') if other else (self._data, '"one"')
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", ""))
        if wanted and not self._deaf and headers.get("If-Range", version) != version:
            wanted = None
        start, end = (int(wanted[1]), int(wanted[2] or len(data) - 1) + 1) if wanted else (0, len(data))
        handler.send_response(206 if wanted else 200)
        handler.send_header("ETag", version)
        handler.send_header("Content-Length", str(end - start))
        if wanted:
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        handler.end_headers()
        for at in range(start, end if handler.command == "GET" else start, MEBIBYTE // 16):
            handler.wfile.write(data[at : min(at + MEBIBYTE // 16, end)])
            time.sleep(MEBIBYTE / 16 / 10e6)


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_file_that_is_slow_over_one_connection_comes_over_as_many_as_there_may_be(
    lading: CommandLine, parallel: int
) -> None:
    data = weights(32 * MEBIBYTE)
    server = Narrow(data)
    try:
        pulled = json.loads(lading("pull", server.url, "--parallel", str(parallel), "--json").stdout)[0]
    finally:
        server.stop()
    assert pulled["new_bytes"] == len(data)
    assert bool(server.middle) == (parallel > 1)
    assert all(one["If-Range"] == '"one"' for one in server.middle)
    assert data in {path.read_bytes() for path in (lading.store / "blobs/sha256").iterdir()}


@pytest.mark.parametrize("deaf", [False, True])
def test_pieces_of_another_version_never_become_part_of_a_file(lading: CommandLine, *, deaf: bool) -> None:
    data = weights(32 * MEBIBYTE)
    server = Narrow(data, pieces=bytes(len(data)), deaf=deaf)
    try:
        lading("pull", server.url)
    finally:
        server.stop()
    assert server.middle
    assert data in {path.read_bytes() for path in (lading.store / "blobs/sha256").iterdir()}


def test_a_promised_digest_is_held_and_what_has_it_is_not_fetched(
    lading: CommandLine, hostile: Hostile, reply: type[Reply], storyteller: Path
) -> None:
    data = storyteller.read_bytes()
    told = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {"Repr-Digest": f"sha-256=:{told}:"}
    hostile.on("HEAD", "/story.gguf", reply(200, data, headers))
    # A flipped bit behind the header.
    hostile.on("GET", "/story.gguf", reply(200, data[:-1] + b"\xff", headers))
    assert "has digest sha256:" in lading("pull", f"{hostile.url}/story.gguf", code=6).stderr
    assert json.loads(lading("list", "--json").stdout) == []
    lading("pack", storyteller, "-t", "mine:1")
    before = len(hostile.asked)
    assert json.loads(lading("pull", f"{hostile.url}/story.gguf", "--json").stdout)[0]["new_bytes"] == 0
    assert [one.method for one in hostile.asked[before:]] == ["HEAD"]


def test_two_that_pull_the_same_file_fetch_it_once(
    lading: CommandLine, hostile: Hostile, reply: type[Reply], big: bytes
) -> None:
    server = Dying(hostile, reply, big, {"ETag": '"one"'})
    first = lading.start("pull", server.url, "--json")
    assert server.silent.wait(60)
    second = lading.start("pull", server.url, "-t", "mine:1", "--json")
    while len(asked(hostile, "HEAD")) < 2:
        time.sleep(0.02)
    server.mended.set()
    told = [json.loads(process.communicate(timeout=60)[0])[0] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert told[0]["digest"] == told[1]["digest"]
    assert sorted(one["new_bytes"] for one in told) == [0, len(big)]
    assert [one.get("Range") for one in asked(hostile, "GET")] == [None, f"bytes={16 * MEBIBYTE}-"]


def test_an_interrupted_pull_says_what_is_kept(
    lading: CommandLine, hostile: Hostile, reply: type[Reply], big: bytes
) -> None:
    server = Dying(hostile, reply, big, {"ETag": '"one"'})
    process = lading.start("pull", server.url)
    assert server.silent.wait(60)
    process.send_signal(signal.SIGINT)
    server.mended.set()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert re.search(r"interrupted: [\d.]+ MB of 25\.2 MB kept; the same command resumes", said)


def test_a_url_that_is_no_weights_file_is_refused(lading: CommandLine, hostile: Hostile, reply: type[Reply]) -> None:
    hostile.on("HEAD", "/page.html", reply(200, b"<html>"))
    assert ".gguf" in lading("pull", f"{hostile.url}/page.html", code=2).stderr
    assert "https" in lading("pull", "http://192.0.2.1/story.gguf", code=9).stderr
    assert "password" in lading("pull", "https://me:secret@example.org/story.gguf", code=2).stderr
    assert "secret" not in lading("pull", "https://me:secret@example.org/story.gguf", code=2).stderr
