"""What every wire format owes: each row of the table is held to it, a further one too as soon as it stands there."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from archives import Sparse
from bare_configs import BARE
from hypothesis import given, settings
from hypothesis import strategies as st

from lading import media
from lading.artifact import EVERY, FORMATS, RAW, detect, docker, modelpack, named
from lading.artifact.format import MAX_METADATA, Format, Written
from lading.artifact.layers import list_archives, plain_part, wrapped_part
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError, UsageError
from lading.manifest import MAX_DOCUMENT, Descriptor, Manifest, parse_document
from lading.model import Model, ModelFacts, Part, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.content import ByteReader, RangeReader
    from lading.manifest import Document

WEIGHTS = {"docker": "application/vnd.docker.ai.gguf.v3", "modelpack": "application/vnd.cncf.model.weight.v1.raw"}
CONFIGS = {"docker": docker.CONFIG_V01, "modelpack": modelpack.CONFIG_TYPE}
HELD = ("format", "architecture", "parameters", "file_type", "context_length", "metadata", "outline")
HELD_OF_GGUF = (*HELD, "name", "vocabulary_size", "chat_template", "licence", "vendor", "description")
DEEP = b'{"config":' + b"[" * 100_000


class Wraps:
    """A source of layers of which only what stands before a file is known; the rest is zeros."""

    def __init__(self) -> None:
        self.heads: dict[Digest, bytes] = {}

    def wrap(self, row: Format, model: Model) -> Model:
        """Do what packing does where a layer is not the file itself."""
        if row.wrap is None:
            return model
        parts = []
        for part in model.parts:
            wrapping = row.wrap(part.name, part.size)
            layer = Digest.of(wrapping.head + part.blob.digest.encode())
            self.heads[layer] = wrapping.head
            parts.append(wrapped_part(part, wrapping, layer))
        return Model(tuple(parts), model.facts)

    def document(self, name: str, /) -> Document:
        raise KeyError(name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        raise KeyError(blob.digest)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        return Sparse(self.heads[blob.digest], blob.size)


WRAPS = Wraps()


def write(row: Format, model: Model, created: str | None = None) -> Written:
    return row.write(WRAPS.wrap(row, model), created)


def reread(written: Written) -> tuple[Format, Model]:
    """Take an artifact as it comes from a registry, bytes alone, and its files for themselves."""
    manifest = parse_document(written.manifest.raw, name="it", digest=written.manifest.digest)
    assert isinstance(manifest, Manifest)
    row = detect(manifest, "it")
    assert [one.name for one in EVERY if one.detect(manifest)] == [row.name]
    model = row.read(manifest, written.config, list_archives(row.archives(manifest, written.config), WRAPS))
    return row, Model(tuple(filter(None, map(plain_part, model.parts))), model.facts)


@pytest.fixture(params=FORMATS, ids=lambda row: row.name)
def writer(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


@pytest.fixture(params=RAW, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


class TestEveryWriter:
    def test_reads_back_the_files_it_wrote(
        self, writer: Format, model: Model, contents: Callable[[Model], object]
    ) -> None:
        found, read = reread(write(writer, model))
        assert found is writer
        assert contents(read) == contents(model)

    def test_reads_back_the_facts_it_can_hold(self, writer: Format, model: Model) -> None:
        _, read = reread(write(writer, model))
        for fact in HELD_OF_GGUF if model.facts.format == "gguf" else HELD:
            assert (fact, getattr(read.facts, fact)) == (fact, getattr(model.facts, fact))

    def test_writes_the_same_bytes_whatever_the_order_of_files_and_keys(self, writer: Format, model: Model) -> None:
        first = write(writer, model)
        chance = random.Random(7)
        for _ in range(5):
            parts, keys = list(model.parts), list(model.facts.metadata.items())
            chance.shuffle(parts)
            chance.shuffle(keys)
            fields = {name: getattr(model.facts, name) for name in ModelFacts.__slots__} | {"metadata": dict(keys)}
            again = write(writer, Model(tuple(parts), ModelFacts(**fields)))
            assert (again.manifest.raw, again.config) == (first.manifest.raw, first.config)

    def test_records_a_time_only_when_it_is_told_one(self, writer: Format, models: dict[str, Model]) -> None:
        without = write(writer, models["gguf"])
        with_time = write(writer, models["gguf"], "2026-01-02T03:04:05Z")
        # umoci wants a time for every step of an image's history; this one says that nobody knows it.
        assert b'"created"' not in without.config.replace(b'"created":"0001-01-01T00:00:00Z"', b"")
        assert b'"createdAt"' not in without.config
        assert reread(without)[1].facts.created is None
        assert reread(with_time)[1].facts.created == "2026-01-02T03:04:05Z"
        assert with_time.manifest.layers == without.manifest.layers

    def test_describes_its_config(self, writer: Format, model: Model) -> None:
        written = write(writer, model)
        assert written.manifest.config.digest == Digest.of(written.config)
        assert written.manifest.config.size == len(written.config)
        assert written.manifest.media_type == media.OCI_MANIFEST

    def test_names_each_file_for_docker_modelpack_and_podman(self, writer: Format, model: Model) -> None:
        sizes = {part.name: part.size for part in model.parts}
        names = []
        for layer in write(writer, model).manifest.layers:
            name = layer.annotations[media.FILE_PATH]
            assert layer.annotations[media.TITLE] == name
            assert layer.annotations[media.FILE_TYPE_UNTESTED] == "false"
            base = name.rpartition("/")[2]
            assert layer.annotations[media.FILE_METADATA] == (
                f'{{"name":"{base}","mode":420,"uid":0,"gid":0,"size":{sizes[name]},"typeflag":0}}'
            )
            names.append(name)
        assert sorted(names) == sorted(sizes)

    def test_digests_survive_the_voyage_through_any_other(self, writer: Format, model: Model) -> None:
        created = "2026-01-02T03:04:05Z"
        first = write(writer, model, created)
        for other in FORMATS:
            _, read = reread(first)
            found, between = reread(write(other, read, read.facts.created))
            assert found is other
            assert write(writer, between, between.facts.created).manifest.digest == first.manifest.digest

    def test_rounds_of_reading_and_writing_change_nothing(self, writer: Format, model: Model) -> None:
        written = write(writer, model)
        assert write(writer, reread(written)[1]).manifest.digest == written.manifest.digest

    def test_leaves_out_metadata_that_is_out_of_all_proportion(
        self, writer: Format, models: dict[str, Model], with_facts: Callable[..., Model]
    ) -> None:
        metadata = {"monster": "\0" * MAX_METADATA, "small": "kept", **{f"k{i}": "\0" * 1000 for i in range(400)}}
        written = write(writer, with_facts(models["gguf"], metadata=metadata))
        assert len(written.config) <= MAX_DOCUMENT
        assert len(written.manifest.raw) <= MAX_DOCUMENT
        kept = reread(written)[1].facts.metadata
        assert kept["small"] == "kept"
        assert "monster" not in kept
        assert MAX_METADATA - 2000 < sum(len(key) + len(value) for key, value in kept.items()) <= MAX_METADATA


class TestEveryFormat:
    def test_is_found_by_its_name(self, row: Format) -> None:
        assert named(row.name) is row

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
        layers = manifest.layers
        said = {"docker": "{}", "modelpack": f'{{"diffIds":["{layers[0].digest}"]}}'}[row.name]
        key = {"docker": "rootfs", "modelpack": "modelfs"}[row.name]
        for config in ('"config":{},"descriptor":{}', '"config":{"new":[1]},"descriptor":{"new":{}},"newer":null'):
            read = row.read(Manifest.build(manifest.config, layers), f'{{{config},"{key}":{said}}}'.encode())
            assert [part.name for part in read.parts] == ["a.gguf"]
            assert read.facts.parameters is None

    def test_refuses_two_chat_templates(self, row: Format, made: Callable[..., Manifest]) -> None:
        def read(*names: str) -> Model:
            layers = [("application/x-new", {media.FILE_PATH: name}) for name in names]
            manifest = made(CONFIGS[row.name], (WEIGHTS[row.name], {media.FILE_PATH: "a.gguf"}), *layers)
            return row.read(manifest, BARE[row.name])

        with pytest.raises(FormatError, match=r"has 2 chat templates: b\.jinja, deep/c\.jinja"):
            read("b.jinja", "deep/c.jinja")
        beside = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/rag.jinja")
        roles = [(part.role, part.name) for part in read(*beside).parts[1:]]
        assert roles == list(zip((Role.TEMPLATE, Role.CONFIG, Role.CONFIG), beside, strict=True))

    def test_refuses_a_layer_whose_diff_id_lies(self, row: Format, models: dict[str, Model]) -> None:
        written = row.write(models["bare"], None)
        lie = written.config.replace(str(written.manifest.layers[0].digest).encode(), b"sha256:" + b"0" * 64)
        assert lie != written.config
        with pytest.raises(IntegrityError, match=r"layer sha256:.* its diff_id is sha256:000000000000"):
            row.read(written.manifest, lie)

    @pytest.mark.parametrize("count", ["9" * 5000, "-1", "1e9", "lots", "0", "٣"])
    def test_takes_no_nonsense_for_a_number(self, row: Format, made: Callable[..., Manifest], count: str) -> None:
        manifest = made(CONFIGS[row.name], (WEIGHTS[row.name], {media.FILE_PATH: "a.gguf"}))
        key = "parameters" if row.name == "docker" else "paramSize"
        annotations = {"io.lading.parameters": count, "io.lading.context-length": count}
        manifest = Manifest.build(manifest.config, manifest.layers, annotations=annotations)
        config = {**json.loads(BARE[row.name]), "config": {key: count}}
        facts = row.read(manifest, json.dumps(config).encode()).facts
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
            row.read(manifest, BARE[row.name])
        assert caught.value.message.isprintable()

    def test_refuses_two_files_in_one_place(self, row: Format, made: Callable[..., Manifest]) -> None:
        def read(*names: str) -> Model:
            layers = [(WEIGHTS[row.name], {media.FILE_PATH: name}) for name in names]
            return row.read(made(CONFIGS[row.name], *layers), BARE[row.name])

        assert len(read("a-b", "a", "a.gguf").parts) == 3
        with pytest.raises(FormatError, match="has a twice"):
            read("a", "b", "a")
        with pytest.raises(FormatError, match="has a as a file and as a folder"):
            read("a-b", "a/b", "a")

    def test_refuses_an_artifact_without_weights(self, row: Format, made: Callable[..., Manifest]) -> None:
        layers = {"docker": "application/vnd.docker.ai.license", "modelpack": "application/vnd.cncf.model.doc.v1.raw"}
        with pytest.raises(FormatError, match="no weights"):
            row.read(made(CONFIGS[row.name], (layers[row.name], {media.FILE_PATH: "LICENSE"})), BARE[row.name])
        with pytest.raises(FormatError, match="no weights"):
            row.read(made(CONFIGS[row.name]), BARE[row.name])

    def test_refuses_a_layer_that_nothing_is_known_of(self, row: Format, made: Callable[..., Manifest]) -> None:
        manifest = made(CONFIGS[row.name], (WEIGHTS[row.name], {media.FILE_PATH: "a"}), ("application/x-new", {}))
        with pytest.raises(FormatError, match="unknown media type application/x-new"):
            row.read(manifest, BARE[row.name])

    def test_takes_a_layer_of_another_type_for_what_its_name_says(
        self, row: Format, made: Callable[..., Manifest]
    ) -> None:
        manifest = made(
            CONFIGS[row.name],
            (WEIGHTS[row.name], {media.FILE_PATH: "a.gguf"}),
            ("application/x-new", {media.FILE_PATH: "docs/LICENSE"}),
        )
        assert [part.role for part in row.read(manifest, BARE[row.name]).parts] == [Role.WEIGHTS, Role.LICENCE]

    def test_ignores_a_role_that_does_not_exist(self, row: Format, made: Callable[..., Manifest]) -> None:
        annotations = {media.FILE_PATH: "a.gguf", "io.lading.role": "captain"}
        assert (
            row.read(made(CONFIGS[row.name], (WEIGHTS[row.name], annotations)), BARE[row.name]).parts[0].role
            is Role.WEIGHTS
        )


def test_formats_are_named_once() -> None:
    assert [row.name for row in FORMATS] == ["docker", "modelpack", "image"]


def test_an_unknown_format_is_a_usage_error_that_names_the_known() -> None:
    with pytest.raises(UsageError, match="unknown format `zip`") as caught:
        named("zip")
    assert caught.value.hint == "formats are docker, modelpack, image, ollama"


def test_an_artifact_that_is_no_model_is_refused_with_its_type(made: Callable[..., Manifest]) -> None:
    manifest = made(
        "application/vnd.cncf.helm.config.v1+json", ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", {})
    )
    with pytest.raises(FormatError, match=r"host/x:1 is no model artifact .*/vnd.cncf.helm.config"):
        detect(manifest, "host/x:1")


@settings(derandomize=True, deadline=None)
@given(data=st.data())
def test_every_format_holds_any_files_in_any_roles(data: st.DataObject) -> None:
    folders = st.sampled_from(["", "", "deep/er/", "é/"])
    stems = st.sampled_from(["a b", "model", "mmproj-x", "LICENSE", "x-lora", "chat_template", "tokenizer", "README"])
    suffixes = st.sampled_from([".gguf", ".safetensors", ".json", ".jinja", ".md", ".py", ".dduf", ""])
    names = sorted(data.draw(st.sets(st.builds(lambda *words: "".join(words), folders, stems, suffixes), min_size=1)))
    templates = data.draw(st.sampled_from([(), (Role.TEMPLATE,)]))
    others = [role for role in Role if role is not Role.TEMPLATE]
    roles = [Role.WEIGHTS, *templates, *(data.draw(st.sampled_from(others)) for _ in names)][: len(names)]
    parts = tuple(
        Part(role, name, Descriptor(media_type="", digest=Digest.of(name.encode()), size=len(name)))
        for role, name in zip(roles, names, strict=True)
    )
    kind = data.draw(st.sampled_from(["gguf", "safetensors", "dduf", ""]))
    for row in FORMATS:
        found, read = reread(write(row, Model(parts, ModelFacts(format=kind))))
        assert found is row
        assert {(part.role, part.name, part.blob.digest) for part in read.parts} == {
            (part.role, part.name, part.blob.digest) for part in parts
        }
