"""Models packed in layers, as engines and other tools publish them: looked at by ranges, pulled whole or not at all, run."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from archives import compressed, files, header, member, pax, tar
from checker import check_store
from counting_proxy import CountingProxy
from disks import mounted
from engines import Engines
from registry_push import push_artifact

from lading.artifact.layers import LOOK
from lading.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
KIT = "application/vnd.kitops.modelkit."
CNCF = "application/vnd.cncf.model."
SUFFIXES = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}
FACTS = "llama, 1.4 M parameters, F16"
SECRET = b"outside"


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    return Engines(tmp_path_factory.mktemp("engines"))


@pytest.fixture
def proxy(plain_registry: RegistryProcess) -> Iterator[CountingProxy]:
    made = CountingProxy(plain_registry.host)
    yield made
    made.stop()


@pytest.fixture
def put(plain_registry: RegistryProcess, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Put an image of one layer into the registry, the archive as it is or compressed, and return its reference."""
    repository = f"packed/{Digest.of(request.node.nodeid.encode()).partition(':')[2][:12]}"

    def make(
        *archives: bytes, diff_id: str | None = None, pack: Callable[[bytes], bytes] = bytes, tag: str = "1"
    ) -> str:
        diff_ids = [diff_id or str(Digest.of(archive)) for archive in archives]
        config = json.dumps(
            {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        )
        bodies = [pack(archive) for archive in archives]
        kinds = [
            "+gzip" if body.startswith(b"\x1f\x8b") else "+zstd" if body[1:4] == b"\xb5\x2f\xfd" else ""
            for body in bodies
        ]
        layers = [(body, LAYER + kind) for body, kind in zip(bodies, kinds, strict=True)]
        place = f"{plain_registry.host}/{repository}:{tag}"
        push_artifact(place, (config.encode(), CONFIG), layers)
        return place

    return make


def documents(lading: CommandLine, *arguments: str) -> Any:
    return json.loads(lading(*arguments, "--json").stdout)


def noise(count: int) -> bytes:
    """Return bytes that no compressor makes smaller."""
    return random.Random(1).randbytes(count)


def pushed_by(engines: Engines, compression: str, built: str, place: str) -> None:
    """Push what buildah or podman built, its layers as asked for."""
    if compression == "none":
        # Both compress whatever they push; skopeo leaves layers alone where digests are to stay.
        folder = engines.folder / f"plain-{len(list(engines.folder.iterdir()))}"
        engines("podman", "save", "--quiet", "--format", "docker-dir", "--output", folder, built)
        engines("skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false", f"dir:{folder}", f"docker://{place}")
        return
    engines(
        "buildah",
        "push",
        "--quiet",
        "--tls-verify=false",
        "--compression-format",
        compression,
        built,
        f"docker://{place}",
    )


@pytest.mark.parametrize("compression", sorted(SUFFIXES))
def test_a_car_that_buildah_built_is_inspected_pulled_and_run(
    lading: CommandLine, engines: Engines, story: Path, plain_registry: RegistryProcess, compression: str
) -> None:
    # A file that differs: an engine takes layers of the same content from what it pushed before.
    context = {"storyteller.gguf": story.read_bytes(), "README.md": compression.encode()}
    built = engines.build(f"localhost/{compression}", files=context, lines=["FROM scratch", "COPY * /models/"])
    place = f"{plain_registry.host}/cars/{compression}:1"
    pushed_by(engines, compression, built, place)
    layer = json.loads(engines("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{place}"))["layers"][0]
    assert layer["mediaType"].endswith(f"tar{SUFFIXES[compression]}") or layer["mediaType"].endswith(
        f"tar.{compression}"
    )

    shown = lading("inspect", place).stdout
    assert FACTS in shown
    assert "not in the store" in shown
    assert not lading.store.exists()
    document = documents(lading, "inspect", place)
    assert document["format"] == "image"
    assert [(part["role"], part["name"], part["size"]) for part in document["parts"]] == [
        ("doc", "README.md", len(compression)),
        ("weights", "storyteller.gguf", story.stat().st_size),
    ]
    assert {part["layer"] for part in document["parts"]} == {layer["digest"]}
    assert document["partly_read"] == []

    lading("pull", place)
    assert lading("pull", place).stdout.startswith("up to date")
    stored = lading("inspect", place).stdout.splitlines()
    assert [line for line in stored[1:] if not line.startswith("  bytes")] == shown.splitlines()[1:]
    [listed] = documents(lading, "list")
    assert listed["parts"] == document["parts"]
    assert layer["size"] < listed["own_size"] < layer["size"] + 5_000
    assert lading("run", place, "Once upon a time", "--seed", "3", "-n", "8").stdout.strip()
    [unpacked] = lading.store.glob("models/*/storyteller.gguf")
    assert unpacked.read_bytes() == story.read_bytes()
    assert "no faults" in lading("verify").stdout
    check_store(lading.store, committed=[layer["digest"]], arriving=0)


def test_an_uncompressed_layer_is_looked_at_by_ranges(
    lading: CommandLine, story: Path, put: Callable[..., str], proxy: CountingProxy
) -> None:
    large = files(("models/a.bin", bytes(40_000_000)), ("models/story.gguf", story.read_bytes()), ("models/z.md", b"#"))
    place = put(large).partition("/")[2]
    document = documents(lading, "inspect", f"{proxy.host}/{place}")
    assert [part["name"] for part in document["parts"]] == ["a.bin", "story.gguf", "z.md"]
    assert document["model"]["parameters"] == 1_443_584
    blobs = [one for one in proxy.asked if "/blobs/" in one.path]
    assert len(blobs) <= 8
    assert proxy.blob_bytes < 800_000


def test_of_a_large_compressed_layer_the_beginning_is_looked_at_and_that_is_said(
    lading: CommandLine, story: Path, put: Callable[..., str], proxy: CountingProxy
) -> None:
    rest = ("models/z.bin", noise(4 * LOOK))
    place = put(files(("models/a.gguf", story.read_bytes()), rest, ("models/zz.md", b"#")), pack=fast).partition("/")[2]
    document = documents(lading, "inspect", f"{proxy.host}/{place}")
    assert [part["name"] for part in document["parts"]] == ["a.gguf", "z.bin"]
    assert len(document["partly_read"]) == 1
    assert proxy.blob_bytes < 3 * LOOK
    shown = lading("inspect", f"{proxy.host}/{place}").stdout
    assert "in part    the first 8.4 MB of a compressed layer were looked at; there may be more files" in shown
    lading("pull", f"{proxy.host}/{place}")
    document = documents(lading, "inspect", f"{proxy.host}/{place}")
    assert [part["name"] for part in document["parts"]] == ["a.gguf", "z.bin", "zz.md"]
    assert document["partly_read"] == []


def fast(archive: bytes) -> bytes:
    return gzip.compress(archive, 1, mtime=0)


def test_a_model_far_behind_in_a_compressed_layer_is_found_by_a_pull(
    lading: CommandLine, story: Path, put: Callable[..., str]
) -> None:
    place = put(files(("bin/sh", noise(LOOK + 1)), ("models/a.gguf", story.read_bytes())), pack=fast)
    told = lading("inspect", place, code=6).stderr
    assert "as far as the first 8.4 MB of its compressed layers show" in told
    assert "lading pull" in told
    lading("pull", place)
    assert FACTS in lading("inspect", place).stdout


def test_what_is_up_to_date_is_not_looked_into_again(
    lading: CommandLine, story: Path, put: Callable[..., str], proxy: CountingProxy
) -> None:
    place = f"{proxy.host}/{put(files(('models/a.gguf', story.read_bytes())), pack=fast).partition('/')[2]}"
    lading("pull", place)
    before = proxy.blob_bytes
    lading("pull", place)
    assert proxy.blob_bytes == before


def test_a_modelkit_is_pulled_and_run(lading: CommandLine, story: Path, plain_registry: RegistryProcess) -> None:
    model, docs = files(("weights/story.gguf", story.read_bytes())), files(("LICENSE", b"CC0"))
    kitfile = {
        "manifestVersion": "1.0.0",
        "package": {"name": "story", "license": "CC0-1.0"},
        "model": {"name": "Story", "path": "./weights/story.gguf"},
        "docs": [{"path": "LICENSE"}],
    }
    place = f"{plain_registry.host}/kits/story:1"
    layers = [(fast(model), f"{KIT}model.v1.tar+gzip"), (docs, f"{KIT}docs.v1.tar")]
    push_artifact(place, (json.dumps(kitfile).encode(), f"{KIT}config.v1+json"), layers)
    lading("pull", place)
    document = documents(lading, "inspect", place)
    assert document["format"] == "kitops"
    assert [(part["role"], part["name"]) for part in document["parts"]] == [
        ("weights", "weights/story.gguf"),
        ("licence", "LICENSE"),
    ]
    assert lading("run", place, "Once upon a time", "--seed", "3", "-n", "8").stdout.strip()


@pytest.mark.parametrize("suffix", ["tar", "tar+gzip", "tar+zstd"])
def test_a_modelpack_of_archives_beside_raw_layers_is_pulled_and_run(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess, suffix: str
) -> None:
    archive = files(("story.gguf", story.read_bytes()))
    packers: dict[str, Callable[[bytes], bytes]] = {"tar": bytes, "tar+gzip": fast, "tar+zstd": zstd}
    template = b"{{ messages[0].content }}"
    layers: list[Any] = [
        (packers[suffix](archive), f"{CNCF}weight.v1.{suffix}", {"org.cncf.model.filepath": "story.gguf"}),
        (template, f"{CNCF}weight.config.v1.raw", {"org.cncf.model.filepath": "chat_template.jinja"}),
    ]
    diff_ids = [str(Digest.of(archive)), str(Digest.of(template))]
    config = {
        "descriptor": {"name": "Story"},
        "config": {"format": "gguf"},
        "modelfs": {"type": "layers", "diffIds": diff_ids},
    }
    place = f"{plain_registry.host}/packs/{suffix.replace('+', '-')}:1"
    kind = f"{CNCF}config.v1+json"
    push_artifact(place, (json.dumps(config).encode(), kind), layers, artifact_type=f"{CNCF}manifest.v1+json")
    assert FACTS in lading("inspect", place).stdout
    lading("pull", place)
    assert [part["layer"] is None for part in documents(lading, "inspect", place)["parts"]] == [False, True]
    assert lading("run", place, "Once upon a time", "--seed", "3", "-n", "8").stdout.strip()
    # The file and the link to a blob lie side by side.
    [folder] = lading.store.glob("models/*")
    assert sorted(path.name for path in folder.iterdir()) == ["chat_template.jinja", "story.gguf"]


def zstd(archive: bytes) -> bytes:
    return compressed(archive, "zstd", "-q")


def test_out_of_a_store_that_is_read_only_a_packed_model_runs_once_it_was_unpacked(
    lading: CommandLine, story: Path, put: Callable[..., str], tmp_path: Path
) -> None:
    archive = files(("models/a.gguf", story.read_bytes()))
    with mounted(tmp_path / "disk", 32 << 20) as disk:
        lading.environment["LADING_STORE"] = str(disk.path / "store")
        used, unused = put(archive), put(archive, files(("models/README.md", b"#")), tag="2")
        lading("pull", used, unused)
        lading("run", used, "Once upon a time", "-n", "1")
        disk.freeze()
        assert lading("run", used, "Once upon a time", "-n", "4").stdout.strip()
        told = lading("run", unused, "Once upon a time", code=4).stderr
        assert "is packed in layers, out of which it goes into the store" in told
        assert FACTS in lading("inspect", unused).stdout


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "upwards": (lambda: files(("models/a.gguf", b"GGUF"), ("models/../../etc/passwd", SECRET)), ".."),
    "absolute": (lambda: files(("/models/a.gguf", b"GGUF")), "/models/a.gguf"),
    "hard-link": (lambda: tar(member("models/a.gguf", b"GGUF"), header("models/b.gguf", flag=b"1")), "models/b.gguf"),
    "device": (lambda: tar(member("models/a.gguf", b"GGUF"), header("models/sda", flag=b"4")), "models/sda"),
    "fifo": (lambda: tar(member("models/a.gguf", b"GGUF"), header("models/pipe", flag=b"6")), "models/pipe"),
    "twice": (lambda: files(("models/a.gguf", b"GGUF"), ("models/a.gguf", b"GGUX")), "twice"),
    "case": (lambda: files(("models/a.gguf", b"GGUF"), ("models/A.gguf", b"GGUX")), "differ by case"),
    "size-lie": (lambda: header("models/a.gguf", 2**32) + b"GGUF", "layer"),
    "cut": (lambda: member("models/a.gguf", b"GGUF" * 1000)[:2048], "layer"),
    "sparse": (lambda: tar(pax(("GNU.sparse.realsize", str(2**63))), member("models/a.gguf", b"GGUF")), "sparse"),
    "no-archive": (lambda: b"GGUF" * 500, "layer"),
    "control": (lambda: files(("models/a\x1b[2J.gguf", b"GGUF")), "a\\x1b[2J.gguf"),
    "exbibytes": (lambda: header("models/a.gguf", b"\x80" + (2**63).to_bytes(11, "big")), "models/a.gguf"),
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_a_hostile_archive_is_refused_by_the_name_of_its_part(
    lading: CommandLine, put: Callable[..., str], kind: str
) -> None:
    make, word = HOSTILE[kind]
    refuse(lading, put(make()), word)


@pytest.mark.parametrize("kind", ["cut", "hard-link", "size-lie", "upwards"])
def test_a_hostile_archive_is_refused_as_well_if_it_is_compressed(
    lading: CommandLine, put: Callable[..., str], kind: str
) -> None:
    make, word = HOSTILE[kind]
    refuse(lading, put(make(), pack=fast), word)


def test_what_was_refused_is_refused_again_though_its_bytes_are_here(
    lading: CommandLine, put: Callable[..., str]
) -> None:
    # The link stands where nobody looks before everything is fetched.
    bad = tar(member("models/a.gguf", noise(LOOK)), header("models/b.gguf", flag=b"1"))
    place = put(bad, pack=fast)
    assert "models/b.gguf" in lading("pull", place, code=6).stderr
    assert len(list(lading.store.glob("blobs/sha256/*"))) == 3
    refuse(lading, place, "models/b.gguf")


def test_a_layer_whose_diff_id_lies_is_refused(lading: CommandLine, story: Path, put: Callable[..., str]) -> None:
    archive = files(("models/a.gguf", story.read_bytes()))
    for pack in (bytes, fast):
        refuse(lading, put(archive, diff_id="sha256:" + "0" * 64, pack=pack), "layer sha256:")


def test_a_bomb_is_refused_before_it_fills_anything(lading: CommandLine, put: Callable[..., str]) -> None:
    refuse(lading, put(files(("models/a.gguf", b"GGUF")) + bytes(300_000_000), pack=fast), "layer sha256:")


def test_a_compressed_layer_that_breaks_off_is_refused(
    lading: CommandLine, story: Path, put: Callable[..., str]
) -> None:
    archive = files(("models/a.gguf", story.read_bytes()))
    refuse(lading, put(archive, pack=lambda one: fast(one)[:-1000]), "layer sha256:")


@pytest.mark.parametrize(
    "raw", [b"no JSON", b'{"model_format":"gguf","model_type":"1.4M"}', b'{"rootfs":{"diff_ids":[7]}}']
)
def test_a_config_that_is_none_of_an_image_is_refused(
    lading: CommandLine, plain_registry: RegistryProcess, raw: bytes
) -> None:
    place = f"{plain_registry.host}/configs/{Digest.of(raw).partition(':')[2][:12]}:1"
    push_artifact(place, (raw, CONFIG), [(files(("models/a.gguf", b"GGUF")), LAYER)])
    refuse(lading, place, "the image")


RAW: dict[str, tuple[str, list[str], str]] = {
    "missing-shard": ("gguf.v3", ["a-00001-of-00003.gguf", "a-00003-of-00003.gguf"], "a-00002-of-00003.gguf"),
    "two-templates": ("chat.template.jinja", ["a.jinja", "b.jinja"], "2 chat templates: a.jinja, b.jinja"),
    "case": ("gguf.v3", ["Story.gguf", "story.gguf"], "differ by case"),
}


@pytest.mark.parametrize("kind", sorted(RAW))
def test_files_that_make_no_one_model_are_refused_by_their_names(
    lading: CommandLine, plain_registry: RegistryProcess, kind: str
) -> None:
    layer, names, word = RAW[kind]
    config = b'{"config":{"format":"gguf"},"descriptor":{},"rootfs":{"type":"rootfs","diff_ids":[]}}'
    weights = (b"GGUF", "application/vnd.docker.ai.gguf.v3", {"org.cncf.model.filepath": "w.gguf"})
    more = [(name.encode(), f"application/vnd.docker.ai.{layer}", {"org.cncf.model.filepath": name}) for name in names]
    place = f"{plain_registry.host}/raw/{kind}:1"
    push_artifact(place, (config, "application/vnd.docker.ai.model.config.v0.1+json"), [weights, *more])
    refuse(lading, place, word)


def refuse(lading: CommandLine, place: str, word: str) -> None:
    """Require that a pull is refused, naming what is wrong, and leaves nothing that can be seen."""
    told = lading("pull", place, code=6).stderr
    [error] = [line for line in told.splitlines() if line.startswith("error: ")]
    assert word in error
    assert any(line.startswith("hint: ") for line in told.splitlines()), told
    assert "\x1b" not in told
    assert documents(lading, "list") == []
    lading("prune")
    assert [path for path in lading.store.glob("blobs/*/*") if path.is_file()] == []
    assert list(lading.store.glob("models/*")) == []
    assert not (lading.folder / "etc").exists()
