"""Faults of the network, between lading and a real registry: each is survived, and the next try succeeds."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from chaos_proxy import KINDS, Fault, schedule
from checker import BrokenPromiseError, check_store
from trials import COMMANDS, PULLS, SECRETS, SILENT, World, codes, struck_trial

from lading import api
from lading.errors import NetworkError

if TYPE_CHECKING:
    from pathlib import Path

    from real_registry import RegistryProcess

    from .conftest import Record

pytestmark = pytest.mark.integration

SAMPLE = 4
DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130, 143}
MEBIBYTE = 1 << 20


CASES = [(kind, command) for kind in KINDS for command in COMMANDS]


@pytest.mark.parametrize(("kind", "command"), CASES)
def test_a_broken_path_is_survived(world: World, record: Record, fault_seed: int, kind: str, command: str) -> None:
    for number in range(SAMPLE):
        record("network", kind, command)
        outcome = struck_trial(world, kind, command, fault_seed * SAMPLE + number)
        assert outcome.codes[-1] == 0


# A command line waits 30 s for a silent server.
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SILENT])
def test_the_command_line_survives_it_with_one_message(
    world: World, record: Record, fault_seed: int, kind: str, command: str
) -> None:
    store = world.store(command)
    place = world.place(command, int(store.name.removeprefix("store")))
    faults = schedule(kind, command, random.Random(f"{kind} {command} {fault_seed}"))
    faults[-1].skip, faults[-1].times = 0, min(faults[-1].times, 11 if kind == "redirect-loop" else 1)
    world.threaten(kind, faults)
    verb = command.partition(" ")[0]
    words = [verb, "model:1", place] if verb == "push" else [verb, place]
    ended = []
    for _attempt in range(4):
        done = subprocess.run(
            [sys.executable, "-m", "lading", *words, "--progress", "plain"],
            env=world.environment(store),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        ended.append(done.returncode)
        assert done.returncode in DOCUMENTED
        assert done.stderr.count("error: ") == (done.returncode != 0), done.stderr
        assert "Traceback" not in done.stderr
        assert done.returncode in {0, *codes(kind, command)}, done.stderr
        world.hold_secrets(done.stdout, done.stderr)
        world.check(command, store)
        if done.returncode == 0 and not world.proxy.left:
            break
    assert ended[-1] == 0, done.stderr
    assert world.proxy.strikes
    world.afterwards(command, store, place)
    record("network, as a process", kind, command)


@pytest.mark.parametrize("command", PULLS)
def test_a_break_costs_at_most_eight_mebibytes(
    tmp_path: Path, login_registry: RegistryProcess, record: Record, fault_seed: int, command: str
) -> None:
    world = World(tmp_path, login_registry, size=32 * MEBIBYTE)
    try:
        clean = world.clean_pull(command)
        rng = random.Random(fault_seed)
        breaks = sorted(rng.random() for _ in range(4))
        store = world.store(command)
        # A registry's config comes first.
        faults = [Fault("early-end", "body", skip=int(command == "pull"), at=breaks[0])]
        faults += [Fault("early-end", "blob", at=at, ranged=True) for at in breaks[1:]]
        world.proxy.plan(faults)
        place = world.place(command, 0)
        for _attempt in range(8):
            session, _ = world.session(store)
            try:
                api.pull(session, place)
            except NetworkError:
                world.check(command, store)
            else:
                break
            finally:
                session.client.close()
        strikes, sent = world.proxy.strikes, world.proxy.sent
        assert strikes >= 1
        assert sent <= clean.sent + strikes * 8 * MEBIBYTE, f"{sent - clean.sent} bytes were fetched again"
        world.afterwards(command, store, place)
        record("network", "early-end", command, strikes)
    finally:
        world.close()


def test_a_secret_is_looked_for_where_it_could_be(world: World) -> None:
    with pytest.raises(BrokenPromiseError, match="I10"):
        world.hold_secrets(f"error: login {SECRETS[0]} refused")
    world.proxy.lent("/", "GET /\nAuthorization: Basic x")
    with pytest.raises(BrokenPromiseError, match="I10"):
        world.hold_secrets()
    world.proxy.plan(())


def test_the_checker_sees_what_is_broken(world: World) -> None:
    store = world.store("push")
    assert set(check_store(store, committed=[world.digest], swept=True)) == {"kept:1", "model:1"}
    blob = max((store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    whole = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BrokenPromiseError, match="I1"):
        check_store(store)
    blob.unlink()
    with pytest.raises(BrokenPromiseError, match="I2"):
        check_store(store)
    blob.write_bytes(whole)
    (store / "blobs/sha256" / ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")).touch()
    check_store(store)
    with pytest.raises(BrokenPromiseError, match="I7"):
        check_store(store, swept=True)
    (store / "ingest/part").write_bytes(bytes(100))
    with pytest.raises(BrokenPromiseError, match="I8"):
        check_store(store, arriving=99)
    with pytest.raises(BrokenPromiseError, match="I4"):
        check_store(store, committed=["gone:1"])
