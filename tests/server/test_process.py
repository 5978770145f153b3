from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lading.errors import BusyError, FormatError, LadingError, NetworkError, PolicyError, UnfitError
from lading.runtime import Command, Runtime, Sampling, ServeSettings
from lading.server import Probe, Server, start

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration


def small(model: Path, **values: object) -> ServeSettings:
    return ServeSettings(model, **({"port": 0, "ctx_size": 256, "threads": 1} | values))  # type: ignore[arg-type]


class Scripted:
    """A runtime whose process is a few lines of shell."""

    name = "scripted"
    version = "1"
    devices: tuple[str, ...] = ()

    def __init__(self, script: str) -> None:
        self.script = script

    def command(self, settings: ServeSettings) -> Command:
        return Command(("/bin/sh", "-c", self.script, "sh", str(settings.port)), {"PATH": "/usr/bin:/bin"})


def test_a_server_is_ready_when_start_returns_and_gone_after_the_block(
    runtime: Runtime, probe: Probe, story: Path
) -> None:
    with start(runtime, small(story), probe) as server:
        assert probe(f"{server.endpoint.url}/health")
        pid = server.pid
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
    assert not probe(f"{server.endpoint.url}/health")


def test_stopping_twice_is_harmless(started: Callable[[ServeSettings], Server], story: Path) -> None:
    server = started(small(story))
    server.stop()
    server.stop()
    assert not server.alive()


def test_keys_are_on_no_command_line_and_in_no_log(started: Callable[[ServeSettings], Server], story: Path) -> None:
    server = started(small(story, api_keys=("open-sesame",)))
    done = subprocess.run(
        ["curl", "-s", "-H", "Authorization: Bearer open-sesame", f"{server.endpoint.url}/v1/models"],
        capture_output=True,
        check=True,
    )
    assert b"object" in done.stdout
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    mine = [line for line in lines if str(story).encode() in line or b"lading.runtime.child" in line]
    assert mine
    assert not any(b"open-sesame" in line for line in mine)
    assert b"open-sesame" not in os.pread(server._log, 1 << 20, 0)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_of_the_runtime_is_an_error_here(
    started: Callable[[ServeSettings], Server], story: Path, number: signal.Signals
) -> None:
    server = started(small(story))
    os.kill(server.pid, number)
    with pytest.raises(LadingError, match=rf"died \(signal {number.value}, {number.name}\)"):
        server.wait()


def test_a_broken_connection_is_told_as_the_death_it_was(
    started: Callable[[ServeSettings], Server], story: Path
) -> None:
    server = started(small(story))

    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(LadingError, match="signal 9, SIGKILL") as caught, server.watching():
        raise NetworkError("broke")  # noqa: EM101  # one statement in the block
    assert "memory" in caught.value.hint


def test_a_network_error_with_a_living_runtime_stays_one(
    started: Callable[[ServeSettings], Server], story: Path
) -> None:
    server = started(small(story))
    with pytest.raises(NetworkError, match="broke"), server.watching():
        raise NetworkError("broke")  # noqa: EM101  # one statement in the block
    assert server.alive()


@pytest.mark.parametrize("damage", ["cut", "no gguf", "unknown architecture"])
def test_a_model_that_does_not_load_is_named_with_the_reason(
    runtime: Runtime, probe: Probe, story: Path, tmp_path: Path, damage: str
) -> None:
    data = story.read_bytes()
    broken = {
        "cut": (data[: len(data) // 2], FormatError, "not within the file bounds"),
        "no gguf": (b"not a model" * 100, FormatError, "model"),
        "unknown architecture": (
            data.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lamma", 1),
            UnfitError,
            "lamma",
        ),
    }
    content, kind, said = broken[damage]
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(kind, match=said) as caught:
        start(runtime, small(path), probe)
    assert str(path) in caught.value.message
    assert 2 <= len(caught.value.message.splitlines()) <= 4


def test_a_missing_model_is_named(runtime: Runtime, probe: Probe, tmp_path: Path) -> None:
    with pytest.raises(LadingError, match=r"gone\.gguf"):
        start(runtime, small(tmp_path / "gone.gguf"), probe)


def test_a_taken_port_is_named_with_its_holder(runtime: Runtime, probe: Probe, story: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(
            BusyError, match=rf"port {port} on 127\.0\.0\.1 is taken by .* \(pid {os.getpid()}\)"
        ) as caught:
            start(runtime, small(story, port=port), probe)
    assert "--port" in caught.value.hint


def test_a_port_taken_meanwhile_is_told_as_such(story: Path) -> None:
    script = 'echo "0.00.002.395 E srv start: couldn\'t bind HTTP server socket, hostname: 127.0.0.1" >&2; exit 1'
    with pytest.raises(BusyError, match="taken meanwhile"):
        start(Scripted(script), small(story), lambda _url: False)


def test_beyond_this_machine_needs_a_key(runtime: Runtime, probe: Probe, story: Path) -> None:
    with pytest.raises(PolicyError, match="refusing to listen beyond this machine without a key"):
        start(runtime, small(story, host="0.0.0.0"), probe)
    with start(runtime, small(story, host="0.0.0.0", api_keys=("k",)), probe) as server:
        assert server.endpoint.url.startswith("http://127.0.0.1:")
        assert probe(f"{server.endpoint.url}/health")


def test_another_server_that_answers_on_the_port_is_not_mistaken_for_a_dead_child(story: Path) -> None:
    script = "echo 'error: something is wrong' >&2; exit 3"

    # The probe sees health, as it would with a stranger on the port; the child is dead by then.
    def stranger(_url: str) -> bool:
        time.sleep(0.2)
        return True

    with pytest.raises(LadingError, match="something is wrong"):
        start(Scripted(script), small(story), stranger)


def test_patience_ends(story: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(UnfitError, match=r"not ready .* within 0 seconds"):
        start(Scripted("exec sleep 60"), small(story), lambda _url: False, patience=0.2)
    assert time.monotonic() - begin < 10


def test_a_start_can_be_cancelled(story: Path) -> None:
    with pytest.raises(LadingError, match="told to end"):
        start(Scripted("exec sleep 60"), small(story), lambda _url: False, cancelled=lambda: True)


def test_a_runtime_that_ignores_the_request_to_end_is_ended_with_its_children(story: Path) -> None:
    server = start(Scripted("trap '' TERM; sleep 61 & sleep 62"), small(story), lambda _url: True)
    time.sleep(0.3)
    group = server.pid
    begin = time.monotonic()
    server.stop(grace=0.3)
    assert time.monotonic() - begin < 5
    deadline = time.monotonic() + 10
    while members(group):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the embedded one ends with its input only")
def test_the_runtime_dies_with_its_starter(runtime: Runtime, story: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from lading.runtime import ServeSettings, choose\n"
        "from lading.server import http_probe, start\n"
        "environment = dict(line.split('=', 1) for line in sys.stdin.read().split('\\0') if line)\n"
        f"settings = ServeSettings(Path({str(story)!r}), port=0, ctx_size=128, threads=1)\n"
        f"server = start(choose({runtime.name!r}, environment), settings, http_probe())\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        starter.stdin.write("\0".join(f"{name}={value}" for name, value in environment.items()))
        starter.stdin.close()
        pid = int(starter.stdout.readline())
        assert members(pid)
        starter.kill()
    deadline = time.monotonic() + 20
    while members(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_ctrl_c_on_the_terminal_does_not_reach_the_runtime(
    started: Callable[[ServeSettings], Server], story: Path
) -> None:
    server = started(small(story))
    assert os.getpgid(server.pid) != os.getpgid(0)
    assert os.getsid(server.pid) != os.getsid(0)


def test_backends_in_the_working_folder_are_not_loaded(
    started: Callable[[ServeSettings], Server], story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = started(small(story))
    assert Path(f"/proc/{server.pid}/cwd").readlink() == Path("/")


def test_the_users_sampling_and_context_hold(
    started: Callable[[ServeSettings], Server], probe: Probe, story: Path
) -> None:
    sampling = Sampling(0.25, 0.5, 7, 0.125, 1.5, 42, ("qqq",))
    server = started(small(story, sampling=sampling, ctx_size=512, alias="tale"))
    told = curl(server, "/props")
    for said in (
        '"temperature":0.25', '"top_p":0.5', '"top_k":7', '"min_p":0.125', '"repeat_penalty":1.5', '"seed":42',
        '"n_ctx":512', '"total_slots":1', '"model_alias":"tale"',
    ):  # fmt: skip
        assert said in told


def test_a_stop_string_ends_answers(started: Callable[[ServeSettings], Server], story: Path) -> None:
    ask = '{"prompt":"And the LORD said unto","max_tokens":40,"temperature":0}'
    whole = curl(started(small(story)), "/v1/completions", ask)
    word = whole.split('"text":"')[1].split('"')[0].split()[3]
    cut = curl(started(small(story, sampling=Sampling(stop=(word,)))), "/v1/completions", ask)
    assert '"finish_reason":"stop"' in cut
    assert len(cut.split('"text":"')[1].split('"')[0]) < len(whole.split('"text":"')[1].split('"')[0])


def test_a_template_of_the_artifact_is_used(
    started: Callable[[ServeSettings], Server], story: Path, tmp_path: Path
) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}<{{ m.role }}|{{ m.content }}>{% endfor %}")
    server = started(small(story, chat_template=template))
    told = curl(server, "/apply-template", '{"messages":[{"role":"user","content":"hey"}]}')
    assert "<user|hey>" in told


def curl(server: Server, path: str, body: str | None = None, *more: str) -> str:
    asked = [] if body is None else ["-d", body, "-H", "Content-Type: application/json"]
    done = subprocess.run(
        ["curl", "-s", "--max-time", "60", *more, *asked, f"{server.endpoint.url}{path}"],
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout


CHAT = '{"messages":[{"role":"user","content":"Once upon a time"}],"max_tokens":8,"stream":%s}'


@pytest.mark.parametrize("key", [None, "sesame"])
def test_curl_talks_the_openai_api(started: Callable[[ServeSettings], Server], story: Path, key: str | None) -> None:
    server = started(small(story, api_keys=(key,) if key else (), alias="story"))
    login = ("-H", f"Authorization: Bearer {key}") if key else ()
    assert '"id":"story"' in curl(server, "/v1/models", None, *login)
    streamed = curl(server, "/v1/chat/completions", CHAT % "true", "-N", *login)
    assert streamed.count("data: {") >= 8
    assert streamed.rstrip().endswith("data: [DONE]")
    assert '"message":{' in curl(server, "/v1/chat/completions", CHAT % "false", *login)
    completed = curl(server, "/v1/completions", '{"prompt":"In the beginning","max_tokens":8}', *login)
    assert '"object":"text_completion"' in completed
    assert '"finish_reason":"length"' in completed
    if key:
        status = ("-o", "/dev/null", "-w", "%{http_code}")
        assert curl(server, "/v1/chat/completions", CHAT % "true", *status) == "401"
        assert curl(server, "/v1/chat/completions", CHAT % "true", *status, "-H", "Authorization: Bearer no") == "401"


def test_curl_gets_embeddings_from_a_server_started_for_them(
    started: Callable[[ServeSettings], Server], story: Path
) -> None:
    server = started(small(story, embeddings=True, pooling="mean"))
    told = curl(server, "/v1/embeddings", '{"input":["the king","the queen"]}')
    assert told.count('"embedding":[') == 2


def test_a_foreign_page_may_not_read_the_answers_of_a_server_without_a_key(
    started: Callable[[ServeSettings], Server], story: Path
) -> None:
    server = started(small(story))
    foreign = curl(server, "/v1/models", None, "-i", "-H", "Origin: https://evil.example")
    allowed = [line for line in foreign.lower().splitlines() if line.startswith("access-control-allow-origin:")]
    assert not any("evil.example" in line or line.endswith("*") for line in allowed)
    assert "http://localhost:3000" in curl(server, "/v1/models", None, "-i", "-H", "Origin: http://localhost:3000")


def members(group: int) -> list[str]:
    """Return the ids of the living processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            values = path.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(values[2]) == group and values[0] != b"Z":
            found.append(path.parent.name)
    return found
