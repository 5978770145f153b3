"""The examples of the language's first implementation, built: what they fetch lies on a hub and in a registry on loopback.

The checkpoints are small, and of the architectures that the examples name.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from archives import files as archive_of
from loaded import Job, asked
from made_weights import gguf
from registry_push import push_artifact

from lading import api, media
from lading.build.convert import ConvertOptions, convert
from lading.digest import Digest
from lading.errors import FormatError
from lading.plan import single_manifest

if TYPE_CHECKING:
    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from lading.build.converter import Converter

    from .conftest import Builder

pytestmark = pytest.mark.integration

RECIPES = Path(__file__).parents[1] / "recipes"
EXAMPLES = sorted(path.name.removeprefix("plan-example-") for path in RECIPES.glob("plan-example-*"))
BROKEN = "pack-embedding-quantize"
"""Its CMD names the file that was quantized, not the one that came of it: as its authors wrote it."""
MADE = {
    "add-from-git": {"Qwen2-0.5B-Instruct.Q5_K_M.gguf"},
    "add-from-http": {"app/qwen2-0_5b-instruct-q5_k_m.gguf"},
    "convert-from-context": {"app/qwen2-0_5b-instruct-q5_k_m.gguf", "model.gguf", "qwen2.gguf"},
    "convert-lora": {"Qwen2-0.5B-Instruct.Q5_K_M.gguf", "qwen2-tales.F16.gguf"},
    "from-alpine": {"app/.ggufpackerignore", "app/model.gguf", "app/system-prompt.txt"},
    "from-image": {"qwen2.F16.gguf", "system-prompt.txt"},
    "from-model": {"qwen2.F16.gguf", "system-prompt.txt"},
    "multi-stages": {"model.Q5_K_M.gguf", "system-prompt.txt"},
    "multi-stages-from-context": {"model.gguf"},
    "pack-embedding": {"qwen2-0_5b-instruct-fp16.gguf"},
    "pack-image": {"mmproj-model-f16.gguf", "qwen2-0_5b-instruct-fp16.gguf"},
    "pack-image-quantize": {"mmproj-model-f16.gguf", "model.Q5_K_M.gguf"},
    "pack-text": {"qwen2-0_5b-instruct-fp16.gguf"},
    "pack-text-quantize": {"model.Q5_K_M.gguf"},
    "quantize-from-image": {"qwen2.gguf"},
    "quick-start": {"Qwen2-0.5B-Instruct.Q5_K_M.gguf", "system-prompt.txt"},
    "single-stage": {
        *("chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
        *("tokenizer_config.json", "qwen2.F16.gguf", "qwen2.Q5_K_M.gguf"),
    },
}
"""The files of each example's model."""
FROM_CHECKPOINT = {"single-stage", "multi-stages", "multi-stages-from-context", "convert-from-context"}


@pytest.fixture(scope="session")
def whole(tiny: Path, converter: Converter, bare: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as one file, in F16."""
    return convert(tiny / "qwen2", tmp_path_factory.mktemp("whole") / "whole.gguf", ConvertOptions(), converter, bare)


@pytest.fixture(scope="session")
def images(whole: Path, plain_registry: RegistryProcess, bare: dict[str, str], tmp_path_factory: pytest.TempPathFactory,
           builders: type[Builder]) -> dict[str, str]:  # fmt: skip
    """The images that examples begin with or take files from, by the names that the examples have for them."""
    host = plain_registry.host
    built = builders(tmp_path_factory.mktemp("images"), bare)
    shutil.copyfile(whole, built.context / "qwen2.F16.gguf")
    names = {"registry.example.org/team/qwen2:f16": "team/qwen2:f16"}
    names |= {f"gpustack/qwen2:{tag}": f"gpustack/qwen2:{tag}" for tag in ("0.5b-instruct", "0.5b-instruct-q5-k-m")}
    found = {name: f"{host}/{place}" for name, place in names.items()}
    built('FROM scratch\nCOPY qwen2.F16.gguf /\nCMD ["-m", "qwen2.F16.gguf"]\n', names=tuple(found.values()))
    for place in found.values():
        api.push(built.session(), place)
    layer = archive_of(("bin/sh", b"#!"))
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}}
    config["rootfs"] = {"type": "layers", "diff_ids": [str(Digest.of(layer))]}
    raw = json.dumps(config).encode()
    push_artifact(
        f"{host}/library/alpine:latest",
        (raw, media.OCI_CONFIG),
        [(layer, "application/vnd.oci.image.layer.v1.tar")],
    )
    return {"FROM alpine": f"FROM {host}/library/alpine:latest"} | found


@pytest.fixture
def ready(builder: Builder, hub: LoopbackHub, tiny: Path, whole: Path) -> Builder:
    """A builder who has a hub, with the repositories that examples ask for."""
    for name, folder in (("Qwen2-0.5B-Instruct", "llama-bpe"), ("qwen2-tales", "llama-lora")):
        owner = "someone" if folder == "llama-lora" else "Qwen"
        hub.add(f"{owner}/{name}", {path.name: path for path in (tiny / folder).iterdir()})
    projector = gguf({"general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True})
    hub.add(
        "Qwen/Qwen2-0.5B-Instruct-GGUF",
        {
            "qwen2-0_5b-instruct-q5_k_m.gguf": whole,
            "qwen2-0_5b-instruct-fp16.gguf": whole,
            "mmproj-model-f16.gguf": projector,
        },
    )
    builder.environment["HF_ENDPOINT"] = hub.url
    return builder


def recipe_of(name: str, images: dict[str, str], hub: LoopbackHub) -> str:
    text = (RECIPES / f"plan-example-{name}/Recipe").read_text()
    for written, place in images.items():
        text = text.replace(f"{written}\n", f"{place}\n").replace(f"{written} ", f"{place} ")
    for place in ("Qwen/Qwen2-0.5B-Instruct-GGUF/", "${REPOSITORY}/"):
        text = text.replace(f"https://huggingface.co/{place}", f"{hub.url}/{place}")
    return text


def fill(context: Path, name: str, tiny: Path, whole: Path) -> None:
    if name in FROM_CHECKPOINT:
        shutil.copytree(tiny / "qwen2", context, dirs_exist_ok=True)
    if name == "from-alpine":
        shutil.copyfile(whole, context / "model.gguf")
        (context / "ignored.txt").write_text("ignored")
        (context / ".ggufpackerignore").write_text("ignored.txt\n")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_built_and_its_model_answers(
    name: str, ready: Builder, images: dict[str, str], hub: LoopbackHub, tiny: Path, whole: Path, tmp_path: Path
) -> None:
    fill(ready.context, name, tiny, whole)
    recipe = recipe_of(name, images, hub)
    if name == BROKEN:
        with pytest.raises(FormatError, match=r"main model /qwen2-0_5b-instruct-fp16\.gguf, .* is not in the image"):
            ready(recipe)
        return
    first = ready(recipe)
    second = ready(recipe)
    assert (second.digest, ready.made) == (first.digest, [])
    files = ready.files()
    assert set(files) == MADE[name]
    words = command_of(ready)
    main = words[words.index("-m") + 1].removeprefix("/")
    (tmp_path / "main.gguf").write_bytes(files[main])
    (answer,) = asked([Job(tmp_path / "main.gguf")], tmp_path)
    assert len(answer) > 0


def test_the_template_of_the_quick_start_comes_through_all_quoting(
    ready: Builder, images: dict[str, str], hub: LoopbackHub
) -> None:
    ready(recipe_of("quick-start", images, hub))
    words = command_of(ready)
    assert words[words.index("--chat-template") + 1] == (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
        '{% endfor %}{% if add_generation_prompt %}{{ "<|im_start|>assistant" }}{% endif %}'
    )


def command_of(builder: Builder, name: str = "built:1") -> list[str]:
    """The arguments of llama-server that an image carries."""
    store = builder.session().store
    manifest = single_manifest(store.document(name), store.document, name)
    words: list[str] = json.loads(store.read(manifest.config))["config"]["Cmd"]
    return words
