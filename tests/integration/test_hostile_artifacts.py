"""Artifacts that are no honest model, in a real registry and in an archive: exit 6, the part named, nothing to be seen."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from archives import compressed, files, header, member, pax, tar
from checker import check_store
from registry_push import MANIFEST, described, push_artifact
from small_artifact import WEIGHTS

from lading.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

AI, CNCF = "application/vnd.docker.ai.", "application/vnd.cncf.model."
IMAGE, LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"
PATH = "org.cncf.model.filepath"
Layer = tuple[bytes, str, dict[str, str]]


def zstd(data: bytes) -> bytes:
    return compressed(data, "zstd", "-q")


def fast(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


@dataclass(frozen=True)
class Artifact:
    """An artifact, and what the message on it has to name."""

    config: bytes
    config_type: str
    layers: tuple[Layer, ...]
    word: str
    artifact_type: str | None = None

    def archive(self, name: str) -> bytes:
        """Return it as an image layout in a tar."""
        named = [described(data, kind, more) for data, kind, more in self.layers]
        tree = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            **({"artifactType": self.artifact_type} if self.artifact_type else {}),
            "config": described(self.config, self.config_type),
            "layers": named,
        }
        return layout(json.dumps(tree).encode(), name, self.config, *(data for data, _kind, _more in self.layers))


def layout(manifest: bytes, name: str, *blobs: bytes) -> bytes:
    """Return an archive of a layout whose one name is a manifest, whatever its bytes are."""
    root = described(manifest, MANIFEST, {"org.opencontainers.image.ref.name": name})
    every = {f"blobs/sha256/{Digest.of(data).hex}": data for data in (manifest, *blobs)}
    return files(
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        ("index.json", json.dumps({"schemaVersion": 2, "manifests": [root]}).encode()),
        *every.items(),
    )


def modelpack(*named: str, word: str, config: Any = None) -> Artifact:
    """Return a ModelPack of files that differ by a byte: weights, templates, whatever their names tell."""
    layers: list[Layer] = []
    for number, name in enumerate(named):
        kind = "weight.v1.raw" if name.endswith((".gguf", ".safetensors")) else "weight.config.v1.raw"
        layers.append((WEIGHTS + bytes([number]), CNCF + kind, {PATH: name}))
    diff_ids = [str(Digest.of(data)) for data, _kind, _path in layers]
    said = {"descriptor": {}, "config": {}, "modelfs": {"type": "layers", "diffIds": diff_ids}}
    raw = config if isinstance(config, bytes) else json.dumps(config or said).encode()
    return Artifact(raw, f"{CNCF}config.v1+json", tuple(layers), word, f"{CNCF}manifest.v1+json")


def without(key: str) -> Artifact:
    """Return a ModelPack whose config lacks a key."""
    said = {"descriptor": {}, "config": {}, "modelfs": {"type": "layers", "diffIds": [str(Digest.of(WEIGHTS + b"\0"))]}}
    return modelpack("a.gguf", word=f"lacks `{key}`", config={name: said[name] for name in said if name != key})


def packed(archive: bytes, suffix: str, word: str, *, body: bytes | None = None) -> Artifact:
    """Return a ModelPack of one layer that is an archive, or says so."""
    pack: dict[str, Callable[[bytes], bytes]] = {"tar": bytes, "tar+gzip": fast, "tar+zstd": zstd}
    layer = (pack[suffix](archive) if body is None else body, f"{CNCF}weight.v1.{suffix}", {PATH: "a.gguf"})
    said = {
        "descriptor": {},
        "config": {},
        "modelfs": {"type": "layers", "diffIds": [str(Digest.of(archive))]},
    }
    return Artifact(json.dumps(said).encode(), f"{CNCF}config.v1+json", (layer,), word, f"{CNCF}manifest.v1+json")


def docker(*named: tuple[str, str], word: str, config: bytes | None = None) -> Artifact:
    layers = tuple((WEIGHTS + name.encode(), AI + kind, {PATH: name}) for name, kind in named)
    said = b'{"config":{"format":"gguf"},"descriptor":{},"rootfs":{"type":"rootfs","diff_ids":[]}}'
    return Artifact(config or said, f"{AI}model.config.v0.2+json", layers, word)


def image(*archives: bytes, suffix: str = "", word: str, diff_ids: list[str] | None = None) -> Artifact:
    packers: dict[str, Callable[[bytes], bytes]] = {"": bytes, "+gzip": fast, "+zstd": zstd}
    pack = packers[suffix]
    said = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": diff_ids or [str(Digest.of(one)) for one in archives]},
    }
    layers: tuple[Layer, ...] = tuple((pack(one), LAYER + suffix, {}) for one in archives)
    return Artifact(json.dumps(said).encode(), IMAGE, layers, word)


def zeros(length: int, head: bytes) -> bytes:
    """Return a gzip stream of an archive that goes on with that many zeros, made without them in memory."""
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(1 << 20)
    return packer.compress(head) + b"".join(packer.compress(block) for _ in range(length >> 20)) + packer.flush()


BOMB = member("a.gguf", WEIGHTS) + header("b.gguf", 96 << 20)
SHARDS = ("m-00001-of-00003.gguf", "m-00003-of-00003.gguf")
TENSORS = ("m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors")
IMAGE_CONFIG = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}
OLLAMA_CONFIG = {"model_format": "gguf", "model_family": "llama", "model_type": "1.4M", "file_type": "F16"}
GGUF, FILE, TEMPLATE = "gguf.v3", "model.file", "chat.template.jinja"

HOSTILE: dict[str, Callable[[], Artifact]] = {
    "modelpack: a missing shard": lambda: modelpack(*SHARDS, word="m-00002-of-00003.gguf"),
    "modelpack: a missing shard of safetensors": lambda: modelpack(*TENSORS, word="m-00002-of-00003.safetensors"),
    "modelpack: a name too long for a disk": lambda: modelpack(f"{'x' * 251}.gguf", word="impossible name `xxx"),
    "modelpack: a diff_id that is none": lambda: modelpack(
        "a.gguf", word="has the malformed diff_id `sha256:0`",
        config={"descriptor": {}, "config": {}, "modelfs": {"type": "layers", "diffIds": ["sha256:0"]}},
    ),
    "modelpack: names that differ by case": lambda: modelpack("Story.gguf", "story.gguf", word="differ by case"),
    "modelpack: folders that differ by case": lambda: modelpack("A/a.gguf", "a/b.json", word="differ by case"),
    "modelpack: names that differ by accents": lambda: modelpack("\u00e9.gguf", "e\u0301.gguf", word="differ by case"),
    "modelpack: one name twice": lambda: modelpack("a.gguf", "a.gguf", word="a.gguf"),
    "modelpack: no weights": lambda: modelpack("config.json", word="no weights"),
    "modelpack: a config that is no JSON": lambda: modelpack("a.gguf", word="ModelPack config", config=b"weights: a"),
    "modelpack: an image's config": lambda: modelpack("a.gguf", word="ModelPack config", config=IMAGE_CONFIG),
    "modelpack: Ollama's config": lambda: modelpack("a.gguf", word="ModelPack config", config=OLLAMA_CONFIG),
    "modelpack: a list as config": lambda: modelpack("a.gguf", word="ModelPack config", config=b"[]"),
    "modelpack: a path upwards": lambda: modelpack("../../a.gguf", word="a.gguf"),
    "modelpack: a missing shard in an archive": lambda: packed(
        files(*((name, WEIGHTS) for name in SHARDS)), "tar", "m-00002-of-00003.gguf"
    ),
    "modelpack: a link in gzip": lambda: packed(
        tar(member("a.gguf", WEIGHTS), header("b.gguf", flag=b"2")), "tar+gzip", "b.gguf"
    ),
    "modelpack: a link in zstd": lambda: packed(
        tar(member("a.gguf", WEIGHTS), header("b.gguf", flag=b"2")), "tar+zstd", "b.gguf"
    ),
    "modelpack: a diff_id that lies": lambda: packed(
        files(("a.gguf", WEIGHTS)), "tar+zstd", "layer sha256:", body=zstd(files(("a.gguf", WEIGHTS + b"x")))
    ),
    "modelpack: gzip that is none": lambda: packed(b"", "tar+gzip", "layer sha256:", body=b"no gzip" * 99),
    "modelpack: a bomb in gzip": lambda: packed(b"", "tar+gzip", "layer sha256:", body=zeros(96 << 20, BOMB)),
    "modelpack: a bomb in zstd": lambda: packed(
        b"", "tar+zstd", "layer sha256:", body=zstd(BOMB + bytes(96 << 20))
    ),
    "modelpack: a config without descriptor": lambda: without("descriptor"),
    "modelpack: a config without config": lambda: without("config"),
    "modelpack: a config without modelfs": lambda: without("modelfs"),
    "modelpack: two templates": lambda: modelpack("a.gguf", "b.jinja", "c.jinja", word="2 chat templates: b.jinja"),
    "modelpack: a raw layer's diff_id that lies": lambda: modelpack(
        "a.gguf", word="layer sha256:",
        config={"descriptor": {}, "config": {}, "modelfs": {"type": "layers", "diffIds": [f"sha256:{'0' * 64}"]}},
    ),
    "docker: two templates": lambda: docker(
        ("a.gguf", GGUF), ("b.jinja", TEMPLATE), ("c.jinja", TEMPLATE), word="2 chat templates: b.jinja"
    ),
    "docker: a missing shard": lambda: docker(*((name, GGUF) for name in SHARDS), word="m-00002-of-00003.gguf"),
    "docker: a missing shard of safetensors": lambda: docker(
        *((name, "safetensors") for name in TENSORS), word="m-00002-of-00003.safetensors"
    ),
    "docker: names that differ by case": lambda: docker(
        ("a.gguf", GGUF), ("README.md", FILE), ("readme.md", FILE), word="differ by case"
    ),
    "docker: a ModelPack's config": lambda: docker(
        ("a.gguf", GGUF), word="Docker model config",
        config=b'{"descriptor":{},"config":{},"modelfs":{"type":"layers","diffIds":[]}}',
    ),
    "docker: Ollama's config": lambda: docker(
        ("a.gguf", GGUF), word="Docker model config", config=json.dumps(OLLAMA_CONFIG).encode()
    ),
    "image: a missing shard": lambda: image(
        files(*((f"models/{name}", WEIGHTS) for name in SHARDS)), word="m-00002-of-00003.gguf"
    ),
    "image: a missing shard of safetensors": lambda: image(
        files(*((f"models/{name}", WEIGHTS) for name in TENSORS)), word="m-00002-of-00003.safetensors"
    ),
    "image: two templates": lambda: image(
        files(("models/a.gguf", WEIGHTS), ("models/b.jinja", b"b"), ("models/c.jinja", b"c")),
        word="2 chat templates: b.jinja",
    ),
    "image: case in two layers": lambda: image(
        files(("models/a.gguf", WEIGHTS)), files(("models/A.gguf", WEIGHTS)), word="differ by case"
    ),
    "image: two diff_ids that lie": lambda: image(
        files(("models/a.gguf", WEIGHTS)), files(("models/b.json", b"{}")), word="layer sha256:",
        diff_ids=[f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"], suffix="+zstd",
    ),
    "image: a bomb in zstd": lambda: image(
        tar(member("models/a.gguf", WEIGHTS)) + bytes(96 << 20), suffix="+zstd", word="layer sha256:"
    ),
    "image: 8 EiB": lambda: image(
        header("models/a.gguf", b"\x80" + (2**63).to_bytes(11, "big")), word="models/a.gguf"
    ),
    "image: 8 EiB, sparse": lambda: image(
        tar(pax(("GNU.sparse.realsize", str(2**63))), member("models/a.gguf", WEIGHTS)), word="sparse"
    ),
}  # fmt: skip


@pytest.fixture(params=sorted(HOSTILE))
def artifact(request: pytest.FixtureRequest) -> Artifact:
    return HOSTILE[request.param]()


def refuse(lading: CommandLine, word: str, *arguments: str | Path) -> None:
    """Require that a command is refused, naming the part, and leaves nothing that can be seen."""
    told = lading(*arguments, code=6).stderr
    [error] = [line for line in told.splitlines() if line.startswith("error: ")]
    assert word in error
    assert any(line.startswith("hint: ") for line in told.splitlines()), told
    assert "\x1b" not in told
    assert json.loads(lading("list", "--json").stdout) == []
    lading("prune")
    check_store(lading.store, swept=True)
    assert [path for path in lading.store.glob("blobs/*/*") if path.is_file()] == []
    assert list(lading.store.glob("models/*")) == []


def test_it_is_refused_whichever_way_it_comes(
    lading: CommandLine, artifact: Artifact, plain_registry: RegistryProcess, tmp_path: Path
) -> None:
    name = Digest.of(artifact.archive("bad:1")).hex[:12]
    place = f"{plain_registry.host}/hostile/{name}:1"
    push_artifact(place, (artifact.config, artifact.config_type), artifact.layers, artifact_type=artifact.artifact_type)
    refuse(lading, artifact.word, "pull", place)
    refuse(lading, artifact.word, "copy", place, "bad:1", "--format", "docker,modelpack,image")
    (tmp_path / "bad.tar").write_bytes(artifact.archive("bad:1"))
    refuse(lading, artifact.word, "load", tmp_path / "bad.tar")
    assert "bad" not in json.dumps([path.name for path in lading.folder.iterdir()])


@pytest.mark.parametrize("key", ["config", "layers"])
def test_a_manifest_without_what_it_must_have_is_refused(lading: CommandLine, tmp_path: Path, key: str) -> None:
    # No registry takes it.
    tree: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": f"{CNCF}manifest.v1+json",
        "config": described(b"{}", f"{CNCF}config.v1+json"),
        "layers": [described(WEIGHTS, f"{CNCF}weight.v1.raw", {PATH: "a.gguf"})],
    }
    del tree[key]
    (tmp_path / "bad.tar").write_bytes(layout(json.dumps(tree).encode(), "bad:1", b"{}", WEIGHTS))
    refuse(lading, key, "load", tmp_path / "bad.tar")


@pytest.mark.parametrize("pack", ["gzip", "zstd"])
def test_an_archive_that_is_a_bomb_as_a_whole_is_refused(lading: CommandLine, tmp_path: Path, pack: str) -> None:
    head = header("blobs/sha256/a", 96 << 20)
    data = zeros(96 << 20, head) if pack == "gzip" else zstd(head + bytes(96 << 20))
    (tmp_path / "bad.tar").write_bytes(data)
    refuse(lading, "bad.tar becomes more than", "load", tmp_path / "bad.tar")
