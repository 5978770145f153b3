"""oras-py and RamaLama, each in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engines import from_pypi
from interop_table import READS, WRITES, Row, rows
from real_registry import start_registry
from written import ALL, FORMS, ONE, tag

from lading.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engines import Docker, Engines
    from real_registry import RegistryProcess
    from written import Ours

    from conftest import CommandLine

pytestmark = pytest.mark.integration

PULL = "import sys, oras.client as c; print(c.OrasClient(insecure=True).pull(sys.argv[1], outdir=sys.argv[2]))"
PUSH = """
import sys, oras.client as c
place, file, *config = sys.argv[1:]
done = c.OrasClient(insecure=True).push(place, files=[file], manifest_config=config[0] if config else None)
assert done.status_code == 201, done.text
"""
CNCF = "application/vnd.cncf.model."
METADATA = "org.cncf.model.file.metadata+json"


def oras(folder: Path, code: str, *arguments: str | Path) -> str:
    command = [from_pypi("oras", "python"), "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout


def oras_version() -> str:
    command = [from_pypi("oras", "python"), "-c", "import oras; print(oras.__version__)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@rows(
    Row("oras-py", READS, "docker", "registry"),
    Row("oras-py", READS, "modelpack", "registry"),
    Row("oras-py", READS, ONE, "registry", note="the layer as the archive that it is"),
    Row("oras-py", READS, "image", "registry", "[]"),
    Row("oras-py", READS, ALL, "registry", "[]"),
)
def test_oras_py_pulls_what_we_wrote(row: Row, ours: Ours, tmp_path: Path, tried: Callable[[str], None]) -> None:
    said = oras(tmp_path, PULL, ours.place(row.form), tmp_path / "out")
    tried(oras_version())
    if row.cannot:
        assert said.strip() == row.cannot
        return
    [file] = (tmp_path / "out").iterdir()
    assert file.name == "story.gguf"
    whole = sha256(file.read_bytes()).hexdigest() == ours.weights
    assert whole != bool(row.note)
    if row.note:
        inner = subprocess.run(["tar", "-xOf", file, "models/story.gguf"], check=True, capture_output=True)
        assert sha256(inner.stdout).hexdigest() == ours.weights


@rows(
    Row("oras-py", WRITES, "modelpack, its types given", "registry"),
    Row(
        "oras-py",
        WRITES,
        "files without types",
        "registry",
        "is no model artifact that is known here: its config has type application/vnd.unknown.config.v1+json",
    ),
)
def test_what_oras_py_pushed_is_read_if_it_says_what_it_is(
    row: Row, story: Path, lading: CommandLine, plain_registry: RegistryProcess, tried: Callable[[str], None]
) -> None:
    place = f"{plain_registry.host}/oras/{'plain' if row.cannot else 'typed'}:1"
    if row.cannot:
        oras(story.parent, PUSH, place, story.name)
        assert row.cannot in lading("pull", place, code=6).stderr
    else:
        diff_ids = [str(Digest.of(story.read_bytes()))]
        config = {"descriptor": {}, "config": {}, "modelfs": {"type": "layers", "diffIds": diff_ids}}
        (story.parent / "config.json").write_text(json.dumps(config))
        types = (f"{story.name}:{CNCF}weight.v1.raw", f"config.json:{CNCF}config.v1+json")
        oras(story.parent, PUSH, place, *types)
        lading("pull", place)
        assert lading("run", place, "Once upon a time", "-n", "2").stdout.strip()
    tried(oras_version())


class RamaLama:
    """RamaLama with a store of its own, its engine that of the test."""

    def __init__(self, engines: Engines, engine: str = "podman") -> None:
        self._engines = engines.given(TMPDIR=str(engines.folder))
        program = from_pypi("ramalama", "ramalama")
        self.version = self._engines(program, "version")
        self._command = (program, "--store", str(engines.folder / f"ramalama-{engine}"), "--engine", engine)

    def __call__(self, *arguments: str | Path) -> str:
        return self._engines(*self._command, *map(str, arguments))

    def told(self, *arguments: str | Path) -> str:
        """Return what it printed; it may say 0 at its exit whatever happened."""
        done = self._engines.run(*self._command, *map(str, arguments))
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def secure(
    tmp_path_factory: pytest.TempPathFactory, ours: Ours, command_line: type[CommandLine]
) -> Iterator[RegistryProcess]:
    """A registry with TLS, the only kind that RamaLama asks what an artifact is, and what we wrote in it."""
    registry = start_registry(tmp_path_factory.mktemp("secure"), tls=True)
    lading = command_line(tmp_path_factory.mktemp("pusher"), {"LADING_STORE": str(ours.store)})
    for form in FORMS:
        place = f"{registry.host}/ours/story:{tag(form)}"
        lading("push", f"story:{tag(form)}", place, more={"SSL_CERT_FILE": str(registry.ca_file)})
    yield registry
    registry.stop()


@rows(
    Row("RamaLama", READS, ONE, "registry, with podman"),
    Row("RamaLama", READS, "image", "registry, with podman", "does not exist"),
    Row("RamaLama", READS, ALL, "registry, with podman", "does not exist"),
    Row(
        "RamaLama",
        READS,
        "docker",
        "registry, with podman",
        'unsupported image-specific operation on artifact with type "application/vnd.docker.ai.model.config.v0.1+json"',
    ),
    Row("RamaLama", READS, "modelpack", "registry, with podman", "file metadata mtime is required"),
)
def test_ramalama_pulls_what_we_wrote(
    row: Row, ours: Ours, engines: Engines, secure: RegistryProcess, tried: Callable[[str], None]
) -> None:
    ramalama = RamaLama(engines.given(SSL_CERT_FILE=str(secure.ca_file)))
    place = f"{secure.host}/ours/story:{tag(row.form)}"
    if row.cannot:
        assert row.cannot in ramalama.told("pull", "--tls-verify=false", f"oci://{place}")
        assert place not in ramalama("list", "--noheading")
    else:
        ramalama("pull", "--tls-verify=false", f"oci://{place}")
        root = Path(engines("podman", "image", "mount", place).strip())
        assert sha256((root / "models/story.gguf").read_bytes()).hexdigest() == ours.weights
    tried(ramalama.version)


def test_ramalama_without_podman_5_takes_no_modelpack_whatever_is_told_of_its_files(
    ours: Ours, engines: Engines, secure: RegistryProcess, command_line: type[CommandLine], tmp_path: Path
) -> None:
    """What it misses first in ours is no reason to invent a time: with one it fails at the next step, of its own making."""
    lading = command_line(tmp_path / "pusher", {"LADING_STORE": str(ours.store)})
    lading("copy", "story:1-modelpack", f"oci-layout:{tmp_path / 'layout'}:1")
    blobs = tmp_path / "layout/blobs/sha256"
    manifest = json.loads((blobs / ours.digests["modelpack"].partition(":")[2]).read_bytes())
    for layer in manifest["layers"]:
        said = json.loads(layer["annotations"][METADATA])
        layer["annotations"][METADATA] = json.dumps({**said, "mtime": "1970-01-01T00:00:00Z"})
    raw = json.dumps(manifest).encode()
    (blobs / Digest.of(raw).hex).write_bytes(raw)
    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    index["manifests"][0] |= {"digest": Digest.of(raw), "size": len(raw)}
    (tmp_path / "layout/index.json").write_text(json.dumps(index))
    place = f"{secure.host}/timed/story:1"
    lading("copy", f"oci-layout:{tmp_path / 'layout'}:1", place, more={"SSL_CERT_FILE": str(secure.ca_file)})
    ramalama = RamaLama(engines.given(SSL_CERT_FILE=str(secure.ca_file)))
    told = ramalama.told("--debug", "pull", "--tls-verify=false", f"oci://{place}")
    assert "No active exception to reraise" in told
    assert place not in ramalama("list", "--noheading")


@rows(
    Row("RamaLama", WRITES, "image, its type raw", "registry, with docker"),
    Row("RamaLama", WRITES, "image, its type car", "registry, with docker"),
)
def test_what_ramalama_pushed_with_docker_is_read(
    row: Row,
    ours: Ours,
    engines: Engines,
    docker: Docker,
    shell: str,
    story: Path,
    lading: CommandLine,
    plain_registry: RegistryProcess,
    tried: Callable[[str], None],
) -> None:
    archive = docker.run.folder / f"{row.name}.tar"
    engines("podman", "save", "--quiet", "--format", "docker-archive", "--output", archive, shell)
    docker("load", "--quiet", "--input", archive)
    ramalama = RamaLama(docker.run, "docker")
    kind = row.form.rpartition(" ")[2]
    place = f"{plain_registry.host}/ramalama/{kind}:1"
    ramalama("push", "--type", kind, "--carimage", shell, f"file://{story}", f"oci://{place}")
    lading("pull", place)
    assert lading("run", place, "Once upon a time", "-n", "2").stdout.strip()
    [unpacked] = lading.store.glob("models/*/story.gguf/story.gguf")
    assert sha256(unpacked.read_bytes()).hexdigest() == ours.weights
    tried(ramalama.version)


@rows(
    Row("RamaLama", WRITES, "image", "registry, with podman 4", "no-new-privileges is not supported"),
    Row("RamaLama", WRITES, "modelpack", "registry, with podman 4", "returned non-zero exit status 125"),
)
def test_ramalama_wants_a_newer_podman_to_write(
    row: Row, engines: Engines, story: Path, plain_registry: RegistryProcess, tried: Callable[[str], None]
) -> None:
    # The isolation that the other builds are given forbids what RamaLama asks for.
    ramalama = RamaLama(engines.given(BUILDAH_ISOLATION=None))
    kind = {"image": "raw", "modelpack": "artifact"}[row.form]
    place = f"oci://{plain_registry.host}/ramalama/{kind}-by-podman:1"
    said = ramalama.told("push", "--tls-verify=false", "--type", kind, f"file://{story}", place)
    assert row.cannot in said
    assert ("'podman', 'artifact', 'add'" in said) == (kind == "artifact")
    tried(ramalama.version)
