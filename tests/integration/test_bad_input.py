"""What a lying source, a full disk and a read-only one do to `lading pull`: the documented exit code, one message that
names the thing, a hint, and a store as whole as before."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from lading.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hostile_server import Asked, Hostile, Reply

    from conftest import CommandLine

pytestmark = pytest.mark.integration

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.docker.ai.model.config.v0.1+json"
GGUF = "application/vnd.docker.ai.gguf.v3"


@dataclass(frozen=True)
class Artifact:
    """A small model as a registry would serve it; each field can be made a lie."""

    weights: bytes
    config: bytes = b'{"config":{"format":"gguf"},"descriptor":{},"rootfs":{"type":"rootfs","diff_ids":[]}}'
    config_type: str = CONFIG
    layer_type: str = GGUF
    path: str = "story.gguf"
    size: int | None = None
    digest: str | None = None

    def manifest(self) -> dict[str, Any]:
        config, weights = Digest.of(self.config), Digest.of(self.weights)
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": self.config_type, "digest": config, "size": len(self.config)},
            "layers": [
                {
                    "mediaType": self.layer_type,
                    "digest": self.digest or weights,
                    "size": len(self.weights) if self.size is None else self.size,
                    "annotations": {"org.cncf.model.filepath": self.path},
                }
            ],
        }


@pytest.fixture
def artifact(storyteller: Path) -> Artifact:
    return Artifact(storyteller.read_bytes())


@pytest.fixture
def serve(hostile: Hostile, reply: type[Reply]) -> Callable[..., str]:
    """Serve an artifact, or any document in place of its manifest, and return its reference."""

    def make(artifact: Artifact, document: object = None, *, media_type: str = MANIFEST, **more: Reply) -> str:
        raw = document if isinstance(document, bytes) else json.dumps(document or artifact.manifest()).encode()
        hostile.on("GET", "/v2/team/story/manifests/1", reply(200, raw, {"Content-Type": media_type}))
        for data in (artifact.config, artifact.weights):
            hostile.on("GET", f"/v2/team/story/blobs/{Digest.of(data)}", reply(200, data))
        if "weights" in more:
            hostile.on("GET", f"/v2/team/story/blobs/{Digest.of(artifact.weights)}", more["weights"])
        return f"{hostile.host}/team/story:1"

    return make


def refuse(lading: CommandLine, reference: str, code: int, *words: str) -> None:
    """Require that a pull fails as documented, names what is wrong, and leaves the store as it was."""
    told = lading("pull", reference, code=code).stderr
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, told
    assert any(line.startswith("hint: ") for line in told.splitlines()), told
    for word in words:
        assert word in told
    assert "no faults" in lading("verify").stdout
    assert json.loads(lading("list", "--json").stdout) == []


def test_an_honest_artifact_is_pulled(lading: CommandLine, serve: Callable[..., str], artifact: Artifact) -> None:
    assert "pulled" in lading("pull", serve(artifact)).stdout


def test_a_flipped_bit_in_a_blob(
    lading: CommandLine, serve: Callable[..., str], artifact: Artifact, reply: type[Reply]
) -> None:
    bad = bytearray(artifact.weights)
    bad[len(bad) // 2] ^= 1
    refuse(lading, serve(artifact, weights=reply(200, bytes(bad))), 6, Digest.of(artifact.weights).short)


def test_a_body_that_breaks_off(
    lading: CommandLine, serve: Callable[..., str], artifact: Artifact, reply: type[Reply]
) -> None:
    refuse(lading, serve(artifact, weights=reply(200, artifact.weights, cut=100_000)), 5, "broke off")


@pytest.mark.parametrize("size", [100, 2**40])
def test_a_size_that_is_a_lie(lading: CommandLine, serve: Callable[..., str], artifact: Artifact, size: int) -> None:
    code = 6 if size < 1e9 else 7
    refuse(lading, serve(replace(artifact, size=size)), code)


def test_another_manifest_than_the_digest_names(
    lading: CommandLine, serve: Callable[..., str], artifact: Artifact, hostile: Hostile, reply: type[Reply]
) -> None:
    serve(artifact)
    wanted = "sha256:" + "0" * 64
    raw = json.dumps(artifact.manifest()).encode()
    hostile.on("GET", f"/v2/team/story/manifests/{wanted}", reply(200, raw, {"Content-Type": MANIFEST}))
    refuse(lading, f"{hostile.host}/team/story@{wanted}", 6, "0" * 12)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"config_type": "application/vnd.unknown.config+json"}, "vnd.unknown.config"),
        ({"layer_type": "application/vnd.unknown.layer", "path": ""}, "vnd.unknown.layer"),
        ({"config": b"not json"}, "config"),
        ({"path": "../../escape.gguf"}, "escape.gguf"),
        ({"path": "/etc/escape.gguf"}, "escape.gguf"),
        ({"digest": "sha256:../../../escape"}, "escape"),
        ({"digest": "md5:" + "0" * 32}, "md5"),
        ({"size": -1}, "size"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_before_weights_are_fetched(
    lading: CommandLine,
    serve: Callable[..., str],
    artifact: Artifact,
    hostile: Hostile,
    change: dict[str, Any],
    word: str,
) -> None:
    refuse(lading, serve(replace(artifact, **change)), 6, word)
    assert not any(str(Digest.of(artifact.weights)) in asked.path for asked in hostile.asked)
    assert not list(lading.folder.rglob("*escape*"))


def test_an_index_of_models_that_nobody_can_choose_from(
    lading: CommandLine, serve: Callable[..., str], artifact: Artifact, hostile: Hostile, reply: type[Reply]
) -> None:
    digests = []
    entries = []
    for number in (1, 2):
        raw = json.dumps({**artifact.manifest(), "annotations": {"number": str(number)}}).encode()
        digest = Digest.of(raw)
        hostile.on("GET", f"/v2/team/story/manifests/{digest}", reply(200, raw, {"Content-Type": MANIFEST}))
        digests.append(digest)
        entries.append({"mediaType": MANIFEST, "digest": digest, "size": len(raw)})
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    refuse(lading, serve(artifact, index, media_type=INDEX), 6, "index of 2", digests[0].short)


def test_an_index_of_manifests_that_are_not_there(
    lading: CommandLine, serve: Callable[..., str], artifact: Artifact
) -> None:
    entry = {"mediaType": MANIFEST, "digest": "sha256:" + "1" * 64, "size": 500}
    other = {**entry, "digest": "sha256:" + "2" * 64}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry, other]}
    refuse(lading, serve(artifact, index, media_type=INDEX), 3, "no manifest sha256:1111")


def test_indexes_nested_a_hundred_deep(
    lading: CommandLine, serve: Callable[..., str], artifact: Artifact, hostile: Hostile, reply: type[Reply]
) -> None:
    raw = json.dumps(artifact.manifest()).encode()
    kind = MANIFEST
    for _level in range(100):
        digest = Digest.of(raw)
        hostile.on("GET", f"/v2/team/story/manifests/{digest}", reply(200, raw, {"Content-Type": kind}))
        entry = {"mediaType": kind, "digest": digest, "size": len(raw)}
        raw, kind = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode(), INDEX
    refuse(lading, serve(artifact, raw, media_type=INDEX), 6, "nested")
    assert len(hostile.asked) < 20


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (b" " * (4 * 1024 * 1024 + 1), "4"),
        (b"[" * 100_000, "JSON"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "twice"),
        (b'{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}', "two"),
    ],
)
def test_a_document_that_is_no_manifest(
    lading: CommandLine, serve: Callable[..., str], artifact: Artifact, document: bytes, word: str
) -> None:
    refuse(lading, serve(artifact, document), 6, word)


def test_a_portal_that_answers_with_a_web_page(lading: CommandLine, hostile: Hostile, reply: type[Reply]) -> None:
    page = reply(200, b"<!doctype html><title>Welcome to the train</title>", {"Content-Type": "text/html"})
    hostile.on("GET", "/v2/team/story/manifests/1", page)
    refuse(lading, f"{hostile.host}/team/story:1", 5, hostile.host)


def test_a_registry_that_fails_for_ever(lading: CommandLine, hostile: Hostile, reply: type[Reply]) -> None:
    hostile.on("GET", "/v2/team/story/manifests/1", reply(503, b"", {"Retry-After": "0"}))
    refuse(lading, f"{hostile.host}/team/story:1", 5, "503")
    assert sum(asked.path.endswith("/manifests/1") for asked in hostile.asked) > 1


def test_a_login_stays_with_its_registry_when_blobs_are_elsewhere(
    lading: CommandLine,
    serve: Callable[..., str],
    hostile: Hostile,
    canary: Hostile,
    reply: type[Reply],
    artifact: Artifact,
) -> None:
    reference = serve(artifact)
    raw = json.dumps(artifact.manifest()).encode()

    def guarded(asked: Asked) -> Reply:
        if "Authorization" not in asked.headers:
            return reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
        return reply(200, raw, {"Content-Type": MANIFEST})

    hostile.on("GET", "/v2/team/story/manifests/1", guarded)
    blob = f"/v2/team/story/blobs/{Digest.of(artifact.weights)}"
    hostile.on("GET", blob, reply(307, b"", {"Location": f"{canary.url}/elsewhere"}))
    canary.on("GET", "/elsewhere", reply(200, artifact.weights))
    folder = lading.folder / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {hostile.host: {"auth": "c2FtOnNlY3JldA=="}}}))
    done = lading("pull", reference)
    assert [asked.headers["Authorization"] for asked in hostile.asked if asked.path == blob] == [
        "Basic c2FtOnNlY3JldA=="
    ]
    assert canary.asked
    assert not any(name.lower() in ("authorization", "cookie") for asked in canary.asked for name in asked.headers)
    assert "secret" not in done.stdout + done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, which root can make."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_before_anything_is_fetched(
    lading: CommandLine, serve: Callable[..., str], artifact: Artifact, small_disk: Path, hostile: Hostile
) -> None:
    lading.environment["LADING_STORE"] = str(small_disk / "store")
    refuse(lading, serve(artifact), 7, "small")
    assert not any(str(Digest.of(artifact.weights)) in asked.path for asked in hostile.asked)


def test_packing_onto_a_full_disk_leaves_the_store_whole(lading: CommandLine, story: Path, small_disk: Path) -> None:
    lading.environment["LADING_STORE"] = str(small_disk / "store")
    told = lading("pack", story, "-t", "story:1", code=7).stderr
    assert "no space left" in told
    assert "no faults" in lading("verify").stdout
    assert json.loads(lading("list", "--json").stdout) == []


def test_a_read_only_store_can_be_read_and_run_but_not_written(
    lading: CommandLine, story: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "frozen"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], check=True)
    try:
        lading.environment["LADING_STORE"] = str(folder / "store")
        lading("pack", story, "-t", "story:1")
        lading("run", "story:1", "Once", "-n", "1")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert "story:1" in lading("list").stdout
        assert "Storyteller" in lading("inspect", "story:1").stdout
        assert lading("run", "story:1", "Once upon a time", "-n", "4").stdout.strip()
        assert "no faults" in lading("verify").stdout
        for command in (("pack", story, "-t", "story:2"), ("tag", "story:1", "x"), ("rm", "story:1"), ("prune",)):
            assert "read-only" in lading(*command, code=4).stderr
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("flags", [(), ("--no-resume",)])
def test_what_an_interrupted_pull_left_is_taken_up_unless_told_otherwise(
    lading: CommandLine, serve: Callable[..., str], artifact: Artifact, hostile: Hostile, flags: tuple[str, ...]
) -> None:
    reference = serve(artifact)
    digest = Digest.of(artifact.weights)
    lading("pull", reference)
    lading("rm", reference)
    lading("prune")
    part = lading.store / "ingest" / digest.file_name
    part.write_bytes(artifact.weights[:1_000_000])
    part.chmod(0o700)  # as an orderly interrupted pull leaves it
    hostile.asked.clear()
    lading("pull", reference, *flags)
    (asked,) = (asked for asked in hostile.asked if asked.path.endswith(digest))
    assert asked.headers.get("Range") == (None if flags else "bytes=1000000-")
    assert "no faults" in lading("verify").stdout


def test_a_rate_limit_holds(lading: CommandLine, serve: Callable[..., str], artifact: Artifact) -> None:
    reference = serve(artifact)
    began = time.monotonic()
    lading("pull", reference, "--limit-rate", "2M")
    # 2.9 MB at 2 MB/s cannot take less.
    assert time.monotonic() - began > 1.3
    for wrong in ("0", "fast", "-1", "5X"):
        assert "rate" in lading("pull", reference, "--limit-rate", wrong, code=2).stderr
