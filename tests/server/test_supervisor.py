from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lading.errors import BusyError, FormatError, LadingError, NotFoundError, PolicyError, UnfitError, UsageError
from lading.runtime import Runtime, ServeSettings
from lading.runtime.wire import encode
from lading.server import Launch, ServerRecord, detach, find, logs, name_for, servers, stop
from lading.server.record import process_start, write
from lading.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of records whose servers end with the test."""
    folder = tmp_path / "state" / "servers"
    yield folder
    for record in servers(folder):
        stop(folder, record.name)


@pytest.fixture
def launch(folder: Path, runtime: Runtime, story: Path, environment: dict[str, str]) -> Callable[..., Launch]:
    def make(name: str = "story", **settings: object) -> Launch:
        values = {"port": 0, "ctx_size": 256, "threads": 1, "api_keys": ("open-sesame",)} | settings
        told = ServeSettings(values.pop("model", story), **values)  # type: ignore[arg-type]
        return Launch(folder, name, "oci://r.io/story:1", "sha256:" + "0" * 64, runtime.name, told, environment)

    return make


def wait_until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def status(record: ServerRecord, *more: str) -> str:
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *more, f"{record.url}/v1/models"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            values = path.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(values[1]) == pid:
            found.append(int(path.parent.name))
    return found


def test_a_server_in_the_background_lives_listed_until_it_is_stopped(
    launch: Callable[..., Launch], folder: Path
) -> None:
    record = detach(launch())
    assert servers(folder) == (record,)
    assert (record.name, record.reference, record.host) == ("story", "oci://r.io/story:1", "127.0.0.1")
    assert record.runtime_version
    assert status(record) in {"200", "401"}
    assert status(record, "-H", "Authorization: Bearer open-sesame") == "200"
    (runtime,) = children(record.pid)
    assert stop(folder, "story") == record
    assert not Path(f"/proc/{runtime}").exists()
    assert servers(folder) == ()
    assert not list(folder.glob("*.json"))
    assert status(record) == "000"


def test_keys_are_in_no_record_log_or_command_line(launch: Callable[..., Launch], folder: Path) -> None:
    record = detach(launch())
    assert status(record, "-H", "Authorization: Bearer open-sesame") == "200"
    for path in folder.iterdir():
        assert b"sesame" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0
    for pid in (record.pid, *children(record.pid)):
        assert b"sesame" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"sesame" not in Path(f"/proc/{record.pid}/environ").read_bytes()


def test_a_supervisor_has_a_session_and_no_parent_of_ours(launch: Callable[..., Launch]) -> None:
    record = detach(launch())
    assert os.getsid(record.pid) != os.getsid(0)
    assert record.pid not in children(os.getpid())
    assert not any(process_start(pid) == "" for pid in children(os.getpid())), "a zombie is left"


def test_the_log_is_there_while_the_server_lives_and_after(launch: Callable[..., Launch], folder: Path) -> None:
    detach(launch())
    assert b"listening on" in b"".join(logs(folder, "story"))
    stop(folder, "story")
    assert b"listening on" in b"".join(logs(folder, "story", follow=True))
    with pytest.raises(NotFoundError, match="tale"):
        logs(folder, "tale")


def test_a_second_server_of_the_same_name_is_refused_and_another_is_not(
    launch: Callable[..., Launch], folder: Path
) -> None:
    first = detach(launch())
    with pytest.raises(BusyError, match="`story` is running already") as caught:
        detach(launch())
    assert "lading stop story" in caught.value.hint
    second = detach(launch("tale"))
    assert servers(folder) == (first, second)
    assert status(first, "-H", "Authorization: Bearer open-sesame") == "200"


def test_a_name_is_free_again_after_its_server(launch: Callable[..., Launch], folder: Path) -> None:
    first = detach(launch())
    stop(folder, "story")
    assert detach(launch()).pid != first.pid


def test_a_killed_supervisor_takes_its_runtime_along(launch: Callable[..., Launch], folder: Path) -> None:
    record = detach(launch())
    (runtime,) = children(record.pid)
    os.kill(record.pid, signal.SIGKILL)
    wait_until(lambda: process_start(runtime) == process_start(record.pid) == "")
    assert servers(folder) == ()
    with pytest.raises(NotFoundError, match="no server named `story`"):
        stop(folder, "story")


def test_a_crash_of_the_runtime_ends_the_server_and_is_in_its_log(launch: Callable[..., Launch], folder: Path) -> None:
    record = detach(launch())
    (runtime,) = children(record.pid)
    os.kill(runtime, signal.SIGSEGV)
    wait_until(lambda: process_start(record.pid) == "")
    assert servers(folder) == ()
    assert b"died (signal 11, SIGSEGV)" in b"".join(logs(folder, "story"))


def test_a_model_that_does_not_load_is_the_same_error_as_in_the_foreground(
    launch: Callable[..., Launch], folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"not a model" * 100)
    with pytest.raises(FormatError, match=r"cannot serve .*broken\.gguf") as caught:
        detach(launch(model=path))
    assert caught.value.hint
    assert servers(folder) == ()


def test_beyond_this_machine_without_a_key_nothing_is_started(launch: Callable[..., Launch], folder: Path) -> None:
    with pytest.raises(PolicyError):
        detach(launch(host="0.0.0.0", api_keys=()))
    assert not folder.exists()


def test_a_taken_port_is_told_with_its_holder(launch: Callable[..., Launch]) -> None:
    record = detach(launch())
    with pytest.raises(BusyError, match=f"port {record.port} .* is taken by"):
        detach(launch("tale", port=record.port))


def test_what_a_server_needs_is_held_in_the_store(launch: Callable[..., Launch], folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    held = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)
    detach(replace(launch(), store=store.root, held=held))
    (lease,) = store.leases.glob("*.lease")
    assert lease.read_text().split() == list(held)
    stop(folder, "story")
    assert not list(store.leases.glob("*.lease"))


def test_an_interrupted_start_leaves_nothing(
    launch: Callable[..., Launch], folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    # A llama-server that never gets ready, and says who it is.
    program = tmp_path / "llama-server"
    program.write_text(f"#!/bin/sh\n[ $1 = --version ] || echo $$ >{tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    code = (
        "import sys\n"
        "from lading.runtime.wire import decode\n"
        "from lading.server import Launch, detach\n"
        "detach(decode(sys.stdin.buffer.read(), Launch))\n"
    )
    told = replace(launch(), runtime="llama-server", environment={**environment, "PATH": f"{tmp_path}:/usr/bin:/bin"})
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as command:
        assert command.stdin is not None
        command.stdin.write(encode(told))
        command.stdin.close()
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        pid = int((tmp_path / "pid").read_text())
        assert process_start(pid)
        command.send_signal(signal.SIGINT)
    wait_until(lambda: process_start(pid) == "")
    assert servers(folder) == ()
    assert not list(folder.glob("*.json"))


def test_a_missing_runtime_is_told_by_the_supervisor(story: Path, folder: Path, environment: dict[str, str]) -> None:
    nowhere = {**environment, "PATH": "/nowhere"}
    with pytest.raises(UnfitError, match="llama-server is not on the PATH"):
        detach(Launch(folder, "story", "r", "d", "llama-server", ServeSettings(story, port=0), nowhere))


def test_a_supervisor_that_cannot_start_is_an_error_with_its_reason(
    story: Path, folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "lading").mkdir()
    (tmp_path / "lading" / "__init__.py").write_text("raise ImportError('no such thing')")
    broken = {**environment, "PYTHONPATH": str(tmp_path)}
    with pytest.raises(LadingError, match=r"supervisor failed: .*no such thing"):
        detach(Launch(folder, "story", "r", "d", "embedded", ServeSettings(story, port=0), broken))


# -- records ------------------------------------------------------------------


def record_of(pid: int, start: str, name: str = "story") -> ServerRecord:
    return ServerRecord(
        name=name,
        pid=pid,
        process_start=start,
        reference="r",
        digest="d",
        host="127.0.0.1",
        port=1,
        url="http://127.0.0.1:1",
        runtime="embedded",
        runtime_version="1",
        started="2026-01-01T00:00:00.000+00:00",
    )


def test_a_process_that_got_a_dead_servers_id_is_never_signalled(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as stranger:
        write(tmp_path, record_of(stranger.pid, "an earlier boot 1"))
        with pytest.raises(NotFoundError):
            stop(tmp_path, "story")
        assert stranger.poll() is None
        assert not (tmp_path / "story.json").exists()
        stranger.kill()


def test_a_process_that_ignores_the_request_is_ended_with_force(tmp_path: Path) -> None:
    with subprocess.Popen(
        ["/bin/sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"], stdout=subprocess.PIPE
    ) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        write(tmp_path, record_of(deaf.pid, process_start(deaf.pid)))
        stop(tmp_path, "story", grace=0.2)
        assert deaf.wait(10) == -signal.SIGKILL


def test_a_zombie_does_not_run(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        start = process_start(child.pid)
        assert start
        assert process_start(child.pid) == start
        child.kill()
        wait_until(lambda: process_start(child.pid) == "")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"name": "story", "pid": "x"}', b"\xff\xfe", b"x" * 100_000])
def test_a_damaged_record_is_removed_and_harms_nobody(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "story.json").write_bytes(data)
    assert servers(tmp_path) == ()
    assert not (tmp_path / "story.json").exists()


def test_without_a_folder_nothing_runs(tmp_path: Path) -> None:
    assert servers(tmp_path / "none") == ()
    with pytest.raises(NotFoundError):
        find(tmp_path / "none", "story")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".x", "a b", "x" * 65, "a\n"])
def test_a_name_that_could_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    for use in (find, stop, logs):
        with pytest.raises(UsageError):
            use(tmp_path, name)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("registry.acme.io/team/story:1", "story-1"),
        ("hf://Qwen/Qwen3-8B-GGUF:Q5_K_M@main", "Qwen3-8B-GGUF-Q5_K_M"),
        ("localhost:5000/story@sha256:" + "0" * 64, "story"),
        ("./models/a b.gguf", "a-b.gguf"),
        ("///", "model"),
        ("ü", "model"),
    ],
)
def test_a_name_is_made_from_the_reference(reference: str, name: str) -> None:
    assert name_for(reference) == name


def test_a_record_is_json_with_the_words_of_ps(tmp_path: Path) -> None:
    write(tmp_path, record_of(os.getpid(), process_start(os.getpid())))
    assert set(json.loads((tmp_path / "story.json").read_bytes())) == {
        *("name", "pid", "process_start", "reference", "digest", "host", "port", "url"),
        *("runtime", "runtime_version", "started"),
    }
    assert find(tmp_path, "story").pid == os.getpid()


def test_a_stopped_server_leaves_its_log_and_nothing_else(launch: Callable[..., Launch], folder: Path) -> None:
    detach(launch())
    stop(folder, "story")
    assert [path.name for path in folder.iterdir()] == ["story.log"]


def test_a_killed_supervisor_is_told_in_the_log_and_leaves_nothing_else(
    launch: Callable[..., Launch], folder: Path
) -> None:
    record = detach(launch())
    os.kill(record.pid, signal.SIGKILL)
    wait_until(lambda: process_start(record.pid) == "")
    assert servers(folder) == ()
    assert servers(folder) == ()
    assert [path.name for path in folder.iterdir()] == ["story.log"]
    text = b"".join(logs(folder, "story")).decode()
    assert text.endswith("lading: the server was killed, or the machine went down\n")
    assert text.count("was killed") == 1


def test_logs_go_a_week_after_their_last_line_and_not_those_of_the_living(
    launch: Callable[..., Launch], folder: Path
) -> None:
    detach(launch())
    for name in ("old", "recent"):
        (folder / f"{name}.log").write_text("said\n")
    week = time.time() - 7 * 24 * 3600
    for name in ("old", "story"):
        os.utime(folder / f"{name}.log", (week - 60, week - 60))
    os.utime(folder / "recent.log", (week + 3600, week + 3600))
    assert [record.name for record in servers(folder)] == ["story"]
    assert sorted(path.name for path in folder.glob("*.log")) == ["recent.log", "story.log"]
