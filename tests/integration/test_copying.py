"""`lading copy`, `push --format` and `pack --format` against a real registry, as a user calls them."""

from __future__ import annotations

import gzip
import hashlib
import json
import signal
import socket
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from archives import files
from chaos_proxy import ChaosProxy, Fault
from checker import check_store
from counting_proxy import CountingProxy
from ollama_push import push_ollama
from registry_push import push_artifact

from lading.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

WEIGHTS = "sha256:8be616328cd4"


@pytest.fixture
def place(plain_registry: RegistryProcess) -> Callable[..., str]:
    """Name a repository that nobody else uses."""
    name = uuid.uuid4().hex[:12]

    def named(tag: str, *, repository: str = "a") -> str:
        return f"{plain_registry.host}/{name}/{repository}:{tag}"

    return named


@pytest.fixture
def proxy(plain_registry: RegistryProcess) -> Iterator[CountingProxy]:
    made = CountingProxy(plain_registry.host)
    yield made
    made.stop()


def copied(lading: CommandLine, *arguments: str | Path, **options: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(lading("copy", *arguments, "--json", **options).stdout)
    return document


def skopeo(*arguments: str) -> tuple[bytes, str]:
    """Return what skopeo prints, and its sha256."""
    command = ["skopeo", arguments[0], "--tls-verify=false", *arguments[1:]]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return raw, f"sha256:{hashlib.sha256(raw).hexdigest()}"


def raw_manifest(reference: str) -> tuple[dict[str, Any], str]:
    raw, digest = skopeo("inspect", "--raw", f"docker://{reference}")
    return json.loads(raw), digest


def packed(lading: CommandLine, story: Path, place: str, *options: str) -> str:
    """Pack the story, push it and return its digest."""
    lading("pack", story, "-t", "story:1", *options)
    return str(json.loads(lading("push", "story:1", place, "--json").stdout)["digest"])


def test_a_model_goes_from_registry_to_registry_byte_for_byte_and_past_the_disk(
    lading: CommandLine, story: Path, place: Callable[..., str], login_registry: RegistryProcess
) -> None:
    digest = packed(lading, story, place("1"))
    lading.environment["LADING_STORE"] = str(lading.folder / "untouched")
    made = copied(lading, place("1"), place("2", repository="b"))
    assert made["digest"] == digest
    assert raw_manifest(place("2", repository="b"))[1] == digest
    assert not (lading.folder / "untouched").exists()


def test_an_index_of_others_is_copied_whole_or_for_one_platform(
    lading: CommandLine, story: Path, place: Callable[..., str], tmp_path: Path
) -> None:
    packed(lading, story, place("1"))
    lading("push", "story:1", place("image"), "--format", "image")
    index, digest = raw_manifest(place("image"))
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]
    whole = copied(lading, place("image"), f"oci-layout:{tmp_path / 'whole'}:1")
    assert whole["digest"] == digest
    names = {path.name for path in (tmp_path / "whole/blobs/sha256").iterdir()}
    assert {entry["digest"].removeprefix("sha256:") for entry in index["manifests"]} <= names
    arm = copied(lading, place("image"), place("arm", repository="b"), "--platform", "linux/arm64")
    assert arm["digest"] == index["manifests"][1]["digest"]
    again = copied(
        lading, place("image"), place("again", repository="b"), "--format", "image", "--platform", "linux/arm64"
    )
    assert again["digest"] == arm["digest"]
    other = copied(
        lading, place("image"), place("other", repository="b"), "--format", "image", "--platform", "linux/s390x"
    )
    made = json.loads(skopeo("inspect", "--config", "--raw", f"docker://{other['reference']}")[0])
    assert made["architecture"] == "s390x"
    missing = lading("copy", place("image"), place("x"), "--platform", "linux/s390x", code=3)
    assert "nothing for linux/s390x" in missing.stderr
    assert "linux/amd64, linux/arm64" in missing.stderr


def test_converting_between_raw_formats_moves_no_weights(
    lading: CommandLine, story: Path, place: Callable[..., str], proxy: CountingProxy, plain_registry: RegistryProcess
) -> None:
    packed(lading, story, place("1"))
    lading.environment["LADING_STORE"] = str(lading.folder / "untouched")
    here = place("1").replace(plain_registry.host, proxy.host)
    for source, target, form in (("1", "2", "modelpack"), ("2", "3", "docker"), ("1", "both", "both")):
        before = proxy.blob_bytes, proxy.uploaded_bytes
        copied(lading, here.replace(":1", f":{source}"), here[: -len("1")] + target, "--format", form)
        assert proxy.blob_bytes - before[0] < 100_000
        assert proxy.uploaded_bytes - before[1] < 100_000
    assert raw_manifest(place("3"))[1] == raw_manifest(place("1"))[1]


def test_blobs_of_another_repository_are_mounted(
    lading: CommandLine, story: Path, place: Callable[..., str], proxy: CountingProxy, plain_registry: RegistryProcess
) -> None:
    packed(lading, story, place("1"))
    done = copied(
        lading,
        place("1").replace(plain_registry.host, proxy.host),
        place("1", repository="b").replace(plain_registry.host, proxy.host),
    )
    assert done["new_bytes"] == 0
    assert proxy.blob_bytes < 100_000
    assert proxy.uploaded_bytes == 0


def test_blobs_that_were_named_in_ollamas_dialect_are_mounted_too(
    lading: CommandLine, story: Path, place: Callable[..., str], proxy: CountingProxy, plain_registry: RegistryProcess
) -> None:
    lading("pack", story, "-t", "story:1")
    lading("push", "story:1", place("1"), "--format", "ollama")
    lading.environment["LADING_STORE"] = str(lading.folder / "untouched")
    here, there = (name.replace(plain_registry.host, proxy.host) for name in (place("1"), place("2", repository="b")))
    copied(lading, f"ollama://{here}", there, "--format", "docker")
    assert proxy.blob_bytes < 600_000  # the header, to know the model's facts
    assert proxy.uploaded_bytes < 100_000


def test_several_formats_are_one_index_and_a_tag_each(
    lading: CommandLine, hub: LoopbackHub, storyteller: Path, place: Callable[..., str]
) -> None:
    hub.add("team/story-GGUF", {"story-Q4_K_M.gguf": storyteller.read_bytes(), "LICENSE": b"CC0\n"})
    lading.environment |= {"HF_ENDPOINT": hub.url, "LADING_STORE": str(lading.folder / "untouched")}
    made = copied(
        lading, "hf://team/story-GGUF", place("q4"), "--quant", "Q4_K_M", "--format", "docker,modelpack,image"
    )
    assert not (lading.folder / "untouched").exists()
    index, digest = raw_manifest(place("q4"))
    assert digest == made["digest"]
    kinds = [
        (one["annotations"]["io.lading.form"], one.get("platform", {}).get("architecture"))
        for one in index["manifests"]
    ]
    assert kinds == [("docker", None), ("modelpack", None), ("image", "amd64"), ("image", "arm64")]
    assert [form["reference"] for form in made["forms"]] == [
        place(f"q4-{kind}") for kind in ("docker", "modelpack", "image")
    ]
    for form in made["forms"]:
        assert raw_manifest(form["reference"])[1] == form["digest"]
    docker, _digest = raw_manifest(place("q4-docker"))
    modelpack, _digest = raw_manifest(place("q4-modelpack"))
    assert {one["digest"] for one in docker["layers"]} == {one["digest"] for one in modelpack["layers"]}
    # The same model comes to the same digests by way of the store.
    lading("pull", "hf://team/story-GGUF:Q4_K_M")
    kept = json.loads(
        lading(
            "push", "hf:team/story-GGUF:Q4_K_M", place("again"), "--format", "docker,modelpack,image", "--json"
        ).stdout
    )
    assert kept["digest"] == made["digest"]


def test_a_reader_of_an_index_of_formats_picks_for_itself(
    lading: CommandLine, story: Path, place: Callable[..., str]
) -> None:
    digest = packed(lading, story, place("1"))
    lading("push", "story:1", place("q4"), "--format", "image,modelpack,docker")
    lading.environment["LADING_STORE"] = str(lading.folder / "other")
    shown = json.loads(lading("inspect", place("q4"), "--json").stdout)
    assert shown["format"] == "image,modelpack,docker"
    pulled = json.loads(lading("pull", place("q4"), "--json").stdout)[0]
    assert pulled["format"] == "modelpack"
    assert pulled["digest"] == raw_manifest(place("q4-modelpack"))[1] != digest
    assert lading("run", place("q4"), "Once", "-n", "4").stdout.strip()


def test_the_way_through_an_image_moves_no_weights_between_raw_formats(
    lading: CommandLine, story: Path, place: Callable[..., str], proxy: CountingProxy, plain_registry: RegistryProcess
) -> None:
    digest = packed(lading, story, place("0"))
    lading.environment["LADING_STORE"] = str(lading.folder / "untouched")
    here = place("x").replace(plain_registry.host, proxy.host)[: -len("x")]
    weights = story.stat().st_size
    moved = []
    for number, form in enumerate(["modelpack", "image", "docker"], 1):
        before = proxy.blob_bytes, proxy.uploaded_bytes
        made = copied(lading, f"{here}{number - 1}", f"{here}{number}", "--format", form)
        moved.append((proxy.blob_bytes - before[0], proxy.uploaded_bytes - before[1]))
    assert made["digest"] == digest
    # An image holds files as layers of tar, another blob: written once. The way back finds the file where it was.
    small = 100_000
    assert all(count < small for count in moved[0])
    assert weights <= moved[1][0] < weights + small
    assert weights <= moved[1][1] < weights + small
    assert moved[2][1] < small


@pytest.mark.parametrize("first", ["docker", "modelpack", "image"])
def test_a_voyage_through_all_formats_ends_where_it_began(
    lading: CommandLine, story: Path, place: Callable[..., str], first: str
) -> None:
    (story.parent / "LICENSE").write_text("CC0\n")
    packed(lading, story, place("0"))
    begun = copied(lading, place("0"), place("1"), "--format", first)["digest"]
    others = [form for form in ("docker", "modelpack", "image") if form != first]
    for number, form in enumerate([*others, *reversed(others), first], 2):
        last = copied(lading, place(str(number - 1)), place(str(number)), "--format", form)
    assert last["digest"] == begun


def test_what_another_tool_wrote_comes_back_as_it_was(
    lading: CommandLine, story: Path, place: Callable[..., str], plain_registry: RegistryProcess
) -> None:
    repository = place("x").split("/", 1)[1].rpartition(":")[0]
    digest = push_ollama(plain_registry, repository, "ollama", story.read_bytes())
    copied(lading, place("ollama"), place("docker"), "--format", "docker")
    copied(lading, place("docker"), place("image", repository="b"), "--format", "image")
    back = copied(lading, place("image", repository="b"), place("back"), "--format", "ollama")
    assert back["digest"] == digest
    assert raw_manifest(place("back"))[1] == digest
    refused = lading("copy", place("back"), place("kit"), "--format", "kitops", code=2)
    assert "not written" in refused.stderr


def test_a_model_is_kept_where_that_is_asked_for(lading: CommandLine, story: Path, place: Callable[..., str]) -> None:
    digest = packed(lading, story, place("1"))
    lading.environment["LADING_STORE"] = str(lading.folder / "other")
    copied(lading, place("1"), place("2", repository="b"), "--keep")
    (kept,) = json.loads(lading("list", "--json").stdout)
    assert (kept["reference"], kept["digest"]) == (place("1"), digest)


def test_a_file_goes_to_a_registry_without_the_store(
    lading: CommandLine, story: Path, place: Callable[..., str]
) -> None:
    lading.environment["LADING_STORE"] = str(lading.folder / "untouched")
    made = copied(lading, story, place("1"))
    assert raw_manifest(place("1"))[0]["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert made["digest"] == raw_manifest(place("1"))[1]
    assert not (lading.folder / "untouched").exists()
    lading("copy", story, place("1"), "--keep", code=2)


def test_formats_and_platforms_that_make_no_sense_are_usage_errors(lading: CommandLine, story: Path) -> None:
    lading("pack", story, "-t", "story:1")
    for options, word in (
        (["--format", "zip"], "unknown format `zip`"),
        (["--platform", "amd64"], "no platform"),
        (["--base", "localhost:1/x"], "add image to --format"),
        (["--quant", "Q4_K_M"], "hub"),
    ):
        said = lading("copy", "story:1", "oci-layout:out:1", *options, code=2).stderr
        assert word in said
    assert not (lading.folder / "out").exists()
    assert "names no place" in lading("copy", "story:1", "team/story", code=2).stderr


def test_what_is_there_already_is_not_sent_again(lading: CommandLine, story: Path, place: Callable[..., str]) -> None:
    packed(lading, story, place("1"))
    first = copied(lading, "story:1", place("q4"), "--format", "docker,image")
    again = copied(lading, "story:1", place("q4"), "--format", "docker,image")
    assert first["new_bytes"] > 2_000_000
    assert again["new_bytes"] == 0
    assert again["digest"] == first["digest"]


@pytest.mark.parametrize("form", [None, "image"])
def test_an_archive_takes_every_form(lading: CommandLine, story: Path, form: str | None) -> None:
    lading("pack", story, "-t", "story:1")
    options = ["--format", f"docker,modelpack,{form}"] if form else []
    made = copied(lading, "story:1", "oci-archive:a.tar:q4", *options)
    tags = {"q4", "q4-docker", "q4-modelpack", "q4-image"} if form else {"q4"}
    for tag in tags:
        raw, digest = skopeo_archive(lading.folder / "a.tar", tag)
        assert raw
        if tag == "q4":
            assert digest == made["digest"]


def skopeo_archive(path: Path, tag: str) -> tuple[bytes, str]:
    command = ["skopeo", "inspect", "--raw", f"oci-archive:{path}:{tag}"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return raw, f"sha256:{hashlib.sha256(raw).hexdigest()}"


def test_a_layout_that_lacks_a_blob_is_told_by_its_name(lading: CommandLine, story: Path, tmp_path: Path) -> None:
    lading("pack", story, "-t", "story:1")
    folder = tmp_path / "layout"
    copied(lading, "story:1", f"oci-layout:{folder}:1")
    weights = max((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    whole = weights.read_bytes()
    weights.unlink()
    told = lading("copy", f"oci-layout:{folder}:1", "oci-layout:b:1", code=3).stderr
    assert f"the layout {folder} has no blob sha256:{weights.name}" in told
    assert "the store" not in told
    weights.write_bytes(whole[:-1])
    empty = {"LADING_STORE": str(tmp_path / "empty")}
    told = lading("pull", f"oci-layout:{folder}:1", "-t", "other:1", code=6, more=empty).stderr
    assert f"in the layout {folder} has {len(whole) - 1} bytes, not {len(whole)}" in told
    # One's own store is told as such.
    mine = lading.store / "blobs/sha256" / weights.name
    mine.unlink()
    assert f"the store has no blob sha256:{weights.name}" in lading("push", "story:1", "oci-layout:c:1", code=3).stderr


@pytest.fixture
def chaos(plain_registry: RegistryProcess) -> Iterator[ChaosProxy]:
    made = ChaosProxy(plain_registry.host)
    yield made
    made.stop()


@pytest.mark.parametrize("form", [None, "modelpack", "image", "docker,modelpack,image"])
def test_a_source_that_lies_in_mid_stream_leaves_no_name(
    lading: CommandLine,
    story: Path,
    place: Callable[..., str],
    chaos: ChaosProxy,
    plain_registry: RegistryProcess,
    form: str | None,
) -> None:
    packed(lading, story, place("1"))
    lading.environment["LADING_STORE"] = str(lading.folder / "untouched")
    # The config is the first blob that is read; the weights are the second.
    chaos.plan([Fault("flipped-bit", "body", times=99, skip=1, at=0.7)])
    source = place("1").replace(plain_registry.host, chaos.host)
    options = ["--parallel", "1", *(["--format", form] if form else [])]
    said = lading("copy", source, place("1", repository="b"), *options, code=6).stderr
    assert WEIGHTS in said
    assert chaos.strikes
    for tag in ("1", "1-docker", "1-modelpack", "1-image"):
        assert "has no" in lading("inspect", place(tag, repository="b"), code=3).stderr


@pytest.mark.parametrize("form", [None, "image"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_copy_goes_on_where_either_side_broke_off(
    lading: CommandLine,
    story: Path,
    place: Callable[..., str],
    chaos: ChaosProxy,
    plain_registry: RegistryProcess,
    form: str | None,
    side: str,
) -> None:
    packed(lading, story, place("1"))
    lading.environment["LADING_STORE"] = str(lading.folder / "untouched")
    options = ["--format", form] if form else []
    calm = copied(lading, place("1"), place("calm", repository="calm"), *options)
    source, target = place("1"), place("1", repository="b")
    if side == "source":
        source = source.replace(plain_registry.host, chaos.host)
        chaos.plan([Fault("reset", "body", skip=1, at=0.6), Fault("reset", "blob", at=0.5)])
    else:
        target = target.replace(plain_registry.host, chaos.host)
        chaos.plan([Fault("reset", "upload", skip=1, at=0.3), Fault("reset", "upload", at=0.9)])
    made = copied(lading, source, target, *options)
    assert chaos.left == 0
    assert made["digest"] == calm["digest"]
    assert raw_manifest(place("1", repository="b"))[1] == made["digest"]


def test_an_image_upon_a_base_has_its_files_and_starts_as_it_does(
    lading: CommandLine, story: Path, place: Callable[..., str]
) -> None:
    below = gzip.compress(files(("bin/sh", b"#!"), ("etc/passwd", b"me")), mtime=0)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["A=b"],
            "Entrypoint": ["/bin/sh"],
            "Cmd": ["-c"],
            "WorkingDir": "/w",
            "User": "1",
            "Labels": {"a": "b"},
        },
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(gzip.decompress(below)))]},
        "history": [{"created_by": "base"}],
        "author": "somebody",
    }
    kind = "application/vnd.docker.container.image.v1+json"
    push_artifact(
        place("1", repository="base"),
        (json.dumps(config).encode(), kind),
        [(below, "application/vnd.docker.image.rootfs.diff.tar.gzip")],
    )
    lading("pack", story, "-t", "story:1")
    done = lading("push", "story:1", place("car"), "--format", "docker,image", "--base", place("1", repository="base"))
    assert "image" in done.stdout
    index, _digest = raw_manifest(place("car"))
    assert [one.get("platform") for one in index["manifests"]] == [None, {"architecture": "amd64", "os": "linux"}]
    car, _digest = raw_manifest(place("car-image"))
    assert [one["mediaType"].rpartition(".")[2] for one in car["layers"]] == ["tar+gzip", "tar"]
    made = json.loads(skopeo("inspect", "--config", "--raw", f"docker://{place('car-image')}")[0])
    assert made["config"]["Labels"].pop("a") == "b"
    del made["config"]["Labels"]
    assert made["config"] == {key: value for key, value in config["config"].items() if key != "Labels"}  # type: ignore[attr-defined]
    assert made["author"] == "somebody"
    assert made["rootfs"]["diff_ids"][0] == str(Digest.of(gzip.decompress(below)))
    assert len(made["rootfs"]["diff_ids"]) == len(car["layers"]) == len(made["history"]) == 2
    # It is a model like any other, and the base's layers are no reason not to come back.
    copied(lading, place("car-image"), place("there"), "--format", "docker")
    assert raw_manifest(place("there"))[0]["layers"] == raw_manifest(place("car-docker"))[0]["layers"]
    back = copied(lading, place("there"), place("back"), "--format", "image")
    assert back["digest"] == raw_manifest(place("car-image"))[1]


def test_a_base_for_another_platform_or_that_is_no_image_is_refused(
    lading: CommandLine, story: Path, place: Callable[..., str]
) -> None:
    packed(lading, story, place("1"))
    said = lading("push", "story:1", place("2"), "--format", "image", "--base", place("1"), code=6).stderr
    assert "is no image" in said
    lading("push", "story:1", place("2"), "--format", "image")
    said = lading(
        "push", "story:1", place("3"), "--format", "image", "--base", place("2"), "--platform", "linux/s390x", code=3
    ).stderr
    assert "has nothing for linux/s390x" in said


def test_a_modelkit_comes_back_where_its_layers_still_are(
    lading: CommandLine, story: Path, place: Callable[..., str]
) -> None:
    kit = "application/vnd.kitops.modelkit."
    kitfile = {"manifestVersion": "1.0.0", "package": {"name": "x"}, "model": {"name": "x", "path": "story.gguf"}}
    layer = files(("story.gguf", story.read_bytes()))
    digest = push_artifact(
        place("kit"), (json.dumps(kitfile).encode(), kit + "config.v1+json"), [(layer, kit + "model.v1.tar")]
    )
    copied(lading, place("kit"), place("docker"), "--format", "docker")
    assert raw_manifest(place("docker"))[0]["layers"][0]["digest"] == str(Digest.of(story.read_bytes()))
    assert copied(lading, place("docker"), place("back"), "--format", "kitops")["digest"] == digest
    copied(lading, place("docker"), place("1", repository="b"))
    refused = lading("copy", place("1", repository="b"), place("2", repository="c"), "--format", "kitops", code=2)
    assert "not written" in refused.stderr


def test_a_model_is_converted_within_the_store(lading: CommandLine, story: Path) -> None:
    lading("pack", story, "-t", "story:1")
    before = {path.name for path in (lading.store / "blobs/sha256").iterdir()}
    made = copied(lading, "story:1", "story:2", "--format", "modelpack")
    assert made["new_bytes"] < 10_000
    assert (
        copied(lading, "story:2", "story:3", "--format", "docker")["digest"] == copied(lading, "story:1", "x")["digest"]
    )
    several = copied(lading, "story:1", "all", "--format", "docker,modelpack,image")
    names = {one["reference"]: one["digest"] for one in json.loads(lading("list", "--json").stdout)}
    assert names["all"] == several["digest"]
    assert {form["reference"]: form["digest"] for form in several["forms"]}.items() <= names.items()
    check_store(lading.store, committed=names)
    for name in names.keys() - {"story:1"}:
        lading("rm", name)
    lading("prune")
    assert {path.name for path in (lading.store / "blobs/sha256").iterdir()} == before


def test_a_model_is_packed_in_several_formats_at_once(lading: CommandLine, story: Path) -> None:
    made = json.loads(lading("pack", story, "-t", "story:1", "--format", "image,both", "--json").stdout)
    assert made["format"] == "image,docker,modelpack"
    assert [form["reference"] for form in made["forms"]] == ["story:1-image", "story:1-docker", "story:1-modelpack"]
    check_store(lading.store, committed=["story:1", *(form["reference"] for form in made["forms"])])
    assert json.loads(lading("prune", "--json").stdout)["blobs"] == 0
    alone = json.loads(lading("pack", story, "-t", "car:1", "--format", "image", "--json").stdout)
    assert alone["digest"] == made["forms"][0]["digest"]
    assert alone["forms"] == []
    assert lading("run", "car:1", "Once", "-n", "4").stdout.strip()
    planned = json.loads(lading("pack", story, "-t", "x:1", "--format", "both", "--dry-run", "--json").stdout)
    assert (planned["format"], planned["digest"]) == ("docker,modelpack", None)
    assert "not written" in lading("pack", story, "-t", "x:1", "--format", "both,kitops", code=2).stderr


def test_a_model_of_several_formats_is_pushed_with_a_tag_for_each(
    lading: CommandLine, story: Path, place: Callable[..., str]
) -> None:
    lading("pack", story, "-t", "story:1", "--format", "both,image")
    pushed = json.loads(lading("push", "story:1", place("1"), "--json").stdout)
    assert [form["reference"] for form in pushed["forms"]] == [
        place(f"1-{kind}") for kind in ("docker", "modelpack", "image")
    ]
    for form in pushed["forms"]:
        assert raw_manifest(form["reference"])[1] == form["digest"]
    assert raw_manifest(place("1"))[1] == pushed["digest"]
    copied(lading, "story:1", f"oci-layout:{lading.folder / 'layout'}:q4")
    index = json.loads((lading.folder / "layout/index.json").read_text())
    names = {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]}
    assert names == {"q4", "q4-docker", "q4-modelpack", "q4-image"}
    # Wherever it goes from there, whatever has the names of its formats here by now.
    lading("rm", "story:1-docker", "story:1-image")
    lading("pack", story, "-t", "story:1-docker", "--name", "Another")
    lading("save", "story:1", "-o", "carried.tar")
    copied(lading, "story:1", "oci-archive:whole.tar:q4")
    sources = ("story:1", place("1"), "oci-archive:carried.tar", "oci-archive:whole.tar", "oci-layout:layout")
    for tag, source in enumerate(sources, 2):
        again = copied(lading, source, place(str(tag), repository="b"))
        assert again["digest"] == pushed["digest"]
        for form, first in zip(again["forms"], pushed["forms"], strict=True):
            assert form == {**first, "reference": place(f"{tag}-{first['format']}", repository="b")}
            assert raw_manifest(form["reference"])[1] == form["digest"]
    one = copied(lading, place("1"), place("9"), "--platform", "linux/arm64")
    assert one["forms"] == []
    copied(lading, "story:1-modelpack", f"oci-layout:{lading.folder / 'layout'}:other")
    assert "holds 5 models" in lading("pull", "oci-layout:layout", code=2).stderr


def test_a_name_without_room_for_the_formats_behind_it_is_refused(lading: CommandLine, story: Path) -> None:
    long = f"localhost:1/a/b:{'x' * 125}"
    for words in (("pack", story, "-t", long), ("pack", story, "-t", "x" * 250), ("copy", story, "x" * 250)):
        refused = lading(*words, "--format", "docker,image", code=2).stderr
        assert "-docker`, which cannot be the name of a model" in refused
        assert words[0] == "copy" or "weights" not in refused
    (lading.folder / "GGUFPackerfile").write_text(f'FROM scratch\nADD {story.name} /\nCMD ["-m", "/{story.name}"]\n')
    assert "-docker`" in lading("build", "-t", long, "--format", "docker,image", lading.folder, code=2).stderr
    assert json.loads(lading("list", "--json").stdout) == []
    lading("pack", story, "-t", long)


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ("oci-archive:a.tar:1", "nothing was written"),
        ("oci-layout:layout:1", "blobs that were sent whole stay there; the same command sends the rest"),
    ],
)
def test_an_interrupt_says_what_is_there(lading: CommandLine, place: str, kept: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        process = lading.start("copy", f"http://127.0.0.1:{silent.getsockname()[1]}/a.gguf", place)
        connection, _address = silent.accept()
        with connection:
            assert connection.recv(1)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (130, f"interrupted: {kept}\n")
    assert not (lading.folder / "a.tar").exists()


def test_names_that_other_tools_gave_in_the_store_are_no_hindrance(
    lading: CommandLine, story: Path, place: Callable[..., str]
) -> None:
    lading("pack", story, "-t", "story:1")
    index = lading.store / "index.json"
    tree = json.loads(index.read_text())
    [entry] = tree["manifests"]
    for name in (f"localhost:1/a/b:{'x' * 200}", "hf:", "a name", "\x1b[31mred"):
        tree["manifests"].append({**entry, "annotations": {"org.opencontainers.image.ref.name": name}})
    index.write_text(json.dumps(tree))
    assert lading("push", "story:1", place("1")).stdout.startswith("pushed")
    assert "\\x1b[31mred" in lading("list").stdout


def test_a_remembered_digest_that_is_wrong_costs_a_second_try_and_no_wrong_bytes(
    lading: CommandLine, story: Path
) -> None:
    lading("pack", story, "-t", "story:1")
    right = copied(lading, "story:1", "oci-layout:one:1", "--format", "image")
    (record,) = (lading.store / "cache" / "archives").iterdir()
    record.write_text(str(Digest.of(b"another layer")))
    assert copied(lading, "story:1", "oci-layout:two:1", "--format", "image")["digest"] == right["digest"]
    assert record.read_text() != str(Digest.of(b"another layer"))
    assert copied(lading, "story:1", "oci-layout:three:1", "--format", "image")["digest"] == right["digest"]
