"""One trial: a command through the chaos proxy, repeated until the faults are spent, held to the invariants each time."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from chaos_proxy import ChaosProxy, schedule
from checker import check_store, hold, snapshot
from hub import LoopbackHub
from made_weights import gguf
from real_registry import PASSWORD, USER, RegistryProcess

from lading import api
from lading.errors import LadingError
from lading.http import Client, Patience
from lading.store import stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chaos_proxy import Fault

    from lading.events import Event

PULLS = ("pull", "pull hf", "pull url")
COMMANDS = (*PULLS, "push", "inspect")
SECRETS = (PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(), LoopbackHub.token)
OLD = "kept:1"
SILENT = ("stall", "slow-loris")
IMPATIENT = Patience(tries=3, connect=2.0, read=0.4, first=0.001, longest=0.002, longest_asked=5.0, commit=1.0)
PATIENT = replace(IMPATIENT, connect=10.0, read=10.0, commit=10.0)
"""Where no server is silent on purpose, silence means that the machine is busy."""

_MOST_RUNS = 16

OTHER, MISSING, DENIED, NETWORK, INTEGRITY, REFUSED = 1, 3, 4, 5, 6, 9
_CHANGED = ("flipped-bit", "longer-body", "whole-for-range", "other-range", "416")
CODES = {
    "401": {DENIED, REFUSED},
    "403": {DENIED},
    "redirect-loop": {REFUSED},
    "redirect-elsewhere": {MISSING, DENIED, NETWORK, INTEGRITY, REFUSED},
    **{kind: frozenset({NETWORK, INTEGRITY}) for kind in _CHANGED},
}
"""The exit codes that a fault may end in (docs/reference/exit-codes.md); most mean a network or bytes not to be trusted."""


def codes(kind: str, command: str) -> frozenset[int]:
    """Return the exit codes that a command may end with after this kind of fault."""
    # What a registry says of a spoilt upload, or of a document where a part was faked, may be anything.
    other = {OTHER} if kind in _CHANGED and command not in PULLS else set()
    return frozenset(CODES.get(kind, {NETWORK, INTEGRITY}) | other)


@dataclass(frozen=True)
class Outcome:
    """What one trial came to: how often the faults struck, and the exit codes of the runs, the last of them 0."""

    strikes: int
    codes: tuple[int, ...]
    sent: int


@dataclass(frozen=True)
class Clean:
    """What a pull comes to on a clean path: the name and the digest, and the bytes that came through the proxy."""

    name: str
    digest: str
    sent: int


class Listener:
    """A reporter that keeps everything it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def emit(self, event: Event) -> None:
        self.heard.append(repr(event))


def weights(size: int, seed: int = 1) -> bytes:
    """A valid GGUF of about `size` bytes that are nothing but noise after its header."""
    elements = size // 4
    made = gguf({"general.architecture": "llama", "general.name": "Noise"}, [("a", elements)])
    tail = random.Random(seed).randbytes(4 * elements)
    return made[: len(made) - len(tail)] + tail if made.endswith(bytes(4)) else made


class World:
    """A registry that wants a login and a hub, the proxy in front of both, and a store with a model that must survive."""

    def __init__(self, folder: Path, registry: RegistryProcess, *, size: int = 400_000) -> None:
        self.folder = folder
        self.registry = registry
        self.hub = LoopbackHub()
        self.proxy = ChaosProxy(registry.host, self.hub.host, self.hub.storage_host)
        self.hub.next_origin, self.hub.storage_url = (f"http://{host}" for host in self.proxy.hosts[1:])
        self.size = size
        # Breaks are waited out at once, as all else is.
        self._endurance, stream.ENDURANCE = stream.ENDURANCE, replace(stream.ENDURANCE, first=0.01)
        self._clean: dict[str, Clean] = {}
        self.model = f"chaos/model{size}:1"
        self._number = itertools.count()
        self._home = folder / "home"
        (self._home / ".config/containers").mkdir(parents=True)
        login = {"auth": SECRETS[1]}
        hosts = dict.fromkeys((self.proxy.host, registry.host), login)
        (self._home / ".config/containers/auth.json").write_text(json.dumps({"auths": hosts}))
        (self._home / "mine.txt").write_text("not yours")
        (self._home / "model.gguf").write_bytes(weights(size))
        (self._home / "old.gguf").write_bytes(weights(1000, 2))
        self._template = folder / "template"
        session, _ = self.session(self._template)
        api.pack(session, self._home / "old.gguf", OLD, copy=True)
        self._full = folder / "full"
        shutil.copytree(self._template, self._full, copy_function=shutil.copy2)
        session, _ = self.session(self._full)
        api.pack(session, self._home / "model.gguf", "model:1", copy=True)
        made = api.push(session, "model:1", f"{registry.host}/{self.model}")
        self.digest = str(made.digest)
        found, _ = self.session(self._template)
        self.clean = str(api.inspect(found, f"{registry.host}/{self.model}").document.digest)
        self._outside = self._look()
        self.hub.page_size = 2
        files = {"LICENSE": b"CC0 1.0 Universal\n", "README.md": b"# Noise\n"}
        self.hub.add("chaos/noise-GGUF", {**files, "noise-Q4_K_M.gguf": self._home / "model.gguf"})

    def session(self, store: Path, patience: Patience = PATIENT) -> tuple[api.Session, Listener]:
        """Return a session on that store whose client never sleeps."""
        listener = Listener()
        config = api.load_config(self.environment(store))
        session = api.Session(config, listener)
        client = Client(config.network, reporter=listener, patience=patience, sleep=lambda _seconds: None)
        session.__dict__["client"] = client  # what the cached property would make, but for its patience
        return session, listener

    def environment(self, store: Path) -> dict[str, str]:
        """Return the environment of a user who knows both."""
        hub = {"HF_ENDPOINT": self.hub.next_origin, "HF_TOKEN": self.hub.token}
        return {
            "HOME": str(self._home),
            "LADING_STORE": str(store),
            "LADING_STATE": str(self.folder / "state"),
            **hub,
        }

    def store(self, command: str) -> Path:
        """Make a fresh store for a trial; only `push` finds the model in it."""
        path = self.folder / f"store{next(self._number)}"
        shutil.copytree(self._full if command == "push" else self._template, path)
        return path

    def place(self, command: str, number: int) -> str:
        """Return the reference to give: through the proxy, for each push another repository."""
        return {
            "pull hf": "hf://chaos/noise-GGUF:Q4_K_M",
            "pull url": f"{self.hub.next_origin}/chaos/noise-GGUF/resolve/main/noise-Q4_K_M.gguf",
            "push": f"{self.proxy.host}/chaos/p{number}:1",
        }.get(command, f"{self.proxy.host}/{self.model}")

    def clean_pull(self, command: str) -> Clean:
        """Return what a pull comes to without faults; found out once, and then the proxy's plan is empty."""
        if command not in self._clean:
            self.proxy.plan(())
            store = self.store(command)
            session, _ = self.session(store)
            pulled = api.pull(session, self.place(command, 0))
            session.client.close()
            self._clean[command] = Clean(pulled.name, str(pulled.digest), self.proxy.sent)
            shutil.rmtree(store)
        return self._clean[command]

    def threaten(self, kind: str, faults: Sequence[Fault]) -> None:
        """Give the proxy its faults. Bits that flip are found by a digest: then also the file behind a plain URL has one."""
        self.hub.tells_digest = kind == "flipped-bit"
        self.hub.storage_asked.clear()
        self.proxy.plan(faults)

    def trial(self, kind: str, command: str, seed: int) -> Outcome:
        """Run a command until the faults of this seed are spent and it succeeds; raises where a promise is broken."""
        rng = random.Random(f"{kind} {command} {seed}")
        if command in PULLS:
            self.clean_pull(command)
        store = self.store(command)
        place = self.place(command, int(store.name.removeprefix("store")))
        self.threaten(kind, schedule(kind, command, rng))
        codes: list[int] = []
        try:
            while True:
                before = self.proxy.left
                codes.append(self._run(kind, command, store, place))
                self.check(command, store)
                if codes[-1] == 0 and (not self.proxy.left or before == self.proxy.left):
                    break
                hold("I5", len(codes) < _MOST_RUNS, f"{codes}: the path has been clean, and the command still fails")
            strikes, sent = self.proxy.strikes, self.proxy.sent
            self.proxy.plan(())
            self.afterwards(command, store, place)
        finally:
            self.proxy.plan(())
            shutil.rmtree(store)
        return Outcome(strikes, tuple(codes), sent)

    def killed(self, seed: int, command: str = "pull") -> Outcome:
        """Kill a process that pulls, at a random moment, and run the same command again."""
        self.clean_pull(command)
        store = self.store(command)
        place = self.place(command, 0)
        environment = {"PATH": os.defpath, **self.environment(store)}
        process = subprocess.Popen(
            [sys.executable, "-m", "lading", "pull", place, "--progress", "none"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with suppress(subprocess.TimeoutExpired):
            process.wait(random.Random(seed).uniform(0.1, 0.5))
        process.kill()
        code = process.wait()
        try:
            self.check(command, store)
            self._run("", command, store, place)
            self.afterwards(command, store, place)
        finally:
            shutil.rmtree(store)
        return Outcome(1 if code else 0, (code, 0), 0)

    def _run(self, kind: str, command: str, store: Path, place: str) -> int:
        session, listener = self.session(store, IMPATIENT if kind in SILENT else PATIENT)
        said, code = "", 0
        struck = self.proxy.strikes
        try:
            self._do(session, command, place)
        except LadingError as error:
            said, code = f"{error.message} {error.hint}", error.exit_code
            hold("I9", bool(error.message.strip()), f"{error!r} says nothing")
            hold("I9", code in codes(kind, command), f"exit code {code} after {kind}: {said}")
            hold("I5", self.proxy.strikes > struck, f"failed on a clean path: {said}")
        finally:
            session.client.close()
        self.hold_secrets(said, *listener.heard)
        return code

    def _do(self, session: api.Session, command: str, place: str) -> None:
        if command in PULLS:
            expected = self._clean[command].digest
            hold("I5", str(api.pull(session, place).digest) == expected, "another digest than on a clean path")
        elif command == "push":
            hold("I5", str(api.push(session, "model:1", place).digest) == self.digest, "another digest was pushed")
        else:
            document = api.inspect(session, place).document
            hold("I5", str(document.digest) == self.clean, "another model than was pushed")

    def hold_secrets(self, *texts: str) -> None:
        """No password in what was said, and nothing of a login in what other origins heard."""
        for text in texts:
            hold("I10", not any(secret in text for secret in SECRETS), "a secret was told")
        for text in self.proxy.canary_heard:
            hold("I10", "authorization:" not in text.lower(), f"a login went to another origin: {text}")
            hold("I10", not any(secret in text for secret in SECRETS), "a secret went to another origin")

        for asked in self.hub.storage_asked:
            hold("I10", "Authorization" not in asked.headers, "the hub's token went to its storage")

    def check(self, command: str, store: Path) -> None:
        """Hold the store and all that lies around it to their promises, between runs."""
        committed = {OLD, "model:1", self.digest} if command == "push" else {OLD}
        names = check_store(store, committed=committed, arriving=2 * self.size)
        expected = {OLD, "model:1"} if command == "push" else {OLD}
        more = set(names) - expected
        hold("I2", command in PULLS or not more, f"{command} made the names {more}")
        hold("I3", self._look() == self._outside, "something outside of the store changed")

    def afterwards(self, command: str, store: Path, place: str) -> None:
        """After success: the result is what it would have been without faults, and nothing is left over."""
        names = check_store(store, committed={OLD})
        if command in PULLS:
            expected = self.clean_pull(command)
            hold("I5", names.get(expected.name) == expected.digest, f"{expected.name} is not the model: {names}")
        if command == "push":
            self._check_remote(place)
        session, _ = self.session(store)
        bad = [fault for _digest, _size, fault in api.verify(session) if fault]
        hold("I7", not bad, f"verify finds {bad}")
        api.prune(session)
        check_store(store, committed={OLD}, swept=True)

    def _check_remote(self, place: str) -> None:
        repository, _, tag = place.partition("/")[2].partition(":")
        manifest = self._get(f"/v2/{repository}/manifests/{tag}")
        hold("I5", f"sha256:{hashlib.sha256(manifest).hexdigest()}" == self.digest, "the registry has another manifest")
        tree: dict[str, Any] = json.loads(manifest)
        for blob in (tree["config"], *tree["layers"]):
            body = self._get(f"/v2/{repository}/blobs/{blob['digest']}")
            hold("I1", f"sha256:{hashlib.sha256(body).hexdigest()}" == blob["digest"], "the registry has other bytes")

    def _get(self, path: str) -> bytes:
        connection = HTTPConnection(self.registry.host, timeout=20)
        accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
        connection.request("GET", path, headers={"Authorization": f"Basic {SECRETS[1]}", "Accept": accept})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        hold("I5", answer.status == 200, f"{path} is not there after a push: {answer.status}")
        return body

    def _look(self) -> dict[str, tuple[int, int, str]]:
        return snapshot(self._home)

    def close(self) -> None:
        self.proxy.stop()
        self.hub.stop()
        stream.ENDURANCE = self._endurance


def struck_trial(world: World, kind: str, command: str, seed: int) -> Outcome:
    """Run a trial in which the fault did strike: a schedule may wait for a request that never comes."""
    for attempt in range(20):
        outcome = world.trial(kind, command, seed * 1000 + attempt)
        if outcome.strikes:
            return outcome
    msg = f"{kind} never struck {command} from seed {seed} on"
    raise AssertionError(msg)
