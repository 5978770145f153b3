"""What every wire format owes: each row of the table is held to it, a further one too as soon as it stands there."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lading import media
from lading.artifact import FORMATS, detect, docker, modelpack, named
from lading.artifact.format import MAX_METADATA, Format, Written
from lading.digest import Digest
from lading.errors import FormatError, UsageError
from lading.manifest import MAX_DOCUMENT, Descriptor, Manifest, parse_document
from lading.model import Model, ModelFacts, Part, Role

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS = {"docker": "application/vnd.docker.ai.gguf.v3", "modelpack": "application/vnd.cncf.model.weight.v1.raw"}
CONFIGS = {"docker": docker.CONFIG_V01, "modelpack": modelpack.CONFIG_TYPE}
HELD = ("format", "architecture", "parameters", "file_type", "context_length", "metadata")
HELD_OF_GGUF = (*HELD, "name", "vocabulary_size", "chat_template", "licence", "vendor", "description")
DEEP = b'{"config":' + b"[" * 100_000


def reread(written: Written) -> tuple[Format, Model]:
    """Take an artifact as it comes from a registry: bytes alone."""
    manifest = parse_document(written.manifest.raw, name="it", digest=written.manifest.digest)
    assert isinstance(manifest, Manifest)
    row = detect(manifest, "it")
    return row, row.read(manifest, written.config)


@pytest.fixture(params=FORMATS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


class TestEveryFormat:
    def test_is_found_by_its_name(self, row: Format) -> None:
        assert named(row.name) is row

    def test_reads_back_the_files_it_wrote(
        self, row: Format, model: Model, contents: Callable[[Model], object]
    ) -> None:
        found, read = reread(row.write(model, None))
        assert found is row
        assert contents(read) == contents(model)

    def test_reads_back_the_facts_it_can_hold(self, row: Format, model: Model) -> None:
        _, read = reread(row.write(model, None))
        for fact in HELD_OF_GGUF if model.facts.format == "gguf" else HELD:
            assert (fact, getattr(read.facts, fact)) == (fact, getattr(model.facts, fact))

    def test_writes_the_same_bytes_whatever_the_order_of_files_and_keys(self, row: Format, model: Model) -> None:
        first = row.write(model, None)
        chance = random.Random(7)
        for _ in range(5):
            parts, keys = list(model.parts), list(model.facts.metadata.items())
            chance.shuffle(parts)
            chance.shuffle(keys)
            fields = {name: getattr(model.facts, name) for name in ModelFacts.__slots__} | {"metadata": dict(keys)}
            again = row.write(Model(tuple(parts), ModelFacts(**fields)), None)
            assert (again.manifest.raw, again.config) == (first.manifest.raw, first.config)

    def test_records_a_time_only_when_it_is_told_one(self, row: Format, models: dict[str, Model]) -> None:
        without = row.write(models["gguf"], None)
        with_time = row.write(models["gguf"], "2026-01-02T03:04:05Z")
        assert b"created" not in without.config
        assert reread(without)[1].facts.created is None
        assert reread(with_time)[1].facts.created == "2026-01-02T03:04:05Z"
        assert with_time.manifest.layers == without.manifest.layers

    def test_describes_its_config(self, row: Format, model: Model) -> None:
        written = row.write(model, None)
        assert written.manifest.config.digest == Digest.of(written.config)
        assert written.manifest.config.size == len(written.config)
        assert written.manifest.media_type == media.OCI_MANIFEST

    def test_names_each_file_for_docker_modelpack_and_podman(self, row: Format, model: Model) -> None:
        names = []
        for layer in row.write(model, None).manifest.layers:
            assert layer.annotations[media.FILE_PATH] == layer.annotations[media.TITLE]
            assert layer.annotations[media.FILE_TYPE_UNTESTED] == "false"
            base = layer.annotations[media.FILE_PATH].rpartition("/")[2]
            assert layer.annotations[media.FILE_METADATA] == (
                f'{{"name":"{base}","mode":420,"uid":0,"gid":0,"size":{layer.size},"typeflag":0}}'
            )
            names.append(layer.annotations[media.FILE_PATH])
        assert sorted(names) == sorted(part.name for part in model.parts)

    def test_digests_survive_the_voyage_through_any_other(self, row: Format, model: Model) -> None:
        created = "2026-01-02T03:04:05Z"
        first = row.write(model, created)
        for other in FORMATS:
            _, read = reread(first)
            found, between = reread(other.write(read, read.facts.created))
            assert found is other
            assert row.write(between, between.facts.created).manifest.digest == first.manifest.digest

    def test_rounds_of_reading_and_writing_change_nothing(self, row: Format, model: Model) -> None:
        written = row.write(model, None)
        assert row.write(reread(written)[1], None).manifest.digest == written.manifest.digest

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"no json",
            b"[]",
            b"null",
            b'"text"',
            b'{"config":{"format":"\xff"}}',
            b'{"config":{"format":"\\ud800"}}',
            b'{"config":{"format":7}}',
            b'{"config":{"quantization":["F16"]}}',
            b'{"config":[]}',
            b'{"descriptor":7}',
            b'{"config":{}} {}',
            DEEP,
            b" " * (MAX_DOCUMENT + 1),
        ],
        ids=lambda raw: repr(raw[:24]),
    )
    def test_refuses_a_config_that_is_not_one(self, row: Format, models: dict[str, Model], raw: bytes) -> None:
        manifest = row.write(models["gguf"], None).manifest
        with pytest.raises(FormatError, match=r"config is (malformed|larger)") as caught:
            row.read(manifest, raw)
        assert caught.value.hint

    def test_reads_a_config_that_says_nothing_or_more_than_is_known(
        self, row: Format, models: dict[str, Model]
    ) -> None:
        written = row.write(models["bare"], None)
        manifest = written.manifest
        for raw in (b"{}", b'{"config":{"new":[1]},"descriptor":{"new":{}},"newer":null}'):
            read = row.read(Manifest.build(manifest.config, manifest.layers), raw)
            assert [part.name for part in read.parts] == ["a.gguf"]
            assert read.facts.parameters is None

    @pytest.mark.parametrize("count", ["9" * 5000, "-1", "1e9", "lots", "0", "٣"])
    def test_takes_no_nonsense_for_a_number(self, row: Format, made: Callable[..., Manifest], count: str) -> None:
        manifest = made(CONFIGS[row.name], (WEIGHTS[row.name], {media.FILE_PATH: "a.gguf"}))
        key = "parameters" if row.name == "docker" else "paramSize"
        annotations = {"io.lading.parameters": count, "io.lading.context-length": count}
        manifest = Manifest.build(manifest.config, manifest.layers, annotations=annotations)
        facts = row.read(manifest, f'{{"config":{{"{key}":"{count}"}}}}'.encode()).facts
        assert not facts.parameters
        assert not facts.context_length

    @pytest.mark.parametrize(
        "name",
        ["../a.gguf", "/etc/passwd", "a/../../b", ".", "a//b", "a/", "a\\b", "a\nb", "a\x1b[2Jb", "x" * 1025, "\x9b"],
    )
    def test_refuses_a_file_name_that_leads_elsewhere(
        self, row: Format, made: Callable[..., Manifest], name: str
    ) -> None:
        weights = WEIGHTS[row.name]
        manifest = made(CONFIGS[row.name], (weights, {media.FILE_PATH: "a.gguf"}), (weights, {media.FILE_PATH: name}))
        with pytest.raises(FormatError, match="impossible name") as caught:
            row.read(manifest, b"{}")
        assert caught.value.message.isprintable()

    def test_refuses_two_files_in_one_place(self, row: Format, made: Callable[..., Manifest]) -> None:
        def read(*names: str) -> Model:
            layers = [(WEIGHTS[row.name], {media.FILE_PATH: name}) for name in names]
            return row.read(made(CONFIGS[row.name], *layers), b"{}")

        assert len(read("a-b", "a", "a.gguf").parts) == 3
        with pytest.raises(FormatError, match="has a twice"):
            read("a", "b", "a")
        with pytest.raises(FormatError, match="has a as a file and as a folder"):
            read("a-b", "a/b", "a")

    def test_refuses_an_artifact_without_weights(self, row: Format, made: Callable[..., Manifest]) -> None:
        layers = {"docker": "application/vnd.docker.ai.license", "modelpack": "application/vnd.cncf.model.doc.v1.raw"}
        with pytest.raises(FormatError, match="no weights"):
            row.read(made(CONFIGS[row.name], (layers[row.name], {media.FILE_PATH: "LICENSE"})), b"{}")
        with pytest.raises(FormatError, match="no weights"):
            row.read(made(CONFIGS[row.name]), b"{}")

    def test_refuses_a_layer_that_nothing_is_known_of(self, row: Format, made: Callable[..., Manifest]) -> None:
        manifest = made(CONFIGS[row.name], (WEIGHTS[row.name], {media.FILE_PATH: "a"}), ("application/x-new", {}))
        with pytest.raises(FormatError, match="unknown media type application/x-new"):
            row.read(manifest, b"{}")

    def test_takes_a_layer_of_another_type_for_what_its_name_says(
        self, row: Format, made: Callable[..., Manifest]
    ) -> None:
        manifest = made(
            CONFIGS[row.name],
            (WEIGHTS[row.name], {media.FILE_PATH: "a.gguf"}),
            ("application/x-new", {media.FILE_PATH: "docs/LICENSE"}),
        )
        assert [part.role for part in row.read(manifest, b"{}").parts] == [Role.WEIGHTS, Role.LICENCE]

    def test_ignores_a_role_that_does_not_exist(self, row: Format, made: Callable[..., Manifest]) -> None:
        annotations = {media.FILE_PATH: "a.gguf", "io.lading.role": "captain"}
        assert row.read(made(CONFIGS[row.name], (WEIGHTS[row.name], annotations)), b"{}").parts[0].role is Role.WEIGHTS

    def test_leaves_out_metadata_that_is_out_of_all_proportion(
        self, row: Format, models: dict[str, Model], with_facts: Callable[..., Model]
    ) -> None:
        metadata = {"monster": "\0" * MAX_METADATA, "small": "kept", **{f"k{i}": "\0" * 1000 for i in range(400)}}
        written = row.write(with_facts(models["gguf"], metadata=metadata), None)
        assert len(written.config) <= MAX_DOCUMENT
        assert len(written.manifest.raw) <= MAX_DOCUMENT
        kept = reread(written)[1].facts.metadata
        assert kept["small"] == "kept"
        assert "monster" not in kept
        assert MAX_METADATA - 2000 < sum(len(key) + len(value) for key, value in kept.items()) <= MAX_METADATA


def test_formats_are_named_once() -> None:
    assert [row.name for row in FORMATS] == ["docker", "modelpack"]


def test_an_unknown_format_is_a_usage_error_that_names_the_known() -> None:
    with pytest.raises(UsageError, match="unknown format `zip`") as caught:
        named("zip")
    assert caught.value.hint == "formats are docker, modelpack"


def test_an_artifact_that_is_no_model_is_refused_with_its_type(made: Callable[..., Manifest]) -> None:
    manifest = made(media.OCI_CONFIG, ("application/vnd.oci.image.layer.v1.tar+gzip", {}))
    with pytest.raises(FormatError, match=r"host/x:1 is no model artifact .*/vnd.oci.image.config"):
        detect(manifest, "host/x:1")


@settings(derandomize=True, deadline=None)
@given(data=st.data())
def test_every_format_holds_any_files_in_any_roles(data: st.DataObject) -> None:
    folders = st.sampled_from(["", "", "deep/er/", "é/"])
    stems = st.sampled_from(["a b", "model", "mmproj-x", "LICENSE", "x-lora", "chat_template", "tokenizer", "README"])
    suffixes = st.sampled_from([".gguf", ".safetensors", ".json", ".jinja", ".md", ".py", ".dduf", ""])
    names = sorted(data.draw(st.sets(st.builds(lambda *words: "".join(words), folders, stems, suffixes), min_size=1)))
    roles = [Role.WEIGHTS, *(data.draw(st.sampled_from(Role)) for _ in names[1:])]
    parts = tuple(
        Part(role, name, Descriptor(media_type="", digest=Digest.of(name.encode()), size=len(name)))
        for role, name in zip(roles, names, strict=True)
    )
    kind = data.draw(st.sampled_from(["gguf", "safetensors", "dduf", ""]))
    for row in FORMATS:
        found, read = reread(row.write(Model(parts, ModelFacts(format=kind)), None))
        assert found is row
        assert {(part.role, part.name, part.blob.digest) for part in read.parts} == {
            (part.role, part.name, part.blob.digest) for part in parts
        }
