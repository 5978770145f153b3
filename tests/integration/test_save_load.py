"""Save and load: models travel as one file, whole or not at all, between lading and the other tools of the field."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from archives import files, member, real_tar, tar
from disks import mounted
from small_artifact import CONFIG, INDEX, MANIFEST, WEIGHTS, described
from small_artifact import manifest as small_manifest
from sources import Memory, descriptor, ignore

from lading.digest import Digest
from lading.errors import NoSpaceError
from lading.transport.archive_writer import ArchiveTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import CommandLine

pytestmark = pytest.mark.integration

LAYOUT = ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
REF_NAME = "org.opencontainers.image.ref.name"


def blob(data: bytes) -> tuple[str, bytes]:
    return f"blobs/sha256/{Digest.of(data).hex}", data


def index(*entries: dict[str, Any]) -> tuple[str, bytes]:
    return "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


def named(data: bytes, name: str, media_type: str = MANIFEST) -> dict[str, Any]:
    return described(data, media_type, annotations={REF_NAME: name})


GOOD = json.dumps(small_manifest()).encode()
PARTS = (blob(GOOD), blob(CONFIG), blob(WEIGHTS))


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def other(lading: CommandLine, tmp_path: Path) -> CommandLine:
    """A user on the other side, with nothing."""
    return type(lading)(tmp_path / "other")


def digests(lading: CommandLine) -> dict[str, str]:
    return {one["reference"]: one["digest"] for one in json.loads(lading("list", "--json").stdout)}


def assert_empty(lading: CommandLine) -> None:
    assert digests(lading) == {}
    lading("prune")
    lading("verify")
    if lading.store.exists():
        assert [path for path in (lading.store / "blobs").rglob("*") if path.is_file()] == []
        assert list((lading.store / "ingest").iterdir()) == []


class TestJourney:
    def test_models_arrive_with_their_names_and_digests(
        self, lading: CommandLine, other: CommandLine, story: Path
    ) -> None:
        lading("pack", story, "-t", "story:1")
        lading("pack", story, "-t", "registry.example.org/team/story:2", "--format", "modelpack")
        archive = lading.folder / "models.tar"
        said = json.loads(
            lading("save", "registry.example.org/team/story:2", "story:1", "-o", archive, "--json").stdout
        )
        assert said["size"] == archive.stat().st_size < 1.1 * story.stat().st_size  # the weights once
        assert {one["reference"]: one["digest"] for one in said["models"]} == digests(lading)
        loaded = json.loads(other("load", archive, "--json").stdout)
        assert digests(other) == digests(lading)
        # What both share is new with the first alone.
        shared = story.stat().st_size
        assert loaded[0]["new_bytes"] > shared > loaded[1]["new_bytes"] > 0
        other("verify")
        assert len(other("run", "story:1", "Once upon a time", "-n", "8").stdout.split()) > 3
        assert other("load", archive).stdout.splitlines() == [
            f"up to date  {name}   {digest[:19]}" for name, digest in sorted(digests(lading).items())
        ]

    def test_the_order_of_names_and_the_day_change_no_byte(self, lading: CommandLine, story: Path) -> None:
        lading("pack", story, "-t", "a")
        lading("pack", story, "-t", "b", "--format", "modelpack")
        lading("save", "a", "b", "-o", "one.tar")
        lading("tag", "a", "c")
        lading("save", "b", "a", "b", "-o", "two.tar")
        assert (lading.folder / "one.tar").read_bytes() == (lading.folder / "two.tar").read_bytes()

    @pytest.mark.parametrize("packer", ["cat", "gzip", "zstd"])
    def test_a_pipe_carries_it_too(self, lading: CommandLine, other: CommandLine, story: Path, packer: str) -> None:
        lading("pack", story, "-t", "story:1")
        piped = f'"{sys.executable}" -m lading save story:1 -o - | {program(packer)} -'
        reader = f'LADING_STORE="{other.store}" "{sys.executable}" -m lading load - -t here:1'
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{piped} | {reader}"],
            cwd=lading.folder, env=lading.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert digests(other) == {"here:1": digests(lading)["story:1"]}
        assert list((other.store / "ingest").iterdir()) == []

    def test_a_compressed_file_a_folder_and_a_named_pipe_are_taken(
        self, lading: CommandLine, other: CommandLine, story: Path, tmp_path: Path
    ) -> None:
        lading("pack", story, "-t", "story:1")
        lading("save", "story:1", "-o", "a.tar")
        packed = lading.folder / "a.tar.gz"
        packed.write_bytes(gzip.compress((lading.folder / "a.tar").read_bytes(), 1))
        other("load", packed)
        assert digests(other) == digests(lading)
        other("load", lading.store, "-t", "folder:1")
        os.mkfifo(tmp_path / "pipe")
        with subprocess.Popen(["cp", lading.folder / "a.tar", tmp_path / "pipe"]):
            other("load", tmp_path / "pipe", "-t", "pipe:1")
        assert set(digests(other)) == {"story:1", "folder:1", "pipe:1"}
        assert len(set(digests(other).values())) == 1

    def test_an_index_is_saved_with_all_its_variants(
        self, lading: CommandLine, other: CommandLine, tmp_path: Path
    ) -> None:
        second = json.dumps(small_manifest(annotations={"variant": "2"})).encode()
        absent = described(b"{}" * 9, MANIFEST)
        variants = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": [described(GOOD, MANIFEST), described(second, MANIFEST), absent],
            }
        ).encode()
        archive = tmp_path / "in.tar"
        archive.write_bytes(
            files(LAYOUT, index(named(variants, "both:1", INDEX)), blob(variants), blob(second), *PARTS)
        )
        lading("load", archive)
        lading("save", "both:1", "-o", tmp_path / "out.tar")
        other("load", tmp_path / "out.tar")
        assert digests(other) == digests(lading) == {"both:1": Digest.of(variants)}
        assert all((other.store / name).read_bytes() == data for name, data in (blob(second), *PARTS))

    def test_push_inspect_pull_and_repair_take_archives(
        self, lading: CommandLine, other: CommandLine, story: Path
    ) -> None:
        lading("pack", story, "-t", "story:1")
        archive = lading.folder / "a.tar"
        lading("push", "story:1", f"oci-archive:{archive}:team/story:1")
        reference = f"oci-archive:{archive}:team/story:1"
        assert "Storyteller, llama" in other("inspect", reference).stdout
        other("pull", f"oci-archive:{archive}")
        assert digests(other) == {"team/story:1": digests(lading)["story:1"]}
        weights = max((other.store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
        weights.unlink()
        other("verify", "--repair")
        assert weights.stat().st_size == story.stat().st_size
        refused = lading("push", "story:1", f"docker-archive:{archive}", code=2)
        assert "nothing can be pushed to docker-archive:" in refused.stderr

    def test_a_model_of_a_damaged_blob_is_not_saved(self, lading: CommandLine, story: Path) -> None:
        lading("pack", story, "-t", "story:1", "--copy")
        lading("save", "story:1", "-o", "a.tar")
        before = (lading.folder / "a.tar").read_bytes()
        weights = max((lading.store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.chmod(0o644)
        weights.write_bytes(data)
        refused = lading("save", "story:1", "-o", "a.tar", code=6)
        assert weights.name[:12] in refused.stderr
        assert (lading.folder / "a.tar").read_bytes() == before
        assert not (lading.folder / ".a.tar.new").exists()
        weights.unlink()
        assert weights.name in lading("save", "story:1", "-o", "a.tar", code=3).stderr


class TestOtherTools:
    def test_skopeo_copies_what_is_saved_with_its_digest(
        self, lading: CommandLine, story: Path, tmp_path: Path
    ) -> None:
        lading("pack", story, "-t", "localhost:5000/team/story:1")
        lading("save", "localhost:5000/team/story:1", "-o", tmp_path / "a.tar")
        source = f"oci-archive:{tmp_path / 'a.tar'}:localhost:5000/team/story:1"
        raw = run(program("skopeo"), "inspect", "--raw", source)
        assert Digest.of(raw.encode()) == digests(lading)["localhost:5000/team/story:1"]
        run(program("skopeo"), "copy", source, f"oci:{tmp_path / 'layout'}:x")
        lading("pull", f"oci-layout:{tmp_path / 'layout'}:x", "-t", "back:1")
        assert len(set(digests(lading).values())) == 1

    def test_a_model_that_skopeo_archived_is_loaded_with_its_digest(
        self, lading: CommandLine, other: CommandLine, story: Path, tmp_path: Path
    ) -> None:
        lading("pack", story, "-t", "story:1")
        source = f"oci:{lading.store}:story:1"
        run(program("skopeo"), "copy", source, f"oci-archive:{tmp_path / 'named.tar'}:story:2")
        run(program("skopeo"), "copy", source, f"oci-archive:{tmp_path / 'nameless.tar'}")
        other("load", tmp_path / "named.tar")
        assert "-t NAME" in other("load", tmp_path / "nameless.tar", code=2).stderr
        other("load", tmp_path / "nameless.tar", "-t", "story:3")
        digest = digests(lading)["story:1"]
        assert digests(other) == {"story:2": digest, "story:3": digest}

    def test_an_image_travels_through_podman_and_skopeo(
        self, lading: CommandLine, other: CommandLine, tmp_path: Path
    ) -> None:
        archive = tmp_path / "car.tar"
        archive.write_bytes(car(tmp_path))
        lading("load", archive)
        lading("save", "localhost/car:1", "-o", tmp_path / "saved.tar")
        # What lading saved is an image to podman, which bears no longer path than 50 characters for what it runs.
        podman: list[str | Path] = [
            program("podman"), "--root", tmp_path / "root", "--runroot", tmp_path.parent / "run",
            "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
        ]  # fmt: skip
        assert "localhost/car:1" in run(*podman, "load", "-i", tmp_path / "saved.tar")
        # What podman saves is a model to lading, as an OCI archive and as docker's.
        for form in ("oci-archive", "docker-archive"):
            run(*podman, "save", "--format", form, "-o", tmp_path / f"{form}.tar", "localhost/car:1")
            other("load", tmp_path / f"{form}.tar")
            other("tag", "localhost/car:1", f"by-{form}:1")
        run(
            program("skopeo"), "copy", f"oci-archive:{tmp_path / 'saved.tar'}:localhost/car:1",
            f"docker-archive:{tmp_path / 'skopeo.tar'}:localhost/car:2",
        )  # fmt: skip
        other("load", tmp_path / "skopeo.tar")
        found = digests(other)
        # Docker's form has no manifest: both tools' give the same one, since config and layers are the same.
        assert found["by-docker-archive:1"] == found["localhost/car:2"]
        assert layers_of(other, found["by-docker-archive:1"]) == layers_of(lading, digests(lading)["localhost/car:1"])
        other("verify")

    def test_umoci_unpacks_what_is_saved(self, lading: CommandLine, tmp_path: Path) -> None:
        archive = tmp_path / "car.tar"
        archive.write_bytes(car(tmp_path))
        lading("load", archive, "-t", "car")
        lading("save", "car", "-o", tmp_path / "saved.tar")
        (tmp_path / "layout").mkdir()
        run("tar", "-C", tmp_path / "layout", "-xf", tmp_path / "saved.tar")
        run(
            program("umoci"),
            "raw",
            "unpack",
            "--rootless",
            "--image",
            f"{tmp_path / 'layout'}:car",
            tmp_path / "rootfs",
        )
        assert (tmp_path / "rootfs/models/small.gguf").read_bytes() == WEIGHTS


def car(folder: Path) -> bytes:
    """Return an archive of a container image that holds a small model, as `localhost/car:1`."""
    (folder / "models").mkdir()
    (folder / "models/small.gguf").write_bytes(WEIGHTS)
    layer = real_tar(folder, "models")
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer)]},
        }
    ).encode()
    made = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [described(layer, "application/vnd.oci.image.layer.v1.tar")],
    }
    raw = json.dumps(made).encode()
    return files(LAYOUT, blob(layer), blob(config), blob(raw), index(named(raw, "localhost/car:1")))


def layers_of(lading: CommandLine, digest: str) -> list[str]:
    raw = (lading.store / "blobs/sha256" / digest.partition(":")[2]).read_bytes()
    return [layer["digest"] for layer in json.loads(raw)["layers"]]


def _nested(levels: int) -> tuple[list[tuple[str, bytes]], dict[str, Any]]:
    documents = [GOOD]
    for _level in range(levels):
        inner = described(documents[-1], INDEX if len(documents) > 1 else MANIFEST)
        documents.append(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}).encode())
    return [blob(data) for data in documents], named(documents[-1], "deep:1", INDEX)


def _with(change: Callable[[dict[str, Any]], None]) -> bytes:
    made = small_manifest()
    change(made)
    raw = json.dumps(made).encode()
    return files(LAYOUT, index(named(GOOD, "good:1"), named(raw, "bad:1")), *PARTS, blob(raw))


def _path(made: dict[str, Any]) -> None:
    made["layers"][0]["annotations"]["org.cncf.model.filepath"] = "../../out.gguf"


def _size(made: dict[str, Any]) -> None:
    made["layers"][0]["size"] += 1


LYING = Digest.of(WEIGHTS[:-1] + b"x")
BAD = json.dumps(small_manifest(layers=[{**small_manifest()["layers"][0], "digest": str(LYING)}])).encode()
DEEP, DEEP_ENTRY = _nested(6)
EMPTY_INDEX = json.dumps(
    {"schemaVersion": 2, "mediaType": INDEX, "manifests": [described(b"absent", MANIFEST)]}
).encode()
HOSTILE = {
    "a blob whose name lies": (
        files(
            LAYOUT, index(named(GOOD, "good:1"), named(BAD, "bad:1")), *PARTS, blob(BAD),
            (f"blobs/sha256/{LYING.hex}", WEIGHTS),
        ),
        LYING.short,
    ),
    "a blob that is not there": (files(LAYOUT, index(named(GOOD, "good:1")), *PARTS[:2]), Digest.of(WEIGHTS).short),
    "a manifest that is not there": (
        files(LAYOUT, index(named(GOOD, "good:1"), named(b"x", "bad:1")), *PARTS),
        Digest.of(b"x").short,
    ),
    "an index of what is not there": (
        files(LAYOUT, index(named(EMPTY_INDEX, "bad:1", INDEX)), blob(EMPTY_INDEX), *PARTS),
        Digest.of(b"absent").short,
    ),
    "a size that lies": (_with(_size), Digest.of(WEIGHTS).short),
    "a path that leads out": (_with(_path), "out.gguf"),
    "indexes in indexes": (files(LAYOUT, index(DEEP_ENTRY), *DEEP, *PARTS[1:]), "nested deeper than 4"),
    "no model": (files(LAYOUT, index()), "holds no model"),
    "a name that is a digest": (
        files(LAYOUT, index(named(GOOD, str(Digest.of(b"x")))), *PARTS),
        "cannot be a name here",
    ),
    "a link": (
        tar(member(*LAYOUT), member(*index(named(GOOD, "good:1"))), *(member(*part) for part in PARTS[:2]),
            member(PARTS[2][0], flag=b"2")),
        "symbolic link",
    ),
    "a cut": (files(LAYOUT, index(named(GOOD, "good:1")), *PARTS)[:-3000], "cut off"),
}  # fmt: skip


class TestHostile:
    @pytest.mark.parametrize("kind", HOSTILE)
    def test_of_a_bad_archive_nothing_is_seen(self, other: CommandLine, tmp_path: Path, kind: str) -> None:
        data, said = HOSTILE[kind]
        (tmp_path / "bad.tar").write_bytes(data)
        refused = other("load", tmp_path / "bad.tar", code=6)
        assert said in refused.stderr
        assert "hint: " in refused.stderr
        assert_empty(other)

    def test_of_a_bad_stream_nothing_is_left(self, other: CommandLine) -> None:
        for stdin, said in (("", "cut off"), ("no archive" * 100, "no tar archive")):
            refused = other("load", "-", stdin=stdin, code=6)
            assert f"the archive is {said}" in refused.stderr
        assert_empty(other)

    def test_a_killed_load_leaves_what_prune_removes(self, other: CommandLine, tmp_path: Path) -> None:
        whole = files(LAYOUT, index(named(GOOD, "good:1")), *PARTS)
        process = subprocess.Popen(
            [sys.executable, "-m", "lading", "load", "-"],
            cwd=other.folder, env=other.environment, stdin=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(whole[:-1024] + bytes(3 << 20))
        process.stdin.flush()
        deadline = time.monotonic() + 30
        while not list((other.store / "ingest").glob("spool.*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert list((other.store / "ingest").glob("spool.*"))
        assert_empty(other)
        # And the same, given whole, is loaded.
        (tmp_path / "a.tar").write_bytes(whole)
        other("load", tmp_path / "a.tar")
        assert digests(other) == {"good:1": Digest.of(GOOD)}

    def test_a_name_already_there_stays_when_loading_fails(
        self, other: CommandLine, story: Path, tmp_path: Path
    ) -> None:
        other("pack", story, "-t", "good:1")
        before = digests(other)
        (tmp_path / "bad.tar").write_bytes(HOSTILE["a blob whose name lies"][0])
        other("load", tmp_path / "bad.tar", code=6)
        assert digests(other) == before

    def test_one_name_does_not_fit_two_models(self, other: CommandLine, tmp_path: Path) -> None:
        second = json.dumps(small_manifest(annotations={"x": "y"})).encode()
        two = files(LAYOUT, index(named(GOOD, "a:1"), named(second, "b:1")), *PARTS, blob(second))
        (tmp_path / "two.tar").write_bytes(two)
        assert "one name does not fit" in other("load", tmp_path / "two.tar", "-t", "x", code=2).stderr
        assert_empty(other)


class TestFullDisks:
    def test_an_archive_that_cannot_fit_is_not_begun(self, lading: CommandLine, story: Path, tmp_path: Path) -> None:
        lading("pack", story, "-t", "story:1")
        with mounted(tmp_path / "disk", 1 << 20) as disk:
            for words in (
                ("save", "story:1", "-o", disk.path / "a.tar"),
                ("copy", "story:1", f"oci-archive:{disk.path}/a.tar"),
            ):
                assert "2.9 MB are to be written" in lading(*words, code=7).stderr
                assert list(disk.path.iterdir()) == []

    def test_a_disk_that_fills_meanwhile_is_as_before(self, tmp_path: Path) -> None:
        data = bytes(3 << 20)
        with mounted(tmp_path / "disk", 1 << 20) as disk:
            target = ArchiveTarget(disk.path / "a.tar")
            with pytest.raises(NoSpaceError):
                target.put_blob(descriptor(data), Memory(data), ignore)
            target.close()
            assert list(disk.path.iterdir()) == []

    @pytest.mark.parametrize("room", [2 << 20, 12 << 20], ids=["of the pipe", "of the model"])
    def test_a_load_that_cannot_fit_leaves_no_name(
        self, lading: CommandLine, other: CommandLine, story: Path, tmp_path: Path, room: int
    ) -> None:
        lading("pack", story, "-t", "story:1")
        lading("save", "story:1", "-o", "a.tar")
        with mounted(tmp_path / "disk", room) as disk, (lading.folder / "a.tar").open("rb") as archive:
            environment = {**other.environment, "LADING_STORE": str(disk.path / "store")}
            done = subprocess.run(
                [sys.executable, "-m", "lading", "load", "-"],
                env=environment, stdin=archive, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 7, done.stderr
            assert "Traceback" not in done.stderr
            other.environment["LADING_STORE"] = str(disk.path / "store")
            assert_empty(other)
