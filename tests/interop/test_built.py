"""The image that a build makes, in the hands of the engines and tools that know images."""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
import urllib.request
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from outcomes import base_of, made, outcome

from lading.manifest import Platform
from lading.store import Store

if TYPE_CHECKING:
    from engines import Engines
    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

LLAMA = Path(__file__).parents[2] / ".tools/llama"
AMD = Platform(architecture="amd64", os="linux")
COMMAND = ("-m", "/app/story.gguf", "--temp", "0.25")
FILES = {"/app/story.gguf": b"", "/models/notes.md": b"# notes", "/LICENSE": b"CC0"}


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory, storyteller: Path) -> Path:
    """A store with a built image under `built:1`, and one upon it under `upon:1`; of no time."""
    store = Store(tmp_path_factory.mktemp("built") / "store")
    files = {**FILES, "/app/story.gguf": storyteller.read_bytes()}
    made(store, outcome(store, files, COMMAND, platform=AMD), name="built:1")
    upon = outcome(store, {"/prompt.txt": b"You tell stories."}, base=base_of(store, "built:1"), platform=AMD)
    made(store, upon, name="upon:1")
    return store.root


def in_tree(root: Path) -> dict[str, str]:
    """What the files in a tree hash to, by their paths."""
    return {
        f"/{path.relative_to(root)}": sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="session")
def expected(storyteller: Path) -> dict[str, str]:
    files = {**FILES, "/app/story.gguf": storyteller.read_bytes()}
    return {path: sha256(data).hexdigest() for path, data in files.items()}


def test_umoci_tells_of_its_layers_and_unpacks_it(engines: Engines, layout: Path, expected: dict[str, str]) -> None:
    for name, count in (("built:1", 3), ("upon:1", 4)):
        # umoci 0.4.7 ends in a panic where a step of the history has no time.
        told = json.loads(engines("umoci", "stat", "--json", "--image", f"{layout}:{name}"))
        assert len([step for step in told["history"] if not step.get("empty_layer")]) == count
    engines("umoci", "unpack", "--image", f"{layout}:built:1", engines.folder / "built-bundle")
    assert in_tree(engines.folder / "built-bundle/rootfs") == expected


def test_skopeo_copies_it_byte_for_byte(engines: Engines, layout: Path) -> None:
    there = engines.folder / "built-copy"
    engines("skopeo", "copy", "--preserve-digests", f"oci:{layout}:built:1", f"oci:{there}:built:1")
    told = [json.loads(engines("skopeo", "inspect", f"oci:{place}:built:1")) for place in (layout, there)]
    assert told[0]["Digest"] == told[1]["Digest"]
    assert told[0]["Labels"]["gguf.model.usage"] == "text-to-text"


@pytest.mark.parametrize("program", ["podman", "buildah"])
@pytest.mark.parametrize("name", ["built:1", "upon:1"])
def test_an_engine_has_the_files_where_the_recipe_put_them(
    engines: Engines, layout: Path, expected: dict[str, str], program: str, name: str
) -> None:
    pulled = engines(program, "pull", "--quiet", f"oci:{layout}:{name}").strip()
    if program == "podman":
        place = engines("podman", "image", "mount", pulled).strip()
    else:
        place = engines("buildah", "mount", engines("buildah", "from", "--quiet", pulled).split()[-1]).strip()
    assert expected.items() <= in_tree(Path(place)).items()


def test_a_plain_dockerfile_upon_it_has_the_model_and_lading_reads_that(
    engines: Engines, layout: Path, expected: dict[str, str], lading: CommandLine
) -> None:
    base = engines("podman", "pull", "--quiet", f"oci:{layout}:built:1").strip()
    lines = [f"FROM {base}", "COPY more.md /app/"]
    name = engines.build("localhost/upon-built:1", program="podman", files={"more.md": b"#"}, lines=lines)
    place = engines("podman", "image", "mount", name).strip()
    assert in_tree(Path(place))["/app/story.gguf"] == expected["/app/story.gguf"]
    engines("podman", "push", "--quiet", name, f"oci:{engines.folder}/upon-built:1")
    lading("pull", f"oci-layout:{engines.folder}/upon-built:1", "-t", "upon:1")
    told = json.loads(lading("inspect", "upon:1", "--json").stdout)
    assert [part["name"] for part in told["parts"] if part["role"] == "weights"] == ["app/story.gguf"]
    assert told["command"] == ["-m", "app/story.gguf", *COMMAND[2:]]
    assert lading("run", "upon:1", "Once upon a time", "-n", "2").stdout.strip()


@pytest.fixture
def server(engines: Engines) -> tuple[str, list[str]]:
    """An image with llama-server below /llama, and the words that start it there."""
    started = LLAMA / "bin/llama-server"
    if not started.exists():
        pytest.skip("no llama-server: scripts/fetch_llama_server.sh .tools/llama")
    recipe = engines.folder / "server.containerfile"
    recipe.write_text("FROM scratch\nCOPY . /llama\n")
    engines("buildah", "build", "--quiet", "--file", recipe, "--tag", "localhost/llama-server:1", LLAMA / "root")
    loader, libraries, program = re.findall(r'"(/[^"]*)"', started.read_text().replace(str(LLAMA / "root"), "/llama"))
    return "localhost/llama-server:1", [loader, "--library-path", libraries, program]


def test_a_plain_dockerfile_makes_a_server_of_it(
    engines: Engines,
    lading: CommandLine,
    storyteller: Path,
    shell: str,
    server: tuple[str, list[str]],
    plain_registry: RegistryProcess,
) -> None:
    image, entry = server
    engines("buildah", "push", "--quiet", "--tls-verify=false", shell, f"docker://{plain_registry.host}/infer/shell:1")
    context = lading.folder / "context"
    context.mkdir()
    shutil.copyfile(storyteller, context / "story.gguf")
    (context / "GGUFPackerfile").write_text(
        "ARG BASE=scratch\nFROM ${BASE}\nCOPY story.gguf tale.gguf\n"
        'CAT <<EOF prompt.txt\nYou tell stories.\nEOF\nCMD ["-m", "tale.gguf", "-c", "8192"]\n'
    )
    place = f"{plain_registry.host}/infer/tale:f16"
    lading("build", "-t", place, "--push", "--build-arg", f"BASE={plain_registry.host}/infer/shell:1", context)
    engines("podman", "pull", "--quiet", "--tls-verify=false", place)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lines = [
        f"ARG REPO={plain_registry.host}/infer",
        "FROM ${REPO}/tale:f16",
        "RUN test -s tale.gguf && test -s prompt.txt",
        "ENV LC_ALL=C.utf8",
        f"COPY --from={image} /llama /llama",
        f"ENTRYPOINT {json.dumps(entry)}",
        f'CMD ["-m", "tale.gguf", "-c", "256", "--port", "{port}"]',
    ]
    built = engines.build("localhost/infer:1", program="podman", files={"README.md": b"#"}, lines=lines)
    container = engines("podman", "run", "--detach", "--ipc=host", built).strip()
    try:
        answer = asked(f"http://127.0.0.1:{port}/completion", {"prompt": "Once upon a time", "n_predict": 4})
    finally:
        said = engines("podman", "logs", container)
        engines("podman", "rm", "--force", "--time=0", container)
    assert answer["tokens_predicted"] == 4, said


def asked(url: str, question: dict[str, object], seconds: float = 60) -> dict[str, object]:
    """Ask a server that is starting."""
    request = urllib.request.Request(url, json.dumps(question).encode(), {"Content-Type": "application/json"})
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return dict(json.load(answer))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
