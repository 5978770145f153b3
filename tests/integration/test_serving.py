"""`run` and `serve` as a user meets them, with curl as the client."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from disks import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import CommandLine

pytestmark = pytest.mark.integration


def curl(*arguments: str) -> tuple[int, str]:
    program = shutil.which("curl")
    assert program is not None, "curl is missing: apt-get install curl"
    done = subprocess.run(
        [program, "-sS", "-w", "\n%{http_code}", *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    body, _newline, status = done.stdout.rpartition("\n")
    return int(status), body


def post(url: str, document: object, *headers: str) -> tuple[int, str]:
    more = [part for header in headers for part in ("-H", header)]
    return curl(url, "-H", "Content-Type: application/json", *more, "-d", json.dumps(document))


@contextmanager
def serving(lading: CommandLine, *arguments: str | Path) -> Iterator[str]:
    process = lading.start("serve", *arguments, "-p", "0")
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    match = re.search(r"http://\S+", line)
    assert match, line + process.stderr.read()
    try:
        yield match[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_curl_streams_chat_completions_and_models(lading: CommandLine, story: Path) -> None:
    with serving(lading, story, "--alias", "story") as url:
        status, models = curl(f"{url}/v1/models")
        assert status == 200
        assert json.loads(models)["data"][0]["id"] == "story"
        asked = {"messages": [{"role": "user", "content": "Once upon a time"}], "stream": True, "max_tokens": 16}
        status, streamed = post(f"{url}/v1/chat/completions", asked)
        assert status == 200
        assert streamed.count("data: ") > 5
        assert streamed.rstrip().endswith("data: [DONE]")
        status, whole = post(f"{url}/v1/completions", {"prompt": "In the beginning", "max_tokens": 16})
        assert status == 200
        assert json.loads(whole)["choices"][0]["text"].strip()
        status, refused = post(f"{url}/v1/embeddings", {"input": "light"})
        assert status in (400, 501), refused


def test_a_key_is_asked_for_and_never_shown(lading: CommandLine, story: Path) -> None:
    secret = "k-5f2c9d81aa"
    keys = lading.folder / "keys"
    keys.write_text(f"{secret}\nanother-key\n")
    with serving(lading, story, "--api-key-file", keys) as url:
        everything = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
        assert secret not in everything
        asked = {"messages": [{"role": "user", "content": "And God said"}], "max_tokens": 8}
        assert post(f"{url}/v1/chat/completions", asked)[0] == 401
        assert post(f"{url}/v1/chat/completions", asked, "Authorization: Bearer wrong")[0] == 401
        for key in (secret, "another-key"):
            status, body = post(f"{url}/v1/chat/completions", asked, f"Authorization: Bearer {key}")
            assert status == 200, body


def test_embeddings_are_served_when_asked_for(lading: CommandLine, story: Path) -> None:
    with serving(lading, story, "--embeddings") as url:
        status, body = post(f"{url}/v1/embeddings", {"input": ["light", "darkness"]})
        assert status == 200, body
        vectors = [item["embedding"] for item in json.loads(body)["data"]]
        assert [len(vector) for vector in vectors] == [256, 256]
        assert vectors[0] != vectors[1]


def test_a_detached_server_is_listed_logged_and_stopped(lading: CommandLine, story: Path) -> None:
    lading("pack", story, "-t", "story:1")
    line = lading("serve", "story:1", "--detach", "-p", "0").stdout
    url = line.split()[2]
    try:
        listed = json.loads(lading("ps", "--json").stdout)
        assert [(one["name"], one["reference"], one["url"]) for one in listed] == [("story-1", "story:1", url)]
        assert curl(f"{url}/health")[0] == 200
        lading("rm", "story:1")
        assert lading("prune").stdout.startswith("freed  0 B"), "a served model is leased"
        assert "model loaded" in lading("logs", "story-1").stdout
        lading("serve", "story.gguf", "--detach", "--name", "story-1", "-p", "0", code=10)
    finally:
        lading("stop", "story-1")
    assert json.loads(lading("ps", "--json").stdout) == []
    assert not lading("prune").stdout.startswith("freed  0 B")


def overwrite(path: Path) -> None:
    """Change a byte in place, as a program that saves into its file does."""
    with path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def linked(lading: CommandLine, story: Path) -> None:
    lading("pack", story, "-t", "story:1")
    if not any(path.samefile(story) for path in (lading.store / "blobs" / "sha256").iterdir()):
        pytest.skip("this file system clones: nothing is linked")


@pytest.mark.parametrize("bare", [False, True])
def test_a_file_that_is_changed_is_served_no_longer_in_the_background(
    lading: CommandLine, story: Path, *, bare: bool
) -> None:
    if not bare:
        linked(lading, story)
    lading("serve", story if bare else "story:1", "--detach", "-p", "0", "--name", "it")
    try:
        if not bare:
            os.utime(story)
            time.sleep(3)
            assert json.loads(lading("ps", "--json").stdout), "another time and the same bytes are no change"
        overwrite(story)
        deadline = time.monotonic() + 15
        while json.loads(lading("ps", "--json").stdout):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        # It ended by itself: nothing is left to stop.
        lading("stop", "it", code=3)
    last = lading("logs", "it").stdout.rstrip().splitlines()[-1]
    told = "was changed while it was served" if bare else "was changed after it was packed"
    assert f"{story} {told}" in last


def test_a_file_that_is_changed_is_served_no_longer_in_the_foreground(lading: CommandLine, story: Path) -> None:
    linked(lading, story)
    process = lading.start("serve", "story:1", "-p", "0")
    try:
        assert process.stdout is not None
        assert "http://" in process.stdout.readline()
        overwrite(story)
        _out, told = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 6, told
    assert f"{story} was changed after it was packed" in told
    lading("run", "story:1", "hello", code=6)


def test_a_store_on_a_read_only_disk_is_used_as_it_is(lading: CommandLine, story: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 16 << 20) as disk:
        lading.environment["LADING_STORE"] = str(disk.path / "store")
        lading("pack", story, "-t", "story:1")
        lading("pack", story, "-t", "story:2")
        lading("rm", "story:2")
        disk.freeze()
        assert lading("run", "story:1", "In the beginning", "-n", "4").stdout.strip()
        lading("serve", "story:1", "--detach", "-p", "0")
        lading("stop", "story-1")
        assert lading("prune", "--dry-run").stdout
        assert "read-only" in lading("prune", code=4).stderr
        assert "story:1" in lading("list").stdout
        lading("verify")


def test_a_taken_port_is_named(lading: CommandLine, story: Path) -> None:
    with serving(lading, story) as url:
        port = url.rpartition(":")[2]
        told = lading("serve", story, "-p", port, code=10).stderr
        assert port in told


def test_a_prompt_on_stdin_is_answered(lading: CommandLine, story: Path) -> None:
    answer = lading("run", story, "-n", "12", stdin="And it came to pass\n").stdout
    assert answer.strip()
    lading("run", story, code=2)


def test_the_first_words_arrive_before_the_last(lading: CommandLine, story: Path) -> None:
    process = lading.start("run", story, "Once upon a time", "-n", "200", "--temp", "0")
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 20)
    assert first
    rest, _error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(rest) > 100


class Terminal:
    """A user at a terminal."""

    def __init__(self, lading: CommandLine, *arguments: str | Path) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lading", *map(str, arguments)],
            cwd=lading.folder,
            env={**lading.environment, "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - one thread; the terminal must be the child's own
        )
        os.close(slave)
        self.seen = ""
        self.all = ""

    def expect(self, words: str, seconds: float = 30) -> str:
        deadline = time.monotonic() + seconds
        while words not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{words!r} did not come; seen:\n{self.seen}"
            self._read()
        before, _words, self.seen = self.seen.partition(words)
        return before

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def leave(self) -> int:
        """Type Ctrl-D and return the exit code."""
        self.type("\x04")
        code = self.process.wait(20)
        os.close(self.master)
        return code

    def _read(self) -> None:
        try:
            piece = os.read(self.master, 4096).decode("utf-8", "replace")
            self.seen += piece
            self.all += piece
        except OSError as error:
            message = f"the program ended; seen:\n{self.seen}"
            raise AssertionError(message) from error


def _take_terminal() -> None:
    import fcntl  # noqa: PLC0415 - in the child only
    import termios  # noqa: PLC0415 - as above

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_chat_has_help_and_ctrl_c_stops_the_answer_but_not_the_chat(lading: CommandLine, story: Path) -> None:
    terminal = Terminal(lading, "run", story, "--temp", "0", "--repeat-penalty", "1", "-c", "512")
    terminal.expect("Ctrl-D leaves")
    terminal.expect("> ")
    terminal.type("/help\n")
    terminal.expect("/clear")
    terminal.expect("> ")
    terminal.type("Once upon a time\n")
    terminal.expect("flock")  # temperature 0 goes on about flocks until the context is full
    terminal.type("\x03")
    terminal.expect("stopped")
    terminal.expect("> ")
    terminal.type("/clear\n")
    terminal.expect("> ")
    terminal.type("/nosuch\n")
    terminal.expect("no command")
    terminal.expect("> ")
    time.sleep(0.3)  # no hand is as fast as a test: Python hears Ctrl-C once it waits for input
    terminal.type("\x03")
    terminal.expect("Ctrl-D leaves")
    assert terminal.leave() == 0


def test_a_chat_outlives_its_context_and_bad_bytes(lading: CommandLine, story: Path) -> None:
    terminal = Terminal(lading, "run", story, "-n", "60", "-c", "256")
    terminal.expect("> ")
    words = " ".join(["and the waters were upon the face of the earth"] * 10)
    for _turn in range(3):
        terminal.type(f"{words}\n")
        terminal.expect("> ")
    assert "the context is full" in terminal.all
    terminal.type(f"{words} {words} {words} {words} {words}"[:3500] + "\n")
    terminal.expect("error: ")
    terminal.expect("> ")
    terminal.type("/clear now\n")
    terminal.expect("> ")
    assert terminal.leave() == 0


def test_a_prompt_that_is_no_text_is_refused_in_one_line(lading: CommandLine, story: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lading", "run", str(story)],
        input=b"\xff\xfe",
        env=lading.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr


def test_bars_are_drawn_on_a_terminal_and_lines_elsewhere(lading: CommandLine, story: Path) -> None:
    terminal = Terminal(lading, "pack", story, "-t", "story:1")
    drawn = terminal.expect("packed")
    assert "100 %" in drawn
    assert "story.gguf" in drawn
    assert terminal.process.wait(20) == 0
    plain = lading("pack", story, "-t", "story:2", "--copy")
    assert "\x1b" not in plain.stderr
    events = [json.loads(line) for line in lading("pack", story, "-t", "s:3", "--progress", "json").stderr.splitlines()]
    assert events[0]["event"] == "started"
    assert lading("pack", story, "-t", "story:4", "--progress", "none").stderr == ""
