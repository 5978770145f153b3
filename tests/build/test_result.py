"""What a build's outcome becomes: an image with GGUF Packer's config, Docker's and ModelPack's artifacts of the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urljoin

import pytest
from archives import files as archive_of
from jsonschema import Draft4Validator
from made_weights import gguf, gguf_shard, safetensors
from outcomes import base_of, digest, made, outcome
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from lading import artifact, media
from lading.artifact import image
from lading.artifact.contents import read_part
from lading.artifact.packer import header_of
from lading.artifact.unpack import read_stored
from lading.errors import FormatError, NotFoundError
from lading.events import Event, Noted
from lading.formats.gguf import read_header
from lading.manifest import Descriptor, Manifest, Platform
from lading.model import Model, Role
from lading.ranges import BytesRanges
from lading.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lading.convert import Made

SCHEMAS = Path(__file__).parents[1] / "data/schemas/oci"
AMD = Platform(architecture="amd64", os="linux")
TIME = "2026-01-02T03:04:05Z"
LORA = gguf({"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}, [("a.lora_a", 8)])
EYES = gguf({"general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True}, [("v.a", 8)])
DRAFT = gguf({"general.architecture": "llama", "general.name": "Draft"}, [("token_embd.weight", 16)])
OTHER = gguf({"general.architecture": "qwen2", "general.name": "Other"}, [("token_embd.weight", 32)])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def story(storyteller: Path) -> bytes:
    return storyteller.read_bytes()


def tree(store: Store, done: Made) -> dict[str, Any]:
    """The config of the first image among what was made."""
    manifest = done.forms[-1].manifests[0][0]
    config: dict[str, Any] = json.loads(store.read(manifest.config))
    return config


def image_of(
    store: Store, files: Mapping[str, bytes], command: Sequence[str] | None = None, **more: Any
) -> dict[str, Any]:
    """The config of the image that an outcome becomes."""
    return tree(store, made(store, outcome(store, files, command, platform=AMD, **more)))


def read(store: Store, name: str = "built") -> Model:
    manifest = store.document(name)
    assert isinstance(manifest, Manifest)
    return read_stored(image.ROW, manifest, store)


class Heard:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.notes.append(event.text)


class TestTheConfigIsGgufPackers:
    def test_the_labels_of_the_storyteller_are_those_worked_out_by_hand(self, store: Store, story: bytes) -> None:
        config = image_of(store, {"/story.gguf": story}, ["-m", "story.gguf"])["config"]
        labels = {key: text for key, text in config["Labels"].items() if key.startswith("gguf.model.")}
        # 1,443,584 elements; 2,915,776 bytes of which the data begins at 25,024: 16.0199 bits for each.
        assert labels == {
            "gguf.model.architecture": "llama",
            "gguf.model.parameters": "1.44 M",
            "gguf.model.bpw": "16.02 bpw",
            "gguf.model.filetype": "F16",
            "gguf.model.usage": "text-to-text",
            "gguf.model.name": "Storyteller",
            "gguf.model.description": "A small Llama-architecture model of King James English, an example for lading",
            "gguf.model.licenses": "cc0-1.0",
        }
        assert config["Labels"]["org.opencontainers.image.title"] == "Storyteller"
        assert config["Size"] == len(story)

    def test_all_eleven_labels_follow_from_the_header(self, store: Store) -> None:
        said = {
            "general.architecture": "qwen2",
            "general.name": "Tiny",
            "general.author": "A. Author",
            "general.organization": "Example",
            "general.url": "https://example.org/tiny",
            "general.description": "Small",
            "general.license": "apache-2.0",
            "general.file_type": 17,
        }
        labels = image_of(store, {"/m.gguf": gguf(said, [("token_embd.weight", 812)])}, ["-m", "m.gguf"])["config"][
            "Labels"
        ]
        assert {key: text for key, text in labels.items() if key.startswith("gguf.model.")} == {
            "gguf.model.architecture": "qwen2",
            "gguf.model.parameters": "812",
            # 3,248 bytes of data, filled up to 3,264.
            "gguf.model.bpw": "32.16 bpw",
            "gguf.model.filetype": "Q5_K_M",
            "gguf.model.usage": "text-to-text",
            "gguf.model.vendor": "Example",
            "gguf.model.name": "Tiny",
            "gguf.model.authors": "A. Author",
            "gguf.model.url": "https://example.org/tiny",
            "gguf.model.description": "Small",
            "gguf.model.licenses": "apache-2.0",
        }
        twins = ("title", "authors", "url", "description", "licenses", "vendor")
        assert [labels[f"org.opencontainers.image.{twin}"] for twin in twins] == [
            "Tiny", "A. Author", "https://example.org/tiny", "Small", "apache-2.0", "Example",
        ]  # fmt: skip

    def test_every_file_of_the_command_is_described_with_its_place_in_it(self, store: Store, story: bytes) -> None:
        files = {"/w/story.gguf": story, "/d.gguf": DRAFT, "/eyes.gguf": EYES, "/l.gguf": LORA, "/c.gguf": LORA}
        command = ["--temp", "0.5", "-m", "w/story.gguf", "-md", "/d.gguf", "--mmproj", "./eyes.gguf"]
        command += ["--lora", "l.gguf", "--control-vector-scaled", "c.gguf:0.5"]
        config = image_of(store, files, command)["config"]
        places = {
            key: (config[key]["CmdParameterValue"], config[key]["CmdParameterIndex"], config[key]["Architecture"])
            for key in ("Model", "Drafter", "Projector")
        }
        assert places == {
            "Model": ("w/story.gguf", 3, "llama"),
            "Drafter": ("/d.gguf", 5, "llama"),
            "Projector": ("./eyes.gguf", 7, "clip"),
        }
        assert [(one["CmdParameterValue"], one["CmdParameterIndex"]) for one in config["Adapters"]] == [
            ("l.gguf", 9),
            ("c.gguf", 11),
        ]
        assert config["Cmd"] == command
        assert config["Size"] == sum(map(len, files.values()))
        assert {part.name: part.role for part in read(store).parts} == {
            "w/story.gguf": Role.WEIGHTS,
            "d.gguf": Role.DRAFTER,
            "eyes.gguf": Role.PROJECTOR,
            "l.gguf": Role.ADAPTER,
            "c.gguf": Role.ADAPTER,
        }

    def test_the_header_can_be_taken_from_the_config_again(self, store: Store, story: bytes) -> None:
        done = made(store, outcome(store, {"/story.gguf": story}, ["-m", "story.gguf"], platform=AMD))
        header = read_header(BytesRanges(story, "story.gguf"))
        entry = image.read_run(store.read(done.forms[0].manifests[0][0].config)).model
        assert entry is not None
        again = header_of(entry)
        assert again is not None
        assert again.tensors == header.tensors
        assert {key: str(value) for key, value in again.metadata.items()} == {
            key: str(value) for key, value in header.metadata.items()
        }
        described = json.loads(store.read(done.forms[0].manifests[0][0].config))["config"]["Model"]["GGUF"]
        assert described["header"]["magic"] == int.from_bytes(b"GGUF", "little")
        assert described["header"]["metadataKVCount"] == len(header.metadata)
        assert described["size"] == len(story)
        assert described["modelSize"] == len(story) - described["tensorDataStartOffset"]
        first = described["tensorInfos"][0]
        name = first["name"].encode()
        assert story[first["startOffset"] :][: 8 + len(name)] == len(name).to_bytes(8, "little") + name
        [tokens] = [one for one in described["header"]["metadataKV"] if one["key"] == "tokenizer.ggml.tokens"]
        assert "array" not in tokens["value"], "what is long is not repeated"
        begin = tokens["value"]["startOffset"]
        assert int.from_bytes(story[begin + 4 : begin + 12], "little") == tokens["value"]["len"]

    def test_a_split_model_is_described_as_one(self, store: Store) -> None:
        names = [f"/m-0000{number}-of-00002.gguf" for number in (1, 2)]
        files = {name: gguf_shard(number, 2) for number, name in enumerate(names, 1)}
        config = image_of(store, files, ["-m", names[0]])["config"]
        gguf_said = config["Model"]["GGUF"]
        assert gguf_said["splitSizes"] == [len(data) for data in files.values()]
        assert [info["name"] for info in gguf_said["tensorInfos"]] == ["t1", "t2"]
        assert config["Model"]["Parameters"] == 16
        with pytest.raises(FormatError, match=r"main model /m-00002-of-00002\.gguf"):
            image_of(store, {names[0]: files[names[0]]}, ["-m", names[0]])

    def test_it_is_valid_under_ocis_schema(self, store: Store, story: bytes) -> None:
        config = image_of(store, {"/story.gguf": story}, ["-m", "story.gguf"], created=TIME)
        schemas = {path.name: json.loads(path.read_bytes()) for path in SCHEMAS.glob("*.json")}
        rules = schemas["config-schema.json"]
        beside = Registry().with_resources(
            (urljoin(rules["id"], name), Resource.from_contents(rule, DRAFT4)) for name, rule in schemas.items()
        )
        Draft4Validator(rules, registry=beside).validate(config)
        assert config["created"] == TIME
        assert config["config"]["Labels"][media.CREATED] == TIME

    def test_a_config_that_no_reader_would_take_has_no_headers(self, store: Store) -> None:
        many = [(f"blk.{number}.a_tensor_with_a_long_name_for_its_kind.weight", 8) for number in range(30_000)]
        weights = gguf({"general.architecture": "llama"}, many)
        done = made(store, outcome(store, {"/m.gguf": weights}, ["-m", "m.gguf"], platform=AMD))
        model = tree(store, done)["config"]["Model"]
        assert "GGUF" not in model
        assert model["Parameters"] == 8 * 30_000
        assert read(store).facts.parameters == 8 * 30_000


class TestUsage:
    @pytest.mark.parametrize(
        ("said", "tensors", "more", "usage"),
        [
            ({"general.architecture": "bert", "bert.attention.causal": False, "bert.pooling_type": 1}, [], [], "embedding"),
            ({"general.architecture": "nomic-bert"}, [], [], "embedding"),
            ({"general.architecture": "qwen3", "qwen3.pooling_type": 3}, [], [], "embedding"),
            ({"general.architecture": "bert", "bert.pooling_type": 4}, [], [], "reranking"),
            ({"general.architecture": "bert", "bert.attention.causal": False}, [("cls.output.weight", 8)], [], "reranking"),
            ({"general.architecture": "llama"}, [], ["--embedding"], "embedding"),
            ({"general.architecture": "llama"}, [], ["--reranking"], "reranking"),
            ({"general.architecture": "llada", "llada.attention.causal": False}, [], [], "text-to-text"),
            ({"general.architecture": "wavtokenizer-dec"}, [], [], "text-to-speech"),
            ({"general.architecture": "qwen3", "qwen3.pooling_type": 0}, [], [], "text-to-text"),
        ],
    )  # fmt: skip
    def test_it_is_told_by_header_and_command(
        self, store: Store, said: dict[str, Any], tensors: list[tuple[str, int]], more: list[str], usage: str
    ) -> None:
        weights = gguf(said, [("token_embd.weight", 8), *tensors])
        labels = image_of(store, {"/m.gguf": weights}, ["-m", "m.gguf", *more])["config"]["Labels"]
        assert labels["gguf.model.usage"] == usage

    @pytest.mark.parametrize(
        ("encoders", "usage"),
        [
            ({"clip.has_vision_encoder": True}, "image-to-text"),
            ({"clip.has_audio_encoder": True}, "audio-to-text"),
            ({"clip.has_vision_encoder": True, "clip.has_audio_encoder": True}, "image-to-text"),
            ({}, "image-to-text"),
        ],
    )
    def test_a_projector_brings_in_pictures_or_sound(
        self, store: Store, story: bytes, encoders: dict[str, bool], usage: str
    ) -> None:
        projector = gguf({"general.architecture": "clip", **encoders}, [("v.a", 8)])
        files = {"/m.gguf": story, "/p.gguf": projector}
        labels = image_of(store, files, ["-m", "m.gguf", "--mmproj", "p.gguf"])["config"]["Labels"]
        assert labels["gguf.model.usage"] == usage

    def test_a_label_of_the_recipe_goes_before(self, store: Store, story: bytes) -> None:
        mine = {"gguf.model.usage": "story-telling", "org.opencontainers.image.title": "Mine"}
        labels = image_of(store, {"/m.gguf": story}, ["-m", "m.gguf"], labels=mine)["config"]["Labels"]
        assert {key: labels[key] for key in mine} == mine


class TestWhatIsNotThere:
    @pytest.mark.parametrize(
        ("command", "called"),
        [
            (["-m", "gone.gguf"], "the main model /gone.gguf"),
            (["-m", "../m.gguf"], "the main model /../m.gguf"),
            (["-m", "m.gguf", "--mmproj", "eyes.gguf"], "the projector /eyes.gguf"),
            (["-m", "m.gguf", "--lora", "a.gguf"], "the adapter /a.gguf"),
            (["-m", "m.gguf", "--chat-template-file", "t.jinja"], "the chat template /t.jinja"),
        ],
    )
    def test_a_file_that_the_command_names_is_an_error_that_names_it(
        self, store: Store, story: bytes, command: list[str], called: str
    ) -> None:
        with pytest.raises(FormatError) as caught:
            made(store, outcome(store, {"/m.gguf": story}, command, platform=AMD))
        assert caught.value.message == f"{called}, which CMD names, is not in the image"

    @pytest.mark.parametrize("formats", ["image", "docker"])
    def test_an_outcome_without_any_weights_is_no_model(self, store: Store, formats: str) -> None:
        with pytest.raises(FormatError, match="no step made weights"):
            made(store, outcome(store, {"/README.md": b"#"}), formats)

    def test_what_is_named_as_a_model_and_is_none_is_named(self, store: Store) -> None:
        with pytest.raises(FormatError, match=r"/m\.gguf"):
            image_of(store, {"/m.gguf": b"no model"}, ["-m", "m.gguf"])


class TestFilesLieWhereTheRecipePutThem:
    def test_anywhere_and_under_models_by_their_names(self, store: Store, story: bytes) -> None:
        files = {"/models/story.gguf": story, "/app/prompt.txt": b"hi", "/LICENSE": b"CC0"}
        made(store, outcome(store, files, ["-m", "/models/story.gguf"], platform=AMD))
        model = read(store)
        assert {part.name: part.member and part.member.path for part in model.parts} == {
            "story.gguf": "models/story.gguf",
            "app/prompt.txt": "app/prompt.txt",
            "LICENSE": "LICENSE",
        }
        assert {part.name: part.digest for part in model.parts} == {
            path.removeprefix("/models").lstrip("/"): digest(data) for path, data in files.items()
        }
        assert model.facts.command == ("-m", "story.gguf"), "files go by their names in a model"

    def test_two_files_that_would_have_one_name_are_refused(self, store: Store, story: bytes) -> None:
        with pytest.raises(FormatError, match=r"has story\.gguf twice"):
            image_of(store, {"/models/story.gguf": story, "/story.gguf": story}, ["-m", "story.gguf"])

    def test_weights_that_nobody_names_lie_beside_the_model(self, store: Store, story: bytes) -> None:
        files = {"/q.gguf": story, "/f16.gguf": OTHER, "/hf/model.safetensors": b"", "/hf/chat_template.jinja": b"x"}
        made(store, outcome(store, files, ["-m", "q.gguf"], platform=AMD), "docker,image")
        for name in ("docker", "image"):
            model = _form(store, name)
            assert {part.name for part in model.of(Role.WEIGHTS)} == {"q.gguf"}
            assert {part.name for part in model.of(Role.OTHER)} == {path[1:] for path in files} - {"q.gguf"}

    def test_mode_and_owner_are_those_of_the_recipe(self, store: Store, story: bytes) -> None:
        result = outcome(store, {"/m.gguf": story}, ["-m", "m.gguf"], platform=AMD)
        held = result.files["/m.gguf"]
        owned = type(held)(held.digest, held.size, mode=0o640, uid=65532, gid=100)
        done = made(store, type(result)({"/m.gguf": owned}, result.command, platform=AMD))
        [layer] = done.forms[0].manifests[0][0].layers
        head = store.ranges(layer).read_at(0, 4096)[-512:]
        assert (head[100:108], head[108:116], head[116:124]) == (b"0000640\0", b"0177774\0", b"0000144\0")
        assert read(store).parts[0].digest == digest(story)

    def test_more_layers_than_docker_runs_are_told_of(self, store: Store, story: bytes) -> None:
        files = {"/m.gguf": story, **{f"/hf/{number}.md": b"%d" % number for number in range(127)}}
        heard = Heard()
        made(store, outcome(store, files, ["-m", "m.gguf"], platform=AMD), reporter=heard)
        assert [note for note in heard.notes if "128 layers" in note]


def _form(store: Store, name: str) -> Model:
    index = store.document("built")
    assert not isinstance(index, Manifest)
    [entry] = [entry for entry in index.manifests if entry.annotations[media.FORM] == name][:1]
    manifest = store.document(str(entry.digest))
    assert isinstance(manifest, Manifest)
    return read_stored(artifact.named(name), manifest, store)


class TestEveryForm:
    TEMPLATE = "{{ messages }}"
    FLAGS = ("--temp", "0.25", "-c", "512", "--top-k", "9", "--threads", "3", "--host", "0.0.0.0")
    COMMAND = ("-m", "/w/m.gguf", *FLAGS, "--chat-template", TEMPLATE)

    def test_they_share_every_file_and_say_the_same_settings(self, store: Store, story: bytes) -> None:
        result = outcome(store, {"/w/m.gguf": story, "/LICENSE": b"CC0"}, self.COMMAND)
        done = made(store, result, "docker,modelpack,image")
        assert [form.name for form in done.forms] == ["docker", "modelpack", "image"]
        docker, modelpack, car = (_form(store, form.name) for form in done.forms)
        named = {part.name: part.digest for part in docker.parts}
        assert named == {part.name: part.digest for part in modelpack.parts}
        assert {part.name: part.digest for part in car.parts} == {
            name: found for name, found in named.items() if name != "chat_template.jinja"
        }
        for model in (docker, modelpack, car):
            assert model.facts.settings == {"temperature": 0.25, "ctx_size": 512, "top_k": 9}
            assert model.facts.command == ("-m", "w/m.gguf", *self.COMMAND[2:])
            assert model.facts.architecture == "llama"

    def test_docker_and_modelpack_get_the_template_that_is_written_out_as_a_file(
        self, store: Store, story: bytes
    ) -> None:
        made(store, outcome(store, {"/w/m.gguf": story}, self.COMMAND), "docker,modelpack")
        for name in ("docker", "modelpack"):
            [template] = _form(store, name).of(Role.TEMPLATE)
            assert read_part(template, store, 100) == b"{{ messages }}"

    def test_one_by_itself_is_the_same_as_among_others(self, store: Store, story: bytes) -> None:
        result = outcome(store, {"/w/m.gguf": story}, self.COMMAND)
        every = {form.name: form.root.digest for form in made(store, result, "docker,modelpack,image").forms}
        alone = {name: made(store, result, name).root.digest for name in every}
        assert every == alone

    def test_the_same_outcome_is_the_same_everywhere(self, tmp_path: Path, story: bytes) -> None:
        found = set()
        for name in ("one", "other"):
            store = Store(tmp_path / name)
            files = {"/w/m.gguf": story, "/LICENSE": b"CC0"}
            turned = dict(reversed(files.items())) if name == "other" else files
            found.add(made(store, outcome(store, turned, self.COMMAND), "docker,modelpack,image").root.digest)
        assert len(found) == 1

    def test_without_a_platform_an_image_is_for_two_which_share_layers_and_config_of_the_model(
        self, store: Store, story: bytes
    ) -> None:
        done = made(store, outcome(store, {"/m.gguf": story}, ["-m", "m.gguf"]))
        (amd, first), (arm, second) = done.forms[0].manifests
        assert (first and first.architecture, second and second.architecture) == ("amd64", "arm64")
        assert amd.layers == arm.layers
        assert json.loads(store.read(amd.config))["config"] == json.loads(store.read(arm.config))["config"]

    def test_a_folder_of_safetensors_without_a_command_is_a_model_too(self, store: Store) -> None:
        files = {"/models/model.safetensors": safetensors(), "/models/config.json": b'{"model_type": "llama"}'}
        made(store, outcome(store, files), "modelpack,image")
        for name in ("modelpack", "image"):
            model = _form(store, name)
            assert (model.facts.format, model.facts.architecture) == ("safetensors", "llama")
            assert {part.name for part in model.parts} == {"model.safetensors", "config.json"}


class TestFromAModel:
    @pytest.fixture
    def parent(self, store: Store, story: bytes) -> dict[str, Any]:
        files = {"/m.gguf": story, "/d.gguf": DRAFT, "/l.gguf": LORA}
        command = ["-m", "m.gguf", "-md", "d.gguf", "--lora", "l.gguf", "--temp", "0.5"]
        labels = {"gguf.model.from": "nowhere", "team": "one", "gguf.model.authors": "The Parent"}
        first = outcome(store, files, command, labels=labels, platform=AMD)
        return tree(store, made(store, first, name="parent"))

    def child(self, store: Store, files: Mapping[str, bytes], command: Sequence[str] | None = None) -> dict[str, Any]:
        return image_of(store, files, command, base=base_of(store, "parent"))

    def test_files_command_and_references_are_inherited_once(self, store: Store, parent: dict[str, Any]) -> None:
        config = self.child(store, {"/prompt.txt": b"You tell stories."})["config"]
        keys = ("Size", "Model", "Drafter", "Adapters", "Cmd")
        assert {key: config[key] for key in keys} == {key: parent["config"][key] for key in keys}
        assert len(config["Adapters"]) == 1
        assert {key: config["Labels"][key] for key in parent["config"]["Labels"]} == parent["config"]["Labels"]
        assert config["Labels"]["org.opencontainers.image.base.name"] == "parent"
        model = read(store)
        assert {part.name: part.role.value for part in model.parts} == {
            "m.gguf": "weights", "d.gguf": "drafter", "l.gguf": "adapter", "prompt.txt": "doc",
        }  # fmt: skip
        assert model.facts.settings == {"temperature": 0.5}

    def test_a_new_command_leaves_nothing_stale(self, store: Store, parent: dict[str, Any]) -> None:
        config = self.child(store, {"/o.gguf": OTHER}, ["-m", "o.gguf"])["config"]
        assert "Drafter" not in config
        assert "Adapters" not in config
        assert (config["Model"]["Architecture"], config["Size"]) == ("qwen2", len(OTHER))
        labels = config["Labels"]
        assert labels["team"] == "one"
        assert labels["gguf.model.name"] == labels["org.opencontainers.image.title"] == "Other"
        stale = {"gguf.model.from", "gguf.model.authors", "gguf.model.licenses", "io.lading.context-length"}
        assert stale.isdisjoint(labels)
        assert "org.opencontainers.image.licenses" not in labels
        assert [part.name for part in read(store).of(Role.WEIGHTS)] == ["o.gguf"]
        assert read(store).facts.settings == {}

    def test_a_file_of_the_base_can_be_named_anew(self, store: Store, parent: dict[str, Any], story: bytes) -> None:
        config = self.child(store, {}, ["--top-k", "3", "-m", "./m.gguf"])["config"]
        assert config["Model"] == parent["config"]["Model"] | {
            "CmdParameterValue": "./m.gguf",
            "CmdParameterIndex": 3,
        }
        assert config["Size"] == len(story)

    def test_a_model_that_is_written_over_is_described_anew(self, store: Store, parent: dict[str, Any]) -> None:
        config = self.child(store, {"/m.gguf": OTHER})["config"]
        assert config["Model"]["Architecture"] == "qwen2"
        assert config["Labels"]["gguf.model.architecture"] == "qwen2"
        assert {part.name: part.digest for part in read(store).of(Role.WEIGHTS)} == {"m.gguf": digest(OTHER)}

    @pytest.mark.usefixtures("parent")
    def test_artifacts_have_the_files_of_the_base_too(self, store: Store, story: bytes) -> None:
        result = outcome(store, {"/LICENSE": b"CC0"}, base=base_of(store, "parent"), platform=AMD)
        made(store, result, "docker,image")
        assert {part.name: part.digest for part in _form(store, "docker").parts} == {
            name: digest(data)
            for name, data in (("m.gguf", story), ("d.gguf", DRAFT), ("l.gguf", LORA), ("LICENSE", b"CC0"))
        }

    @pytest.mark.usefixtures("parent")
    def test_a_base_that_is_not_for_the_platform_is_named(self, store: Store) -> None:
        arm = Platform(architecture="arm64", os="linux")
        with pytest.raises(NotFoundError, match="the base parent has nothing for linux/arm64"):
            made(store, outcome(store, {}, base=base_of(store, "parent"), platform=arm))


class TestFromAnImageOfPrograms:
    RUN: ClassVar[dict[str, Any]] = {
        "Env": ["PATH=/bin"],
        "Entrypoint": ["/bin/run"],
        "WorkingDir": "/srv",
        "User": "65532",
        "Cmd": ["sh"],
    }

    @pytest.fixture
    def programs(self, store: Store) -> Store:
        store.prepare()
        layer = archive_of(("bin/run", b"#!"))
        config = {"architecture": "amd64", "os": "linux", "config": {**self.RUN, "Labels": {"of": "base"}}}
        raw = json.dumps({**config, "rootfs": {"type": "layers", "diff_ids": [str(digest(layer))]}}).encode()
        blobs = [
            Descriptor(media_type=kind, digest=store.put_bytes(data), size=len(data))
            for kind, data in ((media.OCI_CONFIG, raw), ("application/vnd.oci.image.layer.v1.tar", layer))
        ]
        store.put_document(Manifest.build(blobs[0], (blobs[1],)), "programs")
        return store

    def test_what_starts_a_container_stays(self, programs: Store, story: bytes) -> None:
        result = outcome(
            programs, {"/m.gguf": story}, ["-m", "m.gguf"], base=base_of(programs, "programs"), platform=AMD
        )
        done = made(programs, result)
        config = tree(programs, done)["config"]
        assert {key: config[key] for key in self.RUN} == self.RUN | {"Cmd": ["-m", "m.gguf"]}
        assert config["Labels"]["of"] == "base"
        assert len(done.forms[0].manifests[0][0].layers) == 2
        assert [part.name for part in read(programs).parts] == ["m.gguf"]

    def test_its_command_is_none_of_the_models(self, programs: Store, story: bytes) -> None:
        result = outcome(programs, {"/models/m.gguf": story}, base=base_of(programs, "programs"), platform=AMD)
        assert tree(programs, made(programs, result))["config"]["Cmd"] == ["sh"]
        assert read(programs).facts.command == ()
