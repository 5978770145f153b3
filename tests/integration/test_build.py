"""`lading build` as people run it: into registries and engines, upon images, and through kills, full disks and Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import disks
import pytest
from engines import Engines
from ollama_push import push_ollama

from lading.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

TOOLS = Path(__file__).parents[2] / ".tools/llama/bin"
QUANTIZE = "QUANTIZE --type=Q8_0 f16.gguf /story.gguf"
RECIPE = f"""FROM scratch AS quantized
COPY story.gguf /f16.gguf
{QUANTIZE}

FROM scratch
COPY --from=quantized story.gguf /
CAT Do as you please. LICENSE
CMD ["-m", "story.gguf", "--ctx-size", "256"]
"""


@pytest.fixture
def context(lading: CommandLine, storyteller: Path) -> Path:
    """A folder with a recipe and the example model."""
    folder = lading.folder / "context"
    folder.mkdir()
    shutil.copyfile(storyteller, folder / "story.gguf")
    (folder / "GGUFPackerfile").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    return Engines(tmp_path_factory.mktemp("engines"))


def built(lading: CommandLine, *arguments: str | Path, code: int = 0) -> dict[str, object]:
    document: dict[str, object] = json.loads(lading("build", *arguments, "--json", code=code).stdout)
    return document


def wait_for(happened: Callable[[], object]) -> None:
    for _ in range(1200):
        if happened():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within a minute")


# -- where it goes ---------------------------------------------------------------------------


def test_a_built_model_is_pushed_pulled_and_run(
    lading: CommandLine, context: Path, plain_registry: RegistryProcess, command_line: type[CommandLine], tmp_path: Path
) -> None:
    name = f"{plain_registry.host}/build/story:q8"
    document = built(lading, "-t", name, "--push", context)
    other = command_line(tmp_path / "other")
    pulled = json.loads(other("pull", name, "--json").stdout)
    assert pulled[0]["reference"] == name
    words = ("run", name, "--temp", "0", "--max-tokens", "8", "Once upon a time")
    # Who builds knows the index of all platforms by that name, who pulls the one for this machine.
    for one, known in ((lading, document), (other, pulled[0])):
        answered = one(*words)
        assert answered.stdout.strip()
        assert str(known["digest"])[:19] in answered.stderr
    again = built(lading, "-t", name, "--push", context)
    assert (again["digest"], again["cached"], again["steps"]) == (document["digest"], 4, 4)


def test_a_recipe_may_come_by_standard_input(lading: CommandLine, context: Path) -> None:
    document = built(lading, "-t", "story:1", context)
    recipe = (context / "GGUFPackerfile").rename(lading.folder / "elsewhere")
    (context / ".dockerignore").write_text("story.gguf\n")
    words = ("build", "-f", "-", "-t", "story:2", "--json", context)
    refused = lading(*words, stdin=recipe.read_text(), code=3)
    assert "<stdin>:2:1: error: the context has no `story.gguf`" in refused.stderr
    (context / ".dockerignore").unlink()
    assert json.loads(lading(*words, stdin=recipe.read_text()).stdout)["digest"] == document["digest"]
    assert "<stdin>:1:1: error: unknown instruction `FRM`" in lading(*words, stdin="FRM scratch", code=6).stderr
    assert "<stdin>:1:1: error: the recipe is empty" in lading(*words, stdin="", code=6).stderr


def test_the_example_comes_to_the_digest_that_the_pages_show(lading: CommandLine) -> None:
    example = Path(__file__).parents[2] / "examples/storyteller"
    assert "sha256:258b6d88260b " in lading("build", "-t", "story:1", example).stdout


def test_podman_takes_the_image_and_builds_upon_it(lading: CommandLine, context: Path, engines: Engines) -> None:
    done = lading("build", "-t", "story:1", "--load", "podman", context, more=engines.environment, timeout=300)
    assert "loaded  story:1   into podman" in done.stdout
    shown = json.loads(engines("podman", "image", "inspect", "localhost/story:1"))[0]
    assert shown["Config"]["Cmd"] == ["-m", "story.gguf", "--ctx-size", "256"]
    engines.build("app:1", files={"note": b"x"}, lines=["FROM localhost/story:1", "COPY note /note"], program="podman")
    shown = json.loads(engines("podman", "image", "inspect", "app:1"))[0]
    assert shown["Config"]["Cmd"] == ["-m", "story.gguf", "--ctx-size", "256"]
    assert shown["Config"]["Labels"]["gguf.model.architecture"] == "llama"
    # COPY refuses a path that is not there.
    lines = ["FROM scratch", "COPY --from=app:1 /story.gguf /LICENSE /note /"]
    engines.build("found:1", files={"other": b""}, lines=lines, program="podman")
    engines("podman", "rmi", "--force", "found:1")
    engines("podman", "rmi", "--force", "app:1", "localhost/story:1")


def test_an_engine_that_is_not_here_is_told_of(lading: CommandLine, context: Path) -> None:
    more = {"PATH": str(Path(shutil.which("python3") or "").parent / "nothing")}
    refused = lading("build", "-t", "story:1", "--load", "docker", context, code=8, more=more)
    assert "docker is not here" in refused.stderr


def test_the_time_of_an_image_is_said_by_an_argument_or_the_environment(lading: CommandLine, context: Path) -> None:
    timeless = built(lading, "-t", "story:1", context)
    argued = lading("build", "-t", "story:2", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", context, "--json")
    assert "no ARG" not in argued.stderr
    lading.environment["SOURCE_DATE_EPOCH"] = "1700000000"
    assert (
        json.loads(argued.stdout)["digest"] == built(lading, "-t", "story:3", context)["digest"] != timeless["digest"]
    )
    assert "no number of seconds" in lading("build", "--build-arg", "SOURCE_DATE_EPOCH=now", context, code=2).stderr


@pytest.mark.parametrize("place", ["oci-layout:out", "out.tar", "oci-layout:out:named"])
def test_output_is_an_archive_or_a_layout(lading: CommandLine, context: Path, place: str) -> None:
    document = built(lading, "-t", "story:1", "-o", place, context)
    path = lading.folder / ("out.tar" if place == "out.tar" else "out")
    loaded = json.loads(lading("load", path, "-t", "back:1", "--json").stdout)
    assert loaded[0]["digest"] == document["digest"]


def test_several_formats_share_their_files_and_have_names_of_their_own(lading: CommandLine, context: Path) -> None:
    document = built(lading, "-t", "story:1", "--format", "both,image", context)
    assert isinstance(document["forms"], list)
    assert [form["format"] for form in document["forms"]] == ["docker", "modelpack", "image"]
    names = [model["reference"] for model in json.loads(lading("list", "--json").stdout)]
    assert names == ["story:1", "story:1-docker", "story:1-image", "story:1-modelpack"]
    built(lading, "-t", "story:1", "--format", "both,image", "-o", "oci-layout:out", context)
    index = json.loads((lading.folder / "out/index.json").read_text())
    tags = {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]}
    assert tags == set(names)


# -- upon what, and from where ------------------------------------------------------------------


def test_a_model_image_gives_its_files_and_command_to_what_is_built_upon_it(
    lading: CommandLine, context: Path, plain_registry: RegistryProcess
) -> None:
    base = f"{plain_registry.host}/build/base:1"
    lading("build", "-t", base, "--push", context)
    (context / "GGUFPackerfile").write_text(f"FROM {base}\nCAT Hello. hello.txt\n")
    built(lading, "-t", "more:1", context)
    shown = json.loads(lading("inspect", "more:1", "--json").stdout)
    assert {part["name"] for part in shown["parts"]} >= {"story.gguf", "LICENSE", "hello.txt"}
    quantized = f"FROM scratch\nQUANTIZE --from={base} --type=Q4_0 --allow-requantize story.gguf /small.gguf\n"
    (context / "GGUFPackerfile").write_text(quantized + 'CMD ["-m", "small.gguf"]\n')
    first = built(lading, "-t", "small:1", context)
    second = built(lading, "-t", "small:1", context)
    assert (second["digest"], second["cached"]) == (first["digest"], 1)


def test_an_ordinary_image_keeps_its_environment_and_entrypoint(
    lading: CommandLine, context: Path, engines: Engines, plain_registry: RegistryProcess
) -> None:
    lines = ["FROM scratch", "COPY tool /bin/tool", "ENV A=b", 'ENTRYPOINT ["/bin/tool"]', "WORKDIR /w", "USER 7"]
    engines.build("tool:1", files={"tool": b"#!/bin/sh\n"}, lines=lines)
    base = f"{plain_registry.host}/build/tool:1"
    engines("buildah", "push", "--tls-verify=false", "tool:1", f"docker://{base}")
    recipe = f'FROM {base}\nCOPY story.gguf /\nCOPY --from={base} /bin/tool /copied\nCMD ["-m", "story.gguf"]\n'
    (context / "GGUFPackerfile").write_text(recipe)
    lading("build", "-t", "upon:1", "--platform", "linux/amd64", "-o", "oci-layout:upon", context)
    config = json.loads(engines("skopeo", "inspect", "--config", f"oci:{lading.folder}/upon:upon:1"))["config"]
    assert config["Entrypoint"] == ["/bin/tool"]
    assert "A=b" in config["Env"]
    assert (config["WorkingDir"], config["User"]) == ("/w", "7")
    assert config["Cmd"] == ["-m", "story.gguf"]


def test_models_of_registries_are_added_in_any_dialect(
    lading: CommandLine, context: Path, plain_registry: RegistryProcess, storyteller: Path
) -> None:
    packed = f"{plain_registry.host}/build/packed:1"
    lading("pack", context / "story.gguf", "-t", packed)
    lading("push", packed)
    push_ollama(plain_registry, "library/tale", "1", storyteller.read_bytes())
    ollama = f"ollama://{plain_registry.host}/library/tale:1"
    recipe = f'FROM scratch\nADD oci://{packed} /one/\nADD {ollama} /two/\nCMD ["-m", "one/story.gguf"]\n'
    (context / "GGUFPackerfile").write_text(recipe)
    built(lading, "-t", "added:1", "--format", "modelpack", context)
    names = {part["name"] for part in json.loads(lading("inspect", "added:1", "--json").stdout)["parts"]}
    assert "one/story.gguf" in names
    assert any(name.startswith("two/") for name in names)
    assert built(lading, "-t", "added:1", "--format", "modelpack", context)["cached"] == 2
    (context / "GGUFPackerfile").write_text('FROM one\nCOPY --from=two / /two/\nCMD ["-m", "story.gguf"]\n')
    named = ("--build-context", f"one=oci://{packed}", "--build-context", f"two={ollama}")
    built(lading, "-t", "named:1", "--format", "modelpack", *named, context)
    names = {part["name"] for part in json.loads(lading("inspect", "named:1", "--json").stdout)["parts"]}
    assert "story.gguf" in names
    assert any(name.startswith("two/") for name in names)


# -- through what goes wrong ---------------------------------------------------------------------


class SlowTool:
    """llama-quantize, which waits before it begins for as long as a file is there, and counts how often it is called."""

    def __init__(self, folder: Path) -> None:
        if not (TOOLS / "llama-quantize").exists():
            pytest.skip("no llama-quantize: scripts/fetch_llama_server.sh .tools/llama")
        folder.mkdir()
        self.calls, self.hold = folder / "calls", folder / "hold"
        self.hold.touch()
        self.calls.touch()
        tool = folder / "llama-quantize"
        tool.write_text(
            f"#!/bin/sh\necho call >> {self.calls}\nwhile [ -e {self.hold} ]; do sleep 0.05; done\n"
            f'exec {TOOLS}/llama-quantize "$@"\n'
        )
        tool.chmod(0o755)
        self.path = f"{folder}:{os.environ['PATH']}"

    @property
    def called(self) -> int:
        return len(self.calls.read_text().splitlines())

    def go(self) -> None:
        self.hold.unlink()


@pytest.fixture
def slow(lading: CommandLine, tmp_path: Path) -> SlowTool:
    tool = SlowTool(tmp_path / "tool")
    lading.environment["PATH"] = f"{tool.path}:{lading.environment['PATH']}"
    return tool


def left_over(lading: CommandLine) -> list[str]:
    return sorted(path.name for path in (lading.store / "cache/build").glob(".*"))


def test_a_build_that_was_killed_goes_on_at_its_step(lading: CommandLine, context: Path, slow: SlowTool) -> None:
    process = lading.start("build", "-t", "story:1", context)
    wait_for(lambda: slow.called)
    process.kill()
    process.communicate()
    assert json.loads(lading("list", "--json").stdout) == []
    assert left_over(lading)
    lading("prune")
    assert left_over(lading) == []
    slow.go()
    document = built(lading, "-t", "story:1", context)
    assert (document["cached"], document["steps"], slow.called) == (2, 4, 2)
    assert built(lading, "-t", "story:1", context)["cached"] == 4
    assert slow.called == 2


def test_ctrl_c_ends_the_tool_and_leaves_nothing_half_made(lading: CommandLine, context: Path, slow: SlowTool) -> None:
    process = lading.start("build", "-t", "story:1", context)
    wait_for(lambda: slow.called)
    process.send_signal(signal.SIGINT)
    _out, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: what whole steps made is kept" in said
    assert "Traceback" not in said
    assert left_over(lading) == []
    assert json.loads(lading("list", "--json").stdout) == []
    running = subprocess.run(["pgrep", "-f", str(slow.hold)], capture_output=True, text=True, check=False)
    assert running.stdout == ""


def test_ctrl_c_while_fetching_ends_at_once_and_the_same_command_finishes(
    lading: CommandLine, context: Path, hub: LoopbackHub
) -> None:
    hub.add("me/story", {"story.gguf": context / "story.gguf"})
    (context / "GGUFPackerfile").write_text('FROM scratch\nADD hf://me/story /\nCMD ["-m", "story.gguf"]\n')
    lading.environment["HF_ENDPOINT"] = hub.url
    hub.delay = 5.0
    process = lading.start("build", "-t", "story:1", context)
    wait_for(lambda: hub.asked)
    process.send_signal(signal.SIGINT)
    _out, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: what whole steps made is kept" in said
    assert "Traceback" not in said
    hub.delay = 0.0
    assert built(lading, "-t", "story:1", context)["cached"] == 0


def test_ctrl_c_does_not_wait_for_a_server_that_says_nothing(lading: CommandLine, context: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/model.gguf"
        (context / "GGUFPackerfile").write_text(f'FROM scratch\nADD {address} /\nCMD ["-m", "model.gguf"]\n')
        process = lading.start("build", "-t", "story:1", context)
        silent.settimeout(60)
        asked, _from = silent.accept()
        with asked:
            asked.recv(1)
            process.send_signal(signal.SIGINT)
            _out, said = process.communicate(timeout=20)  # a silent server is waited for longer
    assert process.returncode == 130
    assert "interrupted: what whole steps made is kept" in said


def test_what_cannot_be_done_with_the_result_is_said_before_anything_is_built(
    lading: CommandLine, context: Path
) -> None:
    for words, said in {
        ("-t", "story:1", "--push"): "`story:1` says no registry to push to",
        ("-o", "somewhere"): "`somewhere` is no place for a built model",
        ("-o", ""): "'' is no reference",
        ("-o", "type=oci,dest=x.tar"): "is no place for a built model",
        ("--load", "podman"): "podman takes a named image, and this one has no name",
        ("-t", "story:1", "--load", "docker", "--format", "modelpack"): "docker takes a named image, and none is built",
    }.items():
        assert said in lading("build", *words, context, code=2).stderr
    assert not lading.store.exists()


def test_json_progress_is_json_to_the_last_line(lading: CommandLine, context: Path) -> None:
    (context / "GGUFPackerfile").write_text('FROM scratch\nCOPY story.gguf /\nCMD ["-m", "story.gguf"]\n')
    events = [json.loads(line) for line in lading("build", "--progress", "json", context).stderr.splitlines()]
    assert any(event["event"] == "noted" and "licence-missing" in event["text"] for event in events)


def test_stages_that_need_nothing_of_each_other_are_made_at_the_same_time(
    lading: CommandLine, context: Path, slow: SlowTool
) -> None:
    stages = "".join(
        f"FROM scratch AS {kind}\nQUANTIZE --from=context --type={kind} story.gguf /story.gguf\n"
        for kind in ("Q8_0", "Q4_0")
    )
    last = 'FROM Q8_0\nCOPY --from=Q4_0 story.gguf /small.gguf\nCMD ["-m", "story.gguf", "-md", "small.gguf"]\n'
    (context / "GGUFPackerfile").write_text(stages + last)
    process = lading.start("build", "-t", "story:1", context)
    wait_for(lambda: slow.called == 2)  # neither ends before both have begun
    slow.go()
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_a_termination_ends_the_tool_with_its_own_exit_code(lading: CommandLine, context: Path, slow: SlowTool) -> None:
    process = lading.start("build", "-t", "story:1", context)
    wait_for(lambda: slow.called)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert left_over(lading) == []


def test_two_builds_at_once_share_the_work(lading: CommandLine, context: Path, slow: SlowTool) -> None:
    processes = [lading.start("build", "-t", f"story:{number}", context, "--json") for number in (1, 2)]
    wait_for(lambda: slow.called)
    time.sleep(0.5)
    slow.go()
    documents = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert documents[0]["digest"] == documents[1]["digest"]
    assert slow.called == 1


def test_a_full_disk_leaves_nothing_half_made(lading: CommandLine, context: Path, tmp_path: Path) -> None:
    (context / "GGUFPackerfile").write_text(RECIPE.replace("Q8_0", "F32"))
    with disks.mounted(tmp_path / "small", 24 * 1024 * 1024) as disk:
        lading.environment["LADING_STORE"] = str(disk.path / "store")
        lading("pack", context / "story.gguf", "-t", "other:1", "--copy")
        disk.resize(_used(disk.path) + 3_000_000)
        refused = lading("build", "-t", "story:1", context, code=7)
        assert "no space left" in refused.stderr
        assert left_over(lading) == []
        assert [tag.name for tag in Store(lading.store).tags()] == ["other:1"]
        disk.resize(80 * 1024 * 1024)
        built(lading, "-t", "story:1", context)


def _used(path: Path) -> int:
    figures = os.statvfs(path)
    return (figures.f_blocks - figures.f_bfree) * figures.f_frsize
