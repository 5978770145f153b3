from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from lading import media
from lading.artifact import ollama as format_
from lading.auth import Authorizer
from lading.digest import Digest
from lading.errors import AccessDeniedError, FormatError, NetworkError, NotFoundError
from lading.manifest import Descriptor, Manifest, expect_manifest, parse_document
from lading.model import Role
from lading.plan import single_manifest
from lading.reference import Ollama
from lading.store import Store
from lading.transport.ollama import OllamaRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from real_registry import RegistryProcess

    from lading.http import Client
    from lading.transport.registry import Registry

CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
CONFIG = {
    "model_format": "gguf",
    "model_family": "llama",
    "model_families": ["llama"],
    "model_type": "8.0B",
    "file_type": "Q4_K_M",
    "renderer": "x",
    "context_length": 8192,
    "architecture": "amd64",
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": []},
}
LAYERS = {
    "model": b"GGUF weights",
    "projector": b"GGUF projector",
    "template": b"{{ .Prompt }}",
    "system": b"You tell stories.",
    "params": b'{"temperature":0.7}',
    "messages": b"[]",
    "license": b"CC0",
}


def raw_manifest(
    layers: list[tuple[str, bytes]], config: bytes, config_type: str = CONFIG_TYPE, **more: object
) -> bytes:
    """A manifest as Ollama writes it: descriptors with a key of its own, and spaces nowhere."""

    def describe(media_type: str, data: bytes) -> dict[str, object]:
        return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), "from": "/root/blob"}

    tree = {
        "schemaVersion": 2,
        "mediaType": media.DOCKER_MANIFEST,
        "config": describe(config_type, config),
        "layers": [describe(media_type, data) for media_type, data in layers],
        **more,
    }
    return json.dumps(tree, separators=(",", ":")).encode()


def made(*kinds: str, config: dict[str, object] | None = None) -> tuple[Manifest, bytes]:
    """An Ollama model with layers of these kinds, and the bytes of its config."""
    raw = json.dumps(CONFIG if config is None else config).encode()
    layers = [(f"{format_.PREFIX}{kind}", f"{kind} {index}".encode()) for index, kind in enumerate(kinds)]
    document = parse_document(raw_manifest(layers, raw), name="it", media_type=media.DOCKER_MANIFEST)
    return expect_manifest(document, "it"), raw


class Blobs:
    """A Source of some bytes, to push from."""

    def __init__(self, *blobs: bytes) -> None:
        self._blobs = {Digest.of(data): data for data in blobs}

    def document(self, name: str, /) -> Any:
        raise NotImplementedError(name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> Any:
        return io.BytesIO(self._blobs[blob.digest][offset:])

    def ranges(self, blob: Descriptor, /) -> Any:
        raise NotImplementedError(blob)


@pytest.fixture
def pushed(plain_registry: RegistryProcess, connect: Callable[..., Registry]) -> tuple[Ollama, bytes]:
    """A model with layers of every kind, in the real registry; its reference and the manifest's bytes."""
    target = connect(plain_registry.host, "library/story")
    config = json.dumps(CONFIG).encode()
    layers = [(f"{format_.PREFIX}{kind}", data) for kind, data in LAYERS.items()]
    source = Blobs(config, *LAYERS.values())
    raw = raw_manifest(layers, config)
    document = parse_document(raw, name="it", media_type=media.DOCKER_MANIFEST)
    assert isinstance(document, Manifest)
    for blob in document.blobs:
        target.put_blob(blob, source, lambda _done: None)
    target.put_document(document, "8b")
    return Ollama("story", "8b", host=plain_registry.host), raw


@pytest.fixture
def reach(client: Client) -> Callable[..., OllamaRegistry]:
    def make(reference: Ollama, **options: Any) -> OllamaRegistry:
        return OllamaRegistry(reference, client, Authorizer(client, lambda _host, _repository: None), **options)

    return make


# -- the registry -------------------------------------------------------------------


@pytest.mark.integration
def test_a_model_is_kept_byte_for_byte_and_read_with_roles(
    pushed: tuple[Ollama, bytes], reach: Callable[..., OllamaRegistry], tmp_path: Path
) -> None:
    reference, raw = pushed
    source = reach(reference)
    manifest = single_manifest(source.document(reference.tag), source.document, str(reference))
    assert manifest.raw == raw
    assert manifest.media_type == media.DOCKER_MANIFEST
    store = Store(tmp_path / "store")
    for blob in manifest.blobs:
        store.put_blob(blob, source, lambda _done: None)
    store.put_document(manifest, "ollama:story:8b")
    assert store.document("ollama:story:8b").raw == raw
    model = format_.ROW.read(manifest, store.read(manifest.config))
    assert {part.name: (part.role, store.read(part.blob)) for part in model.parts} == {
        "model.gguf": (Role.WEIGHTS, LAYERS["model"]),
        "mmproj.gguf": (Role.PROJECTOR, LAYERS["projector"]),
        "template.gotmpl": (Role.OTHER, LAYERS["template"]),
        "system.txt": (Role.SYSTEM, LAYERS["system"]),
        "params.json": (Role.PARAMS, LAYERS["params"]),
        "messages.json": (Role.OTHER, LAYERS["messages"]),
        "LICENSE": (Role.LICENCE, LAYERS["license"]),
    }
    weights = model.of(Role.WEIGHTS)[0].blob
    assert source.ranges(weights).read_at(0, 4) == b"GGUF"


@pytest.mark.integration
def test_a_model_that_is_not_there_is_named_without_a_list_of_tags(
    pushed: tuple[Ollama, bytes], reach: Callable[..., OllamaRegistry], plain_registry: RegistryProcess
) -> None:
    reference, _raw = pushed
    source = reach(reference)
    with pytest.raises(NotFoundError, match=rf"has no ollama://{plain_registry.host}/library/story:8b$"):
        source.document("9b")
    with pytest.raises(NotFoundError, match="has no manifest sha256:"):
        source.document(str(Digest.of(b"none")))
    absent = Ollama("none", host=plain_registry.host)
    with pytest.raises(NotFoundError):
        reach(absent).document("latest")


def test_a_registry_that_answers_no_ping_and_sends_text_is_spoken_to(
    hostile: Any, reply: Any, reach: Callable[..., OllamaRegistry]
) -> None:
    """As registry.ollama.ai: `/v2/` is 404, manifests are text/plain, blobs lie elsewhere."""
    raw = raw_manifest([(f"{format_.PREFIX}model", b"GGUF")], b"{}")
    hostile.on("GET", "/v2/library/story/manifests/latest", reply(body=raw, headers={"Content-Type": "text/plain"}))
    source = reach(Ollama("story", host=hostile.host))
    document = source.document("latest")
    assert document.raw == raw
    assert [asked.path for asked in hostile.asked if "tags" in asked.path] == []
    hostile.on("GET", "/v2/library/story/manifests/latest", reply(404, b"{}"))
    with pytest.raises(NotFoundError):
        source.document("latest")
    page = reply(404, b"<html>", {"Content-Type": "text/html"})
    hostile.on("GET", "/v2/library/story/manifests/latest", page)
    with pytest.raises(NetworkError, match="web page"):
        source.document("latest")
    assert [asked.path for asked in hostile.asked if "tags" in asked.path] == []


def test_a_challenge_of_ollamas_own_registry_is_not_answered(hostile: Any, reply: Any, client: Client) -> None:
    """What it wants is a signature: no login that is kept for other registries is offered to it."""
    asked: list[str] = []

    def find(host: str, _repository: str) -> None:
        asked.append(host)

    source = OllamaRegistry(Ollama("story", host=hostile.host), client, Authorizer(client, find))
    challenge = {"WWW-Authenticate": f'Bearer realm="{hostile.url}/token",service="x",scope="repository:a:pull"'}
    hostile.on("GET", "/v2/library/story/manifests/latest", reply(401, b"{}", challenge))
    source.host = "registry.ollama.ai"
    with pytest.raises(AccessDeniedError) as caught:
        source.document("latest")
    assert caught.value.hint == "only public models are read from there; check its spelling"
    assert asked == []
    assert not any(one.path == "/token" for one in hostile.asked)


# -- the format ---------------------------------------------------------------------


def test_the_config_tells_what_it_knows() -> None:
    facts = format_.ROW.read(*made("model")).facts
    assert (facts.format, facts.architecture, facts.file_type) == ("gguf", "llama", "Q4_K_M")
    assert (facts.parameters, facts.context_length, facts.chat_template) == (8_000_000_000, 8192, None)
    bare = format_.ROW.read(*made("model", config={})).facts
    assert (bare.format, bare.architecture, bare.parameters, bare.file_type) == ("gguf", None, None, None)
    odd = {"file_type": "unknown", "model_type": "large", "context_length": -5, "rootfs": None, "new_key": {}}
    facts = format_.ROW.read(*made("model", config=odd)).facts
    assert (facts.file_type, facts.parameters, facts.context_length) == (None, None, None)


def test_the_go_template_is_no_chat_template() -> None:
    for kind in ("template", "prompt"):
        model = format_.ROW.read(*made("model", kind))
        assert model.of(Role.TEMPLATE) == ()
        assert [part.name for part in model.of(Role.OTHER)] == ["template.gotmpl"]


def test_layers_of_one_kind_get_names_of_their_own() -> None:
    kinds = ("model", "license", "license", "adapter", "adapter", "draft", "embed", "skills")
    model = format_.ROW.read(*made(*kinds))
    assert [(part.name, part.role) for part in model.parts] == [
        ("model.gguf", Role.WEIGHTS),
        ("LICENSE", Role.LICENCE),
        ("LICENSE-2", Role.LICENCE),
        ("adapter.gguf", Role.ADAPTER),
        ("adapter-2.gguf", Role.ADAPTER),
        ("draft.gguf", Role.DRAFTER),
        ("skills", Role.OTHER),
    ]


def test_it_is_known_by_its_layers_and_taken_for_no_other_format() -> None:
    manifest, _raw = made("model")
    assert format_.ROW.detect(manifest)
    image = raw_manifest([("application/vnd.docker.image.rootfs.diff.tar.gzip", b"x")], b"{}")
    assert not format_.ROW.detect(expect_manifest(parse_document(image, name="it"), "it"))


@pytest.mark.parametrize(
    ("kinds", "config", "why"),
    [
        (("license",), None, "no weights"),
        ((), None, "no weights"),
        (("tensor", "json"), None, "a piece of one"),
        (("model", "../../x"), None, "unknown media type"),
        (("model", "X\x1b"), None, "unknown media type"),
        (("model", ""), None, "unknown media type"),
        (("model",), {"remote_host": "https://ollama.com", "remote_model": "x"}, "runs at Ollama's"),
        (("model",), {"model_format": 7}, "malformed"),
    ],
)
def test_what_is_no_model_to_run_here_is_refused(
    kinds: tuple[str, ...], config: dict[str, object] | None, why: str
) -> None:
    with pytest.raises(FormatError, match=why):
        format_.ROW.read(*made(*kinds, config=config))


def test_a_layer_of_another_format_is_refused() -> None:
    manifest, raw = made("model")
    stranger = msgspec.structs.replace(manifest.layers[0], media_type="application/x-new")
    mixed = Manifest.build(manifest.config, (*manifest.layers, stranger))
    with pytest.raises(FormatError, match="unknown media type application/x-new"):
        format_.ROW.read(mixed, raw)
