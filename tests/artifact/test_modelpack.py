from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from archives import Layers, files
from bare_configs import BARE

from lading import media
from lading.artifact import modelpack
from lading.artifact.layers import list_archives
from lading.errors import FormatError
from lading.manifest import Manifest
from lading.model import Model, ModelFacts, Role

if TYPE_CHECKING:
    from collections.abc import Callable


CNCF, CNAI = "application/vnd.cncf.model.", "application/vnd.cnai.model."
WEIGHT = CNCF + "weight.v1.raw"
SCHEMA = "modelpack/config-schema.json"
READ, WRITE = modelpack.ROW.read, modelpack.ROW.write


def types(manifest: Manifest) -> list[tuple[str, str]]:
    return [(layer.media_type.removeprefix(CNCF), layer.annotations[media.FILE_PATH]) for layer in manifest.layers]


def names(model: Model) -> list[tuple[str, str]]:
    return [(part.role.value, part.name) for part in model.parts]


def test_a_gguf_is_written_as_the_specification_wants_it(models: dict[str, Model], valid: Callable[..., Any]) -> None:
    model = models["gguf"]
    written = WRITE(model, "2026-01-02T03:04:05Z")
    assert valid(SCHEMA, written.config) == {
        "descriptor": {
            "createdAt": "2026-01-02T03:04:05Z",
            "name": "Storyteller",
            "vendor": "Example",
            "licenses": ["cc0-1.0"],
            "description": "Tells stories",
        },
        "config": {"architecture": "llama", "format": "gguf", "paramSize": "1.44M", "quantization": "F16"},
        "modelfs": {"type": "layers", "diffIds": [str(model.parts[0].blob.digest)]},
    }
    manifest = written.manifest
    assert manifest.artifact_type == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest.config.media_type == "application/vnd.cncf.model.config.v1+json"
    assert types(manifest) == [("weight.v1.raw", "story.gguf")]
    assert sorted(manifest.annotations) == ["io.lading.context-length", "io.lading.metadata", "io.lading.parameters"]
    assert manifest.annotations["io.lading.context-length"] == "512"
    assert manifest.annotations["io.lading.parameters"] == "1443584"
    assert json.loads(manifest.annotations["io.lading.metadata"]) == dict(model.facts.metadata)


def test_a_folder_is_written_in_the_order_of_modctl(models: dict[str, Model], valid: Callable[..., Any]) -> None:
    written = WRITE(models["folder"], None)
    tree = valid(SCHEMA, written.config)
    assert tree["descriptor"] == {}
    assert tree["config"] == {
        "architecture": "llama",
        "format": "safetensors",
        "paramSize": "8.03B",
        "precision": "bfloat16",
    }
    assert tree["modelfs"]["diffIds"] == [str(layer.digest) for layer in written.manifest.layers]
    assert types(written.manifest) == [
        ("weight.config.v1.raw", "chat_template.jinja"),
        ("weight.config.v1.raw", "config.json"),
        ("weight.config.v1.raw", "imatrix.dat"),
        ("weight.config.v1.raw", "model.safetensors.index.json"),
        ("weight.config.v1.raw", "tokenizer.json"),
        ("weight.v1.raw", "model-00001-of-00002.safetensors"),
        ("weight.v1.raw", "model-00002-of-00002.safetensors"),
        ("code.v1.raw", "code/modeling_story.py"),
        ("doc.v1.raw", "LICENSE"),
        ("doc.v1.raw", "README.md"),
    ]


def test_every_config_is_valid_under_the_published_schema(model: Model, valid: Callable[..., Any]) -> None:
    valid(SCHEMA, WRITE(model, None).config)
    valid(SCHEMA, WRITE(model, "2026-01-02T03:04:05Z").config)


def test_empty_facts_are_left_out(
    models: dict[str, Model], with_facts: Callable[..., Model], valid: Callable[..., Any]
) -> None:
    model = with_facts(
        models["bare"], name="", vendor="", licence="", description="", architecture="", file_type="", parameters=999
    )
    tree = valid(SCHEMA, WRITE(model, None).config)
    assert tree["descriptor"] == {}
    # "999" has no unit, as the specification wants one; the annotation has the number.
    assert tree["config"] == {"format": "gguf"}
    assert WRITE(model, None).manifest.annotations == {"io.lading.parameters": "999"}


@pytest.mark.parametrize(
    ("file_type", "precision"), [("F32", "float32"), ("F8_E4M3", "float8_e4m3"), ("mixed", "mixed"), ("F4", "F4")]
)
def test_element_types_go_by_the_names_of_modelpack(
    models: dict[str, Model], with_facts: Callable[..., Model], file_type: str, precision: str
) -> None:
    written = WRITE(with_facts(models["folder"], file_type=file_type), None)
    assert json.loads(written.config)["config"]["precision"] == precision
    assert READ(written.manifest, written.config).facts.file_type == file_type


@pytest.mark.parametrize(
    ("kind", "name", "role"),
    [
        ("weight.v1.raw", "a.gguf", Role.WEIGHTS),
        ("weight.v1.raw", "a.bin", Role.BIN),
        ("weight.v1.raw", "a.dat", Role.WEIGHTS),
        ("weight.v1.raw", "mmproj-a.gguf", Role.PROJECTOR),
        ("weight.v1.raw", "adapter_model.safetensors", Role.ADAPTER),
        ("weight.v1.gguf", "a", Role.WEIGHTS),
        ("weight.v1.safetensors", "a", Role.WEIGHTS),
        ("weight.config.v1.raw", "config.json", Role.CONFIG),
        ("weight.config.v1.raw", "chat_template.jinja", Role.TEMPLATE),
        ("weight.config.v1.raw", "tokenizer.model", Role.TOKENIZER),
        ("weight.config.v1.raw", "a.gguf", Role.CONFIG),
        ("doc.v1.raw", "LICENSE", Role.LICENCE),
        ("doc.v1.raw", "a.json", Role.DOC),
        ("code.v1.raw", "config.json", Role.OTHER),
        ("dataset.v1.raw", "README.md", Role.OTHER),
        ("hologram.v1.raw", "LICENSE", Role.LICENCE),
    ],
)
def test_type_and_name_together_tell_the_role(made: Callable[..., Manifest], kind: str, name: str, role: Role) -> None:
    for prefix in (CNCF, CNAI):
        manifest = made(
            modelpack.CONFIG_TYPE,
            (WEIGHT, {media.FILE_PATH: "main.gguf"}),
            (prefix + kind, {media.FILE_PATH: f"x/{name}"}),
        )
        assert READ(manifest, BARE["modelpack"]).parts[1].role is role


class TestForeignArtifacts:
    def test_what_podman_makes_has_no_config_and_its_own_layer_types(self, made: Callable[..., Manifest]) -> None:
        manifest = made(
            media.OCI_EMPTY,
            ("application/octet-stream", {media.TITLE: "story.gguf"}),
            ("text/plain; charset=utf-8", {media.TITLE: "LICENSE"}),
            artifact_type=modelpack.MANIFEST_TYPE,
        )
        assert modelpack.ROW.detect(manifest)
        model = READ(manifest, BARE["modelpack"])
        assert names(model) == [("weights", "story.gguf"), ("licence", "LICENSE")]
        assert model.facts == ModelFacts(format="gguf")

    def test_an_artifact_is_known_by_its_type_its_config_or_a_layer(self, made: Callable[..., Manifest]) -> None:
        detect = modelpack.ROW.detect
        for prefix in (CNCF, CNAI):
            assert detect(made(media.OCI_EMPTY, artifact_type=prefix + "manifest.v1+json"))
            assert detect(made(prefix + "config.v1+json"))
            assert detect(made(media.OCI_EMPTY, (prefix + "weight.v1.raw", {})))
        assert not detect(made(media.OCI_EMPTY, ("application/vnd.cncf.helm.chart", {})))

    def test_the_old_names_of_before_2026_are_read(self, made: Callable[..., Manifest]) -> None:
        raw = json.dumps(
            {
                "descriptor": {"createdAt": "2025-06-01T00:00:00Z", "name": "old", "licenses": ["MIT"]},
                "config": {
                    "architecture": "transformer",
                    "format": "safetensors",
                    "paramSize": "8b",
                    "precision": "bfloat16",
                    "puantization": "awq",
                    "capabilities": {"input_types": ["text"], "tool_usage": True},
                },
                "modelfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
            }
        ).encode()
        key = "org.cnai.model.filepath"
        manifest = made(
            CNAI + "config.v1+json",
            (CNAI + "weight.v1.raw", {key: "model.safetensors"}),
            (CNAI + "weight.config.v1.raw", {key: "config.json"}),
            config=raw,
            artifact_type=CNAI + "manifest.v1+json",
        )
        model = READ(manifest, raw)
        assert names(model) == [("weights", "model.safetensors"), ("config", "config.json")]
        assert model.facts == ModelFacts(
            format="safetensors",
            architecture="transformer",
            name="old",
            parameters=8_000_000_000,
            file_type="BF16",
            licence="MIT",
            created="2025-06-01T00:00:00Z",
        )
        assert WRITE(model, None).manifest.artifact_type == modelpack.MANIFEST_TYPE

    @pytest.mark.parametrize("key", ["descriptor", "config", "modelfs", "modelfs.diffIds"])
    def test_a_config_without_what_its_schema_requires_is_refused(
        self, models: dict[str, Model], valid: Callable[..., Any], key: str
    ) -> None:
        written = WRITE(models["gguf"], None)
        for left in ("missing", "empty"):
            tree = valid(SCHEMA, written.config)
            place, _, inner = key.rpartition(".")
            holder = tree[place] if place else tree
            if left == "missing":
                del holder[inner]
            else:
                holder[inner] = [] if place else None
            with pytest.raises(FormatError, match=f"the ModelPack config lacks `{key}`"):
                READ(written.manifest, json.dumps(tree).encode())

    def test_the_format_is_that_of_the_weights_when_nobody_says_it(self, made: Callable[..., Manifest]) -> None:
        config = (CNCF + "weight.config.v1.raw", {media.FILE_PATH: "config.json"})
        for name, kind in (("a.SAFETENSORS", "safetensors"), ("a.gguf", "gguf"), ("a.bin", "bin"), ("a", "")):
            manifest = made(modelpack.CONFIG_TYPE, config, (WEIGHT, {media.FILE_PATH: name}))
            assert READ(manifest, BARE["modelpack"]).facts.format == kind

    def test_a_path_goes_before_a_title(self, made: Callable[..., Manifest]) -> None:
        annotations = {media.TITLE: "a.gguf", media.FILE_PATH: "deep/a.gguf"}
        assert names(READ(made(modelpack.CONFIG_TYPE, (WEIGHT, annotations)), BARE["modelpack"])) == [
            ("weights", "deep/a.gguf")
        ]
        annotations = {media.TITLE: "a.gguf", media.FILE_PATH: ""}
        assert names(READ(made(modelpack.CONFIG_TYPE, (WEIGHT, annotations)), BARE["modelpack"])) == [
            ("weights", "a.gguf")
        ]

    def test_a_layer_without_any_name_is_refused(self, made: Callable[..., Manifest]) -> None:
        with pytest.raises(FormatError, match="names no file") as caught:
            READ(made(modelpack.CONFIG_TYPE, (WEIGHT, {})), BARE["modelpack"])
        assert media.FILE_PATH in caught.value.hint

    @pytest.mark.parametrize("suffix", ["tar", "tar+gzip", "tar+zstd"])
    @pytest.mark.parametrize("kind", ["weight", "weight.config", "doc", "code", "dataset"])
    def test_a_packed_layer_is_refused_by_name(self, made: Callable[..., Manifest], kind: str, suffix: str) -> None:
        manifest = made(modelpack.CONFIG_TYPE, (f"{CNCF}{kind}.v1.{suffix}", {media.FILE_PATH: "a.gguf"}))
        with pytest.raises(FormatError, match=rf"is packed: it has the type .*{kind}\.v1\.tar"):
            READ(manifest, BARE["modelpack"])

    @pytest.mark.parametrize("media_type", ["application/x-tar", "application/gzip", "application/zstd; q=1"])
    def test_an_archive_that_podman_recognized_is_refused(self, made: Callable[..., Manifest], media_type: str) -> None:
        layer = (media_type, {media.TITLE: "a.gguf"})
        with pytest.raises(FormatError, match="is packed"):
            READ(made(media.OCI_EMPTY, layer, artifact_type=modelpack.MANIFEST_TYPE), BARE["modelpack"])

    @pytest.mark.parametrize("flag", [0, 48])
    def test_both_ways_to_write_a_regular_file_are_read(self, made: Callable[..., Manifest], flag: int) -> None:
        metadata = f'{{"name":"a.gguf","mode":420,"mtime":"2026-01-01T00:00:00Z","typeflag":{flag}}}'
        annotations = {media.FILE_PATH: "a.gguf", media.FILE_METADATA: metadata}
        assert READ(made(modelpack.CONFIG_TYPE, (WEIGHT, annotations)), BARE["modelpack"]).parts[0].name == "a.gguf"

    @pytest.mark.parametrize("flag", [2, 5, 50, 53])
    @pytest.mark.parametrize("key", [media.FILE_METADATA, "org.cnai.model.file.metadata+json"])
    def test_a_layer_that_stands_for_a_link_or_folder_is_refused(
        self, made: Callable[..., Manifest], key: str, flag: int
    ) -> None:
        annotations = {media.FILE_PATH: "a.gguf", key: f'{{"typeflag":{flag}}}'}
        with pytest.raises(FormatError, match="stands for a folder, a link or a device"):
            READ(made(modelpack.CONFIG_TYPE, (WEIGHT, annotations)), BARE["modelpack"])

    @pytest.mark.parametrize("metadata", ["", "no json", "[]", '{"typeflag":"5"}', '{"a":' * 100_000])
    def test_file_metadata_that_cannot_be_read_is_no_hindrance(
        self, made: Callable[..., Manifest], metadata: str
    ) -> None:
        annotations = {media.FILE_PATH: "a.gguf", media.FILE_METADATA: metadata}
        assert READ(made(modelpack.CONFIG_TYPE, (WEIGHT, annotations)), BARE["modelpack"]).parts[0].role is Role.WEIGHTS

    @pytest.mark.parametrize("metadata", ["", "no json", "[]", '{"a":5}', '{"a":' * 100_000])
    def test_our_own_metadata_must_be_as_we_write_it(self, models: dict[str, Model], metadata: str) -> None:
        written = WRITE(models["gguf"], None)
        manifest = written.manifest
        manifest = manifest.build(manifest.config, manifest.layers, annotations={"io.lading.metadata": metadata})
        with pytest.raises(FormatError, match=r"annotation io\.lading\.metadata .* malformed"):
            READ(manifest, written.config)


class TestPackedLayers:
    """What is peculiar to ModelPack; the rest stands in test_layers.py."""

    def read(self, archive: bytes, kind: str = "weight.v1.tar", **annotations: str) -> Model:
        source = Layers()
        layers = (source.add(archive, CNCF + kind, **annotations),)
        config = BARE["modelpack"]
        manifest = Manifest.build(source.add(config, modelpack.CONFIG_TYPE), layers)
        return READ(manifest, config, list_archives(modelpack.ROW.archives(manifest, config), source))

    @pytest.mark.parametrize("inside", ["story.gguf", "deep/story.gguf", "work/deep/story.gguf"])
    def test_a_single_file_has_the_path_of_its_layer(self, inside: str) -> None:
        # llmman packs each file by its base name, modctl by its path.
        model = self.read(files((inside, b"GGUF")), **{media.FILE_PATH: "deep/story.gguf"})
        assert names(model) == [("weights", "deep/story.gguf")]

    def test_a_path_of_another_file_is_not_taken(self) -> None:
        model = self.read(files(("story.gguf", b"GGUF")), **{media.FILE_PATH: "weights"})
        assert names(model) == [("weights", "story.gguf")]

    def test_the_type_of_a_single_files_layer_tells_its_role(self) -> None:
        assert names(self.read(files(("a.dat", b"x")))) == [("weights", "a.dat")]
        assert names(self.read(files(("mmproj-a.gguf", b"x"), ("a.gguf", b"x")))) == [
            ("projector", "mmproj-a.gguf"),
            ("weights", "a.gguf"),
        ]

    def test_a_folder_in_one_layer_is_known_file_by_file(self) -> None:
        metadata = {media.FILE_PATH: "m", media.FILE_METADATA: '{"typeflag":5}'}
        model = self.read(files(("m/config.json", b"{}"), ("m/a.safetensors", b"x")), **metadata)
        assert names(model) == [("config", "m/config.json"), ("weights", "m/a.safetensors")]

    def test_a_suffix_that_nobody_defined_is_refused(self) -> None:
        for kind in ("weight.v1.tar+xz", "weight.v1.tar.gz", "weight.v1.raw+zstd"):
            with pytest.raises(FormatError, match="is packed"):
                self.read(b"x", kind, **{media.FILE_PATH: "a.gguf"})

    def test_diff_ids_that_are_fewer_than_layers_are_not_guessed_at(self) -> None:
        source = Layers()
        layers = tuple(source.add(files((name, b"x")), CNCF + "weight.v1.tar") for name in ("a.gguf", "b.gguf"))
        config = BARE["modelpack"]
        manifest = Manifest.build(source.add(config, modelpack.CONFIG_TYPE), layers)
        assert [one.diff_id for one in modelpack.ROW.archives(manifest, config)] == [None, None]
