from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from archives import Layers, files

from lading import media
from lading.artifact import docker
from lading.artifact.layers import list_archives
from lading.errors import FormatError
from lading.manifest import Manifest
from lading.model import Model, ModelFacts, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.model import Part

AI = "application/vnd.docker.ai."
GGUF = AI + "gguf.v3"
SCHEMA = str(Path(__file__).parents[2] / "docs/spec/docker-model-config.schema.json")
READ, WRITE = docker.ROW.read, docker.ROW.write


def types(manifest: Manifest) -> list[tuple[str, str]]:
    return [(layer.media_type.removeprefix(AI), layer.annotations[media.FILE_PATH]) for layer in manifest.layers]


def names(model: Model) -> list[tuple[str, str]]:
    return [(part.role.value, part.name) for part in model.parts]


def test_a_gguf_is_written_as_model_runner_writes_it(models: dict[str, Model], valid: Callable[..., Any]) -> None:
    model = models["gguf"]
    written = WRITE(model, "2026-01-02T03:04:05Z")
    digest = str(model.parts[0].blob.digest)
    assert valid(SCHEMA, written.config) == {
        "config": {
            "format": "gguf",
            "quantization": "F16",
            "parameters": "1.44M",
            "architecture": "llama",
            "size": "2.76MiB",
            "gguf": dict(model.facts.metadata),
            "context_size": 512,
        },
        "descriptor": {"created": "2026-01-02T03:04:05Z"},
        "rootfs": {"type": "rootfs", "diff_ids": [digest]},
    }
    assert written.manifest.config.media_type == AI + "model.config.v0.1+json"
    assert written.manifest.artifact_type is None
    assert types(written.manifest) == [("gguf.v3", "story.gguf")]
    assert written.manifest.annotations == {"io.lading.parameters": "1443584"}


def test_a_safetensors_folder_is_written_as_model_runner_writes_it(
    models: dict[str, Model], valid: Callable[..., Any]
) -> None:
    written = WRITE(models["folder"], None)
    tree = valid(SCHEMA, written.config)
    assert tree["config"] == {
        "format": "safetensors",
        "quantization": "BF16",
        "parameters": "8.03B",
        "architecture": "llama",
        "size": "2.00kB",
        "safetensors": {"format": "pt", "tensor_count": "291"},
        "context_size": 131_072,
    }
    assert tree["descriptor"] == {}
    assert tree["rootfs"]["diff_ids"] == [str(layer.digest) for layer in written.manifest.layers]
    assert written.manifest.config.media_type == AI + "model.config.v0.2+json"
    assert types(written.manifest) == [
        ("license", "LICENSE"),
        ("model.file", "README.md"),
        ("chat.template.jinja", "chat_template.jinja"),
        ("model.file", "code/modeling_story.py"),
        ("model.file", "config.json"),
        ("model.file", "imatrix.dat"),
        ("safetensors", "model-00001-of-00002.safetensors"),
        ("safetensors", "model-00002-of-00002.safetensors"),
        ("model.file", "model.safetensors.index.json"),
        ("model.file", "tokenizer.json"),
    ]


def test_v01_orders_weights_projector_template_and_licences(models: dict[str, Model]) -> None:
    written = WRITE(models["dressed"], None)
    assert written.manifest.config.media_type == docker.CONFIG_V01
    assert types(written.manifest) == [
        ("gguf.v3", "story.gguf"),
        ("mmproj", "mmproj-story-f16.gguf"),
        ("chat.template.jinja", "chat_template.jinja"),
        ("license", "LICENSE"),
        ("license", "NOTICE"),
    ]


def test_shards_stand_in_their_order_because_model_runner_renames_them_by_it(models: dict[str, Model]) -> None:
    shards = models["shards"]
    written = WRITE(Model(tuple(reversed(shards.parts)), shards.facts), None)
    assert written.manifest.config.media_type == docker.CONFIG_V01
    assert types(written.manifest) == [("gguf.v3", part.name) for part in shards.parts]


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ((Role.WEIGHTS, "other.gguf"), "two models would be taken for shards"),
        ((Role.WEIGHTS, "story-00001-of-00002.gguf"), "likewise"),
        ((Role.PROJECTOR, "mmproj-2.gguf"), "v0.1 has one projector"),
        ((Role.TEMPLATE, "tool_chat_template.jinja"), "v0.1 has one template"),
        ((Role.LICENCE, "licences/LICENSE"), "v0.1 knows no folders"),
        ((Role.ADAPTER, "style-lora.gguf"), "Model Runner has no type for adapters"),
        ((Role.CONFIG, "config.json"), "v0.1 has no other files"),
    ],
)
def test_what_v01_cannot_hold_is_written_as_v02(
    models: dict[str, Model], part: Callable[..., Part], extra: tuple[Role, str], why: str
) -> None:
    parts = (*models["dressed"].parts, part(*extra))
    assert WRITE(Model(parts, models["dressed"].facts), None).manifest.config.media_type == docker.CONFIG_V02, why


def test_no_config_can_be_mistaken_for_modelpack(model: Model, valid: Callable[..., Any]) -> None:
    for created in (None, "2026-01-02T03:04:05Z"):
        tree = valid(SCHEMA, WRITE(model, created).config)
        assert "modelfs" not in tree
        assert "files" not in tree
        assert "paramSize" not in tree["config"]
        assert "createdAt" not in tree["descriptor"]


@pytest.mark.parametrize("context", [0, -1, 2**31, 2**63])
def test_a_context_beyond_what_model_runner_reads_is_left_out(
    models: dict[str, Model], with_facts: Callable[..., Model], context: int
) -> None:
    written = WRITE(with_facts(models["gguf"], context_length=context), None)
    assert "context_size" not in json.loads(written.config)["config"]
    raw = json.dumps({"config": {"context_size": context}}).encode()
    assert READ(written.manifest, raw).facts.context_length is None


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.00KiB"), (268_801_408, "256.35MiB"), (2**50, "1024.00TiB")],
)
def test_the_size_of_a_gguf_is_shown_in_binary_units(part: Callable[..., Part], size: int, shown: str) -> None:
    model = Model((part(Role.WEIGHTS, "a.gguf", size), part(Role.LICENCE, "LICENSE")), ModelFacts(format="gguf"))
    assert json.loads(WRITE(model, None).config)["config"]["size"] == shown


class TestForeignArtifacts:
    def test_layers_without_paths_get_the_names_model_runner_gives(self, made: Callable[..., Manifest]) -> None:
        single = made(docker.CONFIG_V01, (GGUF, {}), (AI + "mmproj", {}), (AI + "chat.template.jinja", {}))
        assert names(READ(single, b"{}")) == [
            ("weights", "model.gguf"),
            ("projector", "model.mmproj"),
            ("template", "template.jinja"),
        ]
        licences = made(docker.CONFIG_V01, (GGUF, {}), (GGUF, {}), (AI + "license", {}), (AI + "license", {}))
        assert names(READ(licences, b"{}")) == [
            ("weights", "model-00001-of-00002.gguf"),
            ("weights", "model-00002-of-00002.gguf"),
            ("licence", "LICENSE"),
            ("licence", "LICENSE-2"),
        ]

    def test_the_type_of_a_layer_decides_its_default_suffix(self, made: Callable[..., Manifest]) -> None:
        for kind in ("safetensors", "dduf"):
            assert names(READ(made(docker.CONFIG_V01, (AI + kind, {})), b"{}")) == [("weights", f"model.{kind}")]

    def test_the_types_of_the_published_text_are_read(self, made: Callable[..., Manifest]) -> None:
        old = made(docker.CONFIG_V01, (GGUF, {}), (AI + "gguf.v3.lora", {}), (AI + "gguf.v3.mmproj", {}))
        assert names(READ(old, b"{}")) == [
            ("weights", "model.gguf"),
            ("adapter", "adapter.gguf"),
            ("projector", "model.mmproj"),
        ]

    def test_several_projectors_are_all_read(self, made: Callable[..., Manifest]) -> None:
        many = made(docker.CONFIG_V01, (GGUF, {}), (AI + "mmproj", {}), (AI + "mmproj", {}))
        assert names(READ(many, b"{}"))[1:] == [("projector", "model.mmproj"), ("projector", "model-2.mmproj")]

    @pytest.mark.parametrize("config", [docker.CONFIG_V01, docker.CONFIG_V02])
    def test_two_layers_of_templates_are_refused(self, made: Callable[..., Manifest], config: str) -> None:
        template = AI + "chat.template.jinja"
        layers: tuple[tuple[str, dict[str, str]], ...] = ((GGUF, {}), (template, {}), (template, {}))
        with pytest.raises(FormatError, match=r"2 chat templates: template\.jinja, template-2\.jinja"):
            READ(made(config, *layers), b"{}")

    def test_a_projector_in_a_folder_has_the_plain_type_of_a_gguf(self, made: Callable[..., Manifest]) -> None:
        folder = made(
            docker.CONFIG_V02, (GGUF, {media.FILE_PATH: "a.gguf"}), (GGUF, {media.FILE_PATH: "mmproj-F16.gguf"})
        )
        assert names(READ(folder, b"{}")) == [("weights", "a.gguf"), ("projector", "mmproj-F16.gguf")]

    def test_a_file_without_a_path_is_left_out_as_model_runner_does(self, made: Callable[..., Manifest]) -> None:
        folder = made(docker.CONFIG_V02, (AI + "model.file", {}), (AI + "safetensors", {media.FILE_PATH: "a/b"}))
        assert names(READ(folder, b"{}")) == [("weights", "a/b")]

    @pytest.mark.parametrize("kind", ["vllm.config.tar", "dir.tar", "gguf.v3+gzip", "model.file.tar+zstd"])
    def test_a_packed_layer_is_refused_by_name(self, made: Callable[..., Manifest], kind: str) -> None:
        for path in ({}, {media.FILE_PATH: "config.json"}):
            with pytest.raises(FormatError, match="is packed: it has the type .*" + kind.replace("+", r"\+")):
                READ(made(docker.CONFIG_V01, (GGUF, {}), (AI + kind, path)), b"{}")

    def test_a_config_of_model_runner_is_read_whole(self, made: Callable[..., Manifest]) -> None:
        raw = json.dumps(
            {
                "config": {
                    "format": "gguf",
                    "quantization": "MOSTLY_Q4_K_M",
                    "parameters": "361.82M",
                    "architecture": "llama",
                    "size": "256.35MiB",
                    "gguf": {"general.name": "SmolLM2", "general.license": "apache-2.0", "llama.vocab_size": "49152"},
                    "context_size": 8192,
                },
                "descriptor": {"created": "2025-09-01T12:00:00.123456789Z"},
                "rootfs": {"type": "rootfs", "diff_ids": None},
            }
        ).encode()
        facts = READ(made(docker.CONFIG_V01, (GGUF, {}), config=raw), raw).facts
        assert facts == ModelFacts(
            format="gguf",
            architecture="llama",
            name="SmolLM2",
            parameters=361_820_000,
            file_type="MOSTLY_Q4_K_M",
            context_length=8192,
            vocabulary_size=49_152,
            licence="apache-2.0",
            metadata={"general.name": "SmolLM2", "general.license": "apache-2.0", "llama.vocab_size": "49152"},
            created="2025-09-01T12:00:00.123456789Z",
        )

    def test_only_dockers_two_config_types_are_detected(self, made: Callable[..., Manifest]) -> None:
        assert docker.ROW.detect(made(AI + "model.config.v0.1+json"))
        assert docker.ROW.detect(made(AI + "model.config.v0.2+json"))
        assert not docker.ROW.detect(made(AI + "model.config.v0.3+json", (GGUF, {})))
        assert not docker.ROW.detect(made(media.OCI_EMPTY, artifact_type=docker.CONFIG_V01))


class TestArchivesOfFolders:
    """What Model Runner wrote before it gave every file a layer; the rest stands in test_layers.py."""

    def read(self, *layers: tuple[str, bytes]) -> Model:
        source = Layers()
        blobs = (source.add(b"GGUF", GGUF), *(source.add(archive, AI + kind) for kind, archive in layers))
        manifest = Manifest.build(source.add(b"{}", docker.CONFIG_V01), blobs)
        return READ(manifest, b"{}", list_archives(docker.ROW.archives(manifest, b"{}"), source))

    def test_their_files_stand_beside_the_weights(self) -> None:
        model = self.read(
            ("vllm.config.tar", files(("config.json", b"{}"), ("tokenizer.json", b"{}"))),
            ("dir.tar", files(("text_encoder/config.json", b"{}"))),
            ("dir.tar", files(("vae/config.json", b"{}"), ("chat_template.jinja", b"x"))),
        )
        assert names(model) == [
            ("weights", "model.gguf"),
            ("config", "config.json"),
            ("tokenizer", "tokenizer.json"),
            ("config", "text_encoder/config.json"),
            ("config", "vae/config.json"),
            ("template", "chat_template.jinja"),
        ]

    def test_a_file_in_the_place_of_the_weights_is_refused(self) -> None:
        # Model Runner would write the second over the first.
        with pytest.raises(FormatError, match=r"has model\.gguf twice"):
            self.read(("dir.tar", files(("model.gguf", b"evil"))))
        with pytest.raises(FormatError, match="differ by case or accents only"):
            self.read(("dir.tar", files(("a.json", b"1"), ("A.json", b"2"))))
