from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engines import Docker, Engines, installed, version
from interop_table import record, rows_of
from written import FORMS, ONE, Ours, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from interop_table import Row
    from real_registry import RegistryProcess

    from conftest import CommandLine

FORMATS = "docker,modelpack,image"
LIST = "LADING_LIST_INTEROP"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the test of the page which rows there are."""
    if os.environ.get(LIST):
        Path(os.environ[LIST]).write_text(json.dumps([asdict(row) for row in rows_of(session.items)]))


@pytest.fixture(scope="session")
def ours(
    tmp_path_factory: pytest.TempPathFactory,
    plain_registry: RegistryProcess,
    storyteller: Path,
    command_line: type[CommandLine],
) -> Ours:
    lading = command_line(tmp_path_factory.mktemp("ours"))
    shutil.copyfile(storyteller, lading.folder / "story.gguf")
    lading("pack", "./story.gguf", "-t", "story:1", "--format", FORMATS)
    repository = f"{plain_registry.host}/ours/story"
    lading("push", "story:1", f"{repository}:1", "--format", FORMATS)
    lading("push", "story:1-image", f"{repository}:{tag(ONE)}", "--platform", "linux/amd64")
    lading("pull", f"{repository}:{tag(ONE)}", "-t", f"story:{tag(ONE)}")
    listed = {one["reference"]: one["digest"] for one in json.loads(lading("list", "--json").stdout)}
    for form in FORMS:
        lading("save", f"story:{tag(form)}", "-o", f"{tag(form)}.tar")
    digests = {form: listed[f"story:{tag(form)}"] for form in FORMS}
    return Ours(repository, lading.store, lading.folder, digests, sha256(storyteller.read_bytes()).hexdigest())


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    return Engines(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="session")
def shell(engines: Engines) -> str:
    """An image that has sha256sum and a shell, taken from this machine, as no other can be had without a network."""
    programs = [Path(installed(name)).resolve() for name in ("sha256sum", "dash", "ln")]
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=True).stdout
    libraries = {word for word in said.split() if word.startswith("/") and not word.endswith(":")}
    files = {f"bin/{path.name}".replace("dash", "sh"): path.read_bytes() for path in programs}
    files |= {library.lstrip("/"): Path(library).read_bytes() for library in libraries}
    lines = ["FROM scratch", "COPY --chmod=755 . /"]
    return engines.build("localhost/shell:1", files=files, lines=lines)


@pytest.fixture
def tried(record_property: Callable[[str, object], None], row: Row) -> Callable[[str], None]:
    """Tell the table which version a row was tried with."""

    def tell(said: str) -> None:
        record_property(*record(row, version(said)))

    return tell


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A real dockerd without networks, which needs root and a kernel that lets it."""
    program = installed("dockerd")
    installed("docker")
    folder = tmp_path_factory.mktemp("docker")
    host = f"unix://{folder}/socket"
    run = Engines(folder / "client", {"DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"})
    options = {
        "data-root": folder / "data",
        "exec-root": folder / "exec",
        "host": host,
        "pidfile": folder / "pid",
        "iptables": "false",
        "ip6tables": "false",
        "bridge": "none",
        "storage-driver": "vfs",
    }
    with (folder / "log").open("wb") as log:
        command = [program, *(f"--{key}={value}" for key, value in options.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        yield Docker(run, _server_version(run, process, folder / "log"))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _server_version(run: Engines, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        asked = run.run("docker", "version", "--format", "{{.Server.Version}}")
        if asked.returncode == 0:
            return asked.stdout
        time.sleep(0.1)
    lines = log.read_text(errors="replace").splitlines()
    pytest.skip(f"dockerd does not start here: {lines[-1][:200] if lines else 'it says nothing'}")
