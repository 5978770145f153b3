"""What is written of an artifact, and that what was there first comes back."""

from __future__ import annotations

import json
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from archives import Layers, files

from lading import artifact
from lading.artifact import detect, several
from lading.artifact.format import PLATFORMS
from lading.convert import Made, Press, find, make, original
from lading.digest import Digest
from lading.errors import UsageError
from lading.events import Noted, Silent
from lading.manifest import Descriptor, Index, Manifest, parse_document
from lading.model import Model, ModelFacts, Part, Role, role_of
from lading.plan import make_plan
from lading.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lading.content import Source
    from lading.events import Event

    Layer = tuple[str, bytes, Mapping[str, str]]

CNCF = "application/vnd.cncf.model."
DOCKER = "application/vnd.docker.ai."
FILE = "org.cncf.model.filepath"
BODIES = {
    "LICENSE": b"CC0\n",
    "chat_template.jinja": b"{{ messages }}",
    "story-00001-of-00002.gguf": b"GGUF" + bytes(5000),
    "story-00002-of-00002.gguf": b"GGUF" + bytes(4096),
}
FACTS = ModelFacts(format="gguf", architecture="llama", name="Story", parameters=1_443_584, file_type="F16")


class Log:
    def __init__(self) -> None:
        self.said: list[str] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.said.append(event.text)


def foreign(
    source: Layers,
    config: object,
    config_type: str,
    layers: Sequence[Layer],
    **more: Any,
) -> Manifest:
    """Write a manifest as another tool does: with line ends, keys of its own and in its own order."""
    raw = json.dumps(config, indent=1).encode()
    blobs = [source.add(body, kind, **annotations) for kind, body, annotations in layers]
    tree = {
        "config": {"size": len(raw), "digest": Digest.of(raw), "mediaType": config_type},
        "layers": [
            {"annotations": blob.annotations, "mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}
            for blob in blobs
        ],
        "annotations": {"somebody's": "own"},
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "schemaVersion": 2,
        **more,
    }
    source.add(raw, config_type)
    document = parse_document(json.dumps(tree, indent=2).encode(), name="it")
    assert isinstance(document, Manifest)
    return document


def runner(source: Layers) -> Manifest:
    """Docker Model Runner: a created time, and no names where it finds none."""
    weights, template = BODIES["story-00001-of-00002.gguf"], BODIES["chat_template.jinja"]
    config = {
        "config": {"format": "gguf", "quantization": "F16", "parameters": "1.44 M", "size": "5 KB"},
        "descriptor": {"created": "2025-05-05T05:05:05.123456789Z"},
        "rootfs": {"type": "rootfs", "diff_ids": [Digest.of(weights), Digest.of(template)]},
    }
    layers: list[Layer] = [(DOCKER + "gguf.v3", weights, {}), (DOCKER + "chat.template.jinja", template, {})]
    return foreign(source, config, DOCKER + "model.config.v0.1+json", layers)


def modctl(source: Layers) -> Manifest:
    """Modctl: capabilities in the config and metadata with times."""
    config = {
        "descriptor": {"createdAt": "2025-05-05T05:05:05Z", "family": "llama"},
        "config": {"format": "gguf", "capabilities": {"inputTypes": ["text"]}},
        "modelfs": {"type": "layers", "diffIds": [Digest.of(body) for body in BODIES.values()]},
    }
    kinds = {Role.WEIGHTS: "weight.v1.raw", Role.LICENCE: "doc.v1.raw", Role.TEMPLATE: "weight.config.v1.raw"}
    layers = [
        (CNCF + kinds[role_of(name)], body, {FILE: name, "org.cncf.model.file.metadata+json": '{"mtime":"2025"}'})
        for name, body in BODIES.items()
    ]
    return foreign(source, config, CNCF + "config.v1+json", layers, artifactType=CNCF + "manifest.v1+json")


def ramalama(source: Layers) -> Manifest:
    """RamaLama's artifacts: ModelPack's types and an empty config."""
    layers = [(CNCF + "weight.v1.raw", BODIES["story-00001-of-00002.gguf"], {FILE: "story.gguf"})]
    return foreign(source, {}, "application/vnd.oci.empty.v1+json", layers, artifactType=CNCF + "manifest.v1+json")


def ollama(source: Layers) -> Manifest:
    kind = "application/vnd.ollama.image."
    layers: list[Layer] = [
        (kind + "model", BODIES["story-00001-of-00002.gguf"], {}),
        (kind + "template", b"{{ .Prompt }}", {}),
    ]
    config = {"model_format": "gguf", "model_family": "llama", "model_type": "1B", "file_type": "F16", "os": "linux"}
    return foreign(source, config, "application/vnd.docker.container.image.v1+json", layers)


def omlmd(source: Layers) -> Manifest:
    layers = [
        ("application/x-mlmodel", BODIES["story-00001-of-00002.gguf"], {"org.opencontainers.image.title": "a.gguf"}),
        ("application/x-config", b'{"name": "x"}', {"org.opencontainers.image.title": "model_metadata.omlmd.json"}),
    ]
    return foreign(source, {"name": "x"}, "application/x-config", layers)


def converted(
    manifest: Manifest, source: Source, form: str, store: Store, log: Log | None = None
) -> tuple[Manifest, Made]:
    found = find(manifest, source, "it")
    made = make(found, several(form), Press(store, Silent()), log or Silent(), has=lambda _blob: False)
    root = made.root
    if isinstance(root, Index):
        root = made.source.document(root.manifests[0].digest)
    assert isinstance(root, Manifest)
    return root, made


@pytest.fixture
def source() -> Layers:
    return Layers(*BODIES.values())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("way", list(permutations(["docker", "modelpack", "image"])), ids="-".join)
@pytest.mark.parametrize("tool", [runner, modctl, ramalama, ollama, omlmd], ids=lambda tool: tool.__name__)
def test_what_another_tool_wrote_comes_back_byte_for_byte(
    source: Layers, store: Store, tool: Any, way: tuple[str, ...]
) -> None:
    first = tool(source)
    home = detect(first, "it").name
    now: Manifest = first
    place: Source = source
    for form in (*way, home):
        now, made = converted(now, place, form, store)
        place = made.source
        assert detect(now, "it").name == form
    assert now.raw == first.raw


def test_every_blob_of_every_form_can_be_read_whole(source: Layers, store: Store, tmp_path: Path) -> None:
    _first, made = converted(modctl(source), source, "docker,modelpack,image", store)
    target = Store(tmp_path / "target")
    plan = make_plan(made.root, target.has, made.inner)
    for blob in plan.missing:
        assert target.put_blob(blob, made.source, lambda _done: None) == ""
    assert isinstance(made.root, Index)
    platforms = [entry.platform for entry in made.root.manifests]
    assert platforms == [None, None, *PLATFORMS]
    layers = [{blob.digest for blob in document.layers} for document in made.inner if isinstance(document, Manifest)]
    assert layers[0] == layers[1] == {Digest.of(body) for body in BODIES.values()}
    assert layers[2] == layers[3]
    assert layers[2].isdisjoint(layers[0])


def test_no_weights_are_read_to_convert_between_raw_formats(source: Layers, store: Store) -> None:
    manifest = modctl(source)
    converted(manifest, source, "both", store)
    assert source.opened == 1  # the config


def test_an_artifact_stays_as_it_is_in_its_own_format(source: Layers, store: Store) -> None:
    manifest = modctl(source)
    assert converted(manifest, source, "modelpack", store)[0].raw == manifest.raw


def test_files_in_layers_become_files_and_files_layers(source: Layers, store: Store) -> None:
    kit = "application/vnd.kitops.modelkit."
    body = b"GGUF" + bytes(3000)
    layer = files(("story.gguf", body))
    config = {"manifestVersion": "1.0.0", "package": {"name": "x"}, "model": {"name": "x", "path": "story.gguf"}}
    manifest = foreign(source, config, kit + "config.v1+json", [(kit + "model.v1.tar", layer, {})])
    docker, made = converted(manifest, source, "docker", store)
    assert [blob.digest for blob in docker.layers] == [Digest.of(body)]
    assert made.source.open(docker.layers[0]).read(5000) == body
    # The kit's own layer is at hand nowhere, and nobody writes such a one anew.
    with pytest.raises(UsageError, match="not written"):
        converted(docker, made.source, "kitops", store)
    found = find(docker, made.source, "it")
    back = make(
        found, several("kitops"), Press(store, Silent()), Silent(), has=lambda blob: blob.digest == Digest.of(layer)
    )
    assert back.root.raw == manifest.raw


def test_words_that_are_too_long_are_not_kept_and_that_is_said(source: Layers, store: Store) -> None:
    first = modctl(source)
    manifest = foreign(
        source,
        {
            "config": {"format": "gguf"},
            "descriptor": {"family": "x" * original.LONGEST},
            "modelfs": {"type": "layers", "diffIds": [Digest.of(BODIES["story-00001-of-00002.gguf"])]},
        },
        CNCF + "config.v1+json",
        [(CNCF + "weight.v1.raw", BODIES["story-00001-of-00002.gguf"], {FILE: "a.gguf"})],
        artifactType=first.artifact_type,
    )
    log = Log()
    docker, _made = converted(manifest, source, "docker", store, log)
    assert original.MANIFEST not in docker.annotations
    assert log.said == ["the way back to modelpack is not kept: the manifest and config are too long"]


@pytest.mark.parametrize(
    "lie",
    [
        {original.MANIFEST: "{}"},
        {original.MANIFEST: "no json"},
        {original.CONFIG: '{"config":{"format":"other"}}'},
        {original.CONFIG: None},
    ],
    ids=["another document", "no document", "another config", "no config"],
)
def test_words_that_are_none_are_not_taken(source: Layers, store: Store, lie: dict[str, str | None]) -> None:
    docker, made = converted(modctl(source), source, "docker", store)
    annotations = {key: text for key, text in {**docker.annotations, **lie}.items() if text is not None}
    changed = Manifest.build(docker.config, docker.layers, annotations=annotations)
    back, _made = converted(changed, made.source, "modelpack", store)
    assert detect(back, "it").name == "modelpack"
    assert back.raw != modctl(source).raw


def test_words_of_another_model_are_not_taken(source: Layers, store: Store) -> None:
    docker, made = converted(ramalama(source), source, "docker", store)
    other = converted(modctl(source), source, "docker", store)[0]
    annotations = {
        **docker.annotations,
        **{key: other.annotations[key] for key in (original.MANIFEST, original.CONFIG)},
    }
    changed = Manifest.build(docker.config, docker.layers, annotations=annotations)
    back, _made = converted(changed, made.source, "modelpack", store)
    assert {blob.digest for blob in back.layers} == {blob.digest for blob in docker.layers}


def test_ours_carry_no_words_for_each_can_be_written_again(source: Layers, store: Store) -> None:
    parts = tuple(Part(role_of(name), name, Descriptor.of(body, "x/y")) for name, body in BODIES.items())
    for row in artifact.RAW:
        written = row.write(Model(parts, FACTS), "2026-01-02T03:04:05Z")
        source.add(written.config, "x/y")
        _first, made = converted(written.manifest, source, "docker,modelpack,image", store)
        for document in made.inner:
            assert original.MANIFEST not in document.annotations
