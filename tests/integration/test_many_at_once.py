"""Many processes on one store: together they fetch what each of them wants, and take from nobody what he uses."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from checker import check_store
from counting_proxy import CountingProxy
from trials import weights

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

MEBIBYTE = 1 << 20
SIZE = 24 * MEBIBYTE
PROCESSES = 16
FETCHED_AGAIN = 8 * MEBIBYTE
RACED = 2 * MEBIBYTE
"""The most that several connections on one blob fetch twice, where one of them lags behind."""
SMALL = 64 * 1024
"""More than a config or a manifest has."""


@dataclass(frozen=True)
class Remote:
    """A model in a real registry, with the reference that leads through the counting proxy."""

    reference: str
    digest: str
    weights: str
    size: int


@pytest.fixture
def proxy(plain_registry: RegistryProcess) -> Iterator[CountingProxy]:
    made = CountingProxy(plain_registry.host)
    yield made
    made.stop()


@pytest.fixture
def model(lading: CommandLine, plain_registry: RegistryProcess, proxy: CountingProxy, tmp_path: Path) -> Remote:
    repository = "many/" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
    file = lading.folder / "noise.gguf"
    file.write_bytes(weights(SIZE))
    elsewhere = {"LADING_STORE": str(tmp_path / "elsewhere")}
    lading("pack", file, "-t", "noise:1", more=elsewhere)
    lading("push", "noise:1", f"{plain_registry.host}/{repository}:1", more=elsewhere)
    shown = json.loads(lading("inspect", "noise:1", "--json", more=elsewhere).stdout)
    (part,) = shown["parts"]
    return Remote(f"{proxy.host}/{repository}:1", shown["digest"], part["digest"], part["size"])


@contextmanager
def pulling(lading: CommandLine, model: Remote, *flags: str) -> Iterator[subprocess.Popen[str]]:
    process = lading.start("pull", model.reference, *flags, "--progress", "json")
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def follow(process: subprocess.Popen[str], until: int = 1) -> int:
    """Read what a pull tells of its progress until that many bytes are there, and return the last figure."""
    assert process.stderr is not None
    done = 0
    for line in process.stderr:
        done = int(json.loads(line).get("done", done))
        if done >= until:
            return done
    message = f"it ended with {process.wait()} after {done} bytes"
    raise AssertionError(message)


def first_event(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return str(json.loads(process.stderr.readline())["event"])


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for a pull's end and return what it printed."""
    out, told = process.communicate(timeout=120)
    assert process.returncode == code, told
    return out


def blobs(lading: CommandLine) -> set[str]:
    return {f"sha256:{path.name}" for path in (lading.store / "blobs/sha256").iterdir()}


def part(lading: CommandLine, model: Remote) -> Path:
    return lading.store / "ingest" / model.weights.replace(":", "-")


@pytest.mark.parametrize(("flags", "twice"), [(("--parallel", "1"), 0), ((), RACED)])
def test_sixteen_processes_fetch_each_byte_once(
    lading: CommandLine, proxy: CountingProxy, model: Remote, flags: tuple[str, ...], twice: int
) -> None:
    proxy.rate = MEBIBYTE // 4  # until all have come
    words = ("pull", model.reference, *flags, "--json", "--progress", "json")
    processes = [lading.start(*words) for _ in range(PROCESSES)]
    assert {first_event(process) for process in processes} == {"started"}
    proxy.rate = 16 * MEBIBYTE
    answers = []
    onlookers = 0
    for process in processes:
        out, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
        answers += json.loads(out)
        # The first line may be the rest of what was read above.
        events = [json.loads(line) for line in told.splitlines()[1:]]
        onlookers += any(0 < event.get("done", 0) < model.size for event in events)
    assert {answer["digest"] for answer in answers} == {model.digest}
    fetched = {path.rpartition("/")[2]: count for path, count in proxy.sent.items() if "/blobs/" in path}
    assert model.size <= fetched.pop(model.weights) <= model.size + twice
    assert sum(fetched.values()) < SMALL
    assert all(proxy.fetched(digest) == [0] for digest in fetched)
    assert sum(answer["new_bytes"] >= model.size for answer in answers) == 1, "one of them fetched it"
    assert onlookers == PROCESSES, "all see how far it is"
    assert sum("/blobs/" not in one.path for one in proxy.asked) <= 2 * PROCESSES
    names = check_store(lading.store, committed=[model.reference], arriving=0)
    assert names[model.reference] == model.digest


@pytest.mark.parametrize("flags", [("--parallel", "1"), ()])
def test_who_waits_sees_the_leader_and_takes_over_when_it_is_killed(
    lading: CommandLine, proxy: CountingProxy, model: Remote, flags: tuple[str, ...]
) -> None:
    proxy.rate = 12 * MEBIBYTE
    with pulling(lading, model, *flags) as leader:
        follow(leader, 4 * MEBIBYTE)
        with pulling(lading, model, *flags) as waiter:
            assert follow(waiter) >= MEBIBYTE, "what it tells of is the other's work"
            reached = follow(leader, 10 * MEBIBYTE)
            leader.kill()
            leader.wait()
            before = len(proxy.fetched(model.weights))
            assert finish(waiter).startswith("pulled")
    assert proxy.fetched(model.weights)[0] == 0
    taken_up = proxy.fetched(model.weights)[before:]
    assert reached - FETCHED_AGAIN <= min(taken_up) < model.size
    assert proxy.blob_bytes <= model.size + FETCHED_AGAIN + SMALL
    assert check_store(lading.store, committed=[model.reference], arriving=0)
    assert "no faults" in lading("verify").stdout


def test_who_waits_and_is_interrupted_leaves_the_leader_alone(
    lading: CommandLine, proxy: CountingProxy, model: Remote
) -> None:
    proxy.rate = 12 * MEBIBYTE
    with pulling(lading, model) as leader:
        follow(leader, 2 * MEBIBYTE)
        with pulling(lading, model) as waiter:
            follow(waiter)
            waiter.send_signal(signal.SIGINT)
            finish(waiter, 130)
        finish(leader)
    assert proxy.blob_bytes <= model.size + RACED


def test_a_collection_takes_nothing_from_a_pull_and_all_from_a_dead_one(
    lading: CommandLine, proxy: CountingProxy, model: Remote, story: Path
) -> None:
    proxy.rate = 8 * MEBIBYTE
    lading("pack", story, "-t", "story:1", "--copy")
    before = blobs(lading)
    with pulling(lading, model) as process:
        reached = follow(process, 6 * MEBIBYTE)
        lading("rm", "story:1")
        assert not lading("prune").stdout.startswith("freed  0 B")
        assert not before & blobs(lading), "what nobody names or leases is freed meanwhile"
        assert part(lading, model).stat().st_size >= reached - FETCHED_AGAIN
        lading("prune")
        finish(process)
    assert proxy.blob_bytes <= model.size + RACED
    assert check_store(lading.store, committed=[model.digest])
    lading("rm", model.reference)
    lading("prune")
    with pulling(lading, model) as process:
        follow(process, 6 * MEBIBYTE)
    assert part(lading, model).exists()
    lading("prune")
    assert check_store(lading.store, swept=True) == {}


def test_a_collection_takes_nothing_from_a_run(lading: CommandLine, story: Path) -> None:
    lading("pack", story, "-t", "story:1", "--copy")
    used = blobs(lading)
    endless = ("-n", "1500", "--ctx-size", "2048", "--temp", "0", "--repeat-penalty", "1")
    process = lading.start("run", "story:1", "Once upon a time", *endless)
    try:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGSTOP)
        lading("rm", "story:1")
        assert lading("prune").stdout.startswith("freed  0 B")
        assert blobs(lading) == used
        process.send_signal(signal.SIGCONT)
        assert len(finish(process)) > 100
    finally:
        process.kill()
        process.wait()
    lading("prune")
    assert check_store(lading.store, swept=True) == {}


def test_what_a_killed_server_leased_is_freed_and_not_before(lading: CommandLine, story: Path) -> None:
    lading("pack", story, "-t", "story:1", "--copy")
    used = blobs(lading)
    process = lading.start("serve", "story:1", "-p", "0")
    try:
        assert process.stdout is not None
        assert re.search(r"http://\S+", process.stdout.readline())
        lading("rm", "story:1")
        assert lading("prune").stdout.startswith("freed  0 B")
        assert blobs(lading) == used
    finally:
        process.kill()
        process.communicate()
    lading("prune")
    assert check_store(lading.store, swept=True) == {}
