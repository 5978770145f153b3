"""`verify --repair`: what is missing or damaged comes back from where the model came from, and nothing else changes."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from checker import check_store
from real_registry import start_registry

from lading import api, media
from lading.manifest import MANIFEST_KINDS, Manifest

if TYPE_CHECKING:
    from pathlib import Path

    from hostile_server import Asked, Hostile, Reply
    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from conftest import CommandLine
    from lading.digest import Digest

pytestmark = pytest.mark.integration

KINDS = ("flipped", "truncated", "longer", "removed")
BLOBS = ("weights", "config", "manifest")


def session_of(lading: CommandLine, *, offline: bool = False) -> api.Session:
    return api.Session(api.load_config(lading.environment), offline=offline)


def blobs_of(session: api.Session, name: str) -> dict[str, Digest]:
    """The digests of a model's blobs: `weights` (its largest), `config`, `manifest`, and the others by name."""
    document = session.store.document(name)
    assert isinstance(document, Manifest)
    largest = max(document.layers, key=lambda layer: layer.size)
    named = {layer.annotations.get("org.opencontainers.image.title", ""): layer.digest for layer in document.layers}
    return {**named, "manifest": document.digest, "config": document.config.digest, "weights": largest.digest}


def damage(session: api.Session, digest: Digest, kind: str, seed: int = 0) -> None:
    """Break a blob behind the store's back; a file that it is linked to stays as it is."""
    chance = random.Random(seed)
    path = session.store.blobs.path(digest)
    data = bytearray(path.read_bytes())
    path.unlink()
    if kind == "flipped":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "truncated":
        del data[chance.randrange(len(data)) :]
    elif kind == "longer":
        data += b"x"
    if kind != "removed":
        path.write_bytes(data)


def repaired(session: api.Session) -> api.Repaired:
    """Verify and repair, require that all is whole then, and return what was done."""
    faults = [fault for _digest, _size, fault in api.verify(session) if fault]
    assert faults
    done = api.repair(session, faults)
    assert done.left == ()
    assert [fault for _digest, _size, fault in api.verify(session) if fault] == []
    check_store(session.store.root)
    return done


def push_and_pull(lading: CommandLine, story: Path, registry: RegistryProcess, repository: str) -> str:
    """Have a model in the store that came from a registry alone; return its name there."""
    name = f"{registry.host}/{repository}:1"
    lading("pack", story, "-t", name, "--copy")
    lading("push", name)
    lading("rm", name)
    lading("prune")
    lading("pull", name)
    return name


# -- registries ----------------------------------------------------------------------------------------


def test_only_what_is_bad_is_fetched_and_all_is_told(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess
) -> None:
    name = push_and_pull(lading, story, plain_registry, "repair/told")
    session = session_of(lading)
    weights = blobs_of(session, name)["weights"]
    damage(session, weights, "flipped")
    assert name in lading("verify", code=6).stdout
    before = plain_registry.log.count('"GET /v2/repair/told/')
    told = lading("verify", "--repair").stdout.splitlines()
    assert told[-1] == f"repaired  {weights.short}   2.9 MB from oci://{plain_registry.host}/repair/told@" + str(
        blobs_of(session, name)["manifest"]
    )
    assert plain_registry.log.count('"GET /v2/repair/told/') - before == 1
    assert "no faults" in lading("verify").stdout
    assert lading("run", name, "Once upon a time", "-n", "4").stdout.strip()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blob", BLOBS)
def test_any_damage_to_any_blob_of_a_registry_is_mended(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess, blob: str, kind: str
) -> None:
    name = push_and_pull(lading, story, plain_registry, f"repair/any-{blob}")
    session = session_of(lading)
    digest = blobs_of(session, name)[blob]
    for seed in range(3):
        damage(session, digest, kind, seed)
        (mended,) = repaired(session).mended
        assert mended.digest == digest


def test_what_a_damaged_manifest_hid_is_mended_too(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess
) -> None:
    name = push_and_pull(lading, story, plain_registry, "repair/hidden")
    session = session_of(lading)
    digests = blobs_of(session, name)
    for blob in BLOBS:
        damage(session, digests[blob], "removed")
    assert {mended.digest for mended in repaired(session).mended} == set(digests.values())


def test_a_registry_of_ollamas_dialect_is_asked_too(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess
) -> None:
    push_and_pull(lading, story, plain_registry, "repair/dialect")
    session = session_of(lading)
    name = api.pull(session, f"ollama://{plain_registry.host}/repair/dialect:1").name
    api.remove(session, [tag.name for tag in session.store.tags() if tag.name != name])
    for blob in BLOBS:
        damage(session, blobs_of(session, name)[blob], "flipped")
        assert repaired(session).mended[0].source.startswith("ollama://")


def test_a_shared_blob_is_fetched_once_from_the_first_source_that_has_it(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess, tmp_path: Path
) -> None:
    other = start_registry(tmp_path / "other")
    try:
        push_and_pull(lading, story, other, "repair/shared")
        session = session_of(lading)
        name = f"{plain_registry.host}/repair/shared:1"
        api.push(session, f"{other.host}/repair/shared:1", name)
        for number in range(3):
            api.pull(session, name, name=f"copy:{number}")
        weights = blobs_of(session, name="copy:1")["weights"]
        # The first source has lost the blob.
        shutil.rmtree(other.folder / "data/docker/registry/v2/blobs/sha256" / weights.partition(":")[2][:2])
        damage(session, weights, "flipped")
        before = plain_registry.log.count('"GET /v2/repair/shared/blobs/')
        (mended,) = repaired(session).mended
        assert plain_registry.host in mended.source
        assert plain_registry.log.count('"GET /v2/repair/shared/blobs/') - before == 1
    finally:
        other.stop()


def test_one_blob_that_is_gone_keeps_no_other_from_being_mended(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess, tmp_path: Path
) -> None:
    own = start_registry(tmp_path / "own")
    try:
        name = push_and_pull(lading, story, own, "repair/half")
        session = session_of(lading)
        digests = blobs_of(session, name)
        shutil.rmtree(own.folder / "data/docker/registry/v2/blobs/sha256" / digests["weights"].partition(":")[2][:2])
        for blob in ("weights", "config"):
            damage(session, digests[blob], "flipped")
        told = json.loads(lading("verify", "--repair", "--json", code=6).stdout)
        assert [one["digest"] for one in told["repaired"]] == [digests["config"]]
        (left,) = told["unrepaired"]
        assert left["digest"] == digests["weights"]
        assert own.host in left["why"]
        assert left["models"] == [name]
        assert {fault["digest"] for fault in told["faults"]} == {digests["weights"], digests["config"]}
    finally:
        own.stop()


def test_a_source_that_cannot_be_reached_is_exit_5_and_the_next_run_mends(
    lading: CommandLine, story: Path, tmp_path: Path
) -> None:
    own = start_registry(tmp_path / "own")
    name = push_and_pull(lading, story, own, "repair/away")
    own.stop()
    session = session_of(lading)
    digest = blobs_of(session, name)["config"]
    damage(session, digest, "truncated")
    done = lading("verify", "--repair", code=5)
    assert f"not repaired  {digest.short}" in done.stdout
    assert name in done.stderr
    assert "broken" in lading("list").stdout


def test_offline_repairs_from_this_machine_alone(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess
) -> None:
    name = push_and_pull(lading, story, plain_registry, "repair/offline")
    session = session_of(lading)
    digests = blobs_of(session, name)
    damage(session, digests["weights"], "flipped")
    assert "offline" in lading("verify", "--repair", "--offline", code=5).stdout
    # The same bytes, from a file.
    api.pack(session, story, "story:1", copy=True)
    damage(session, digests["weights"], "flipped")
    assert "repaired" in lading("verify", "--repair", "--offline").stdout
    assert "--repair" in lading("verify", "--insecure", code=2).stderr


def test_what_no_model_needs_is_told_and_left_to_prune(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess
) -> None:
    name = push_and_pull(lading, story, plain_registry, "repair/nobody")
    session = session_of(lading)
    damage(session, blobs_of(session, name)["weights"], "flipped")
    lading("rm", name)
    done = lading("verify", "--repair", code=6)
    assert "nothing that has a name needs it" in done.stdout
    assert "lading prune" in done.stderr
    lading("prune")
    assert "no faults" in lading("verify", "--repair").stdout


def test_killed_at_any_moment_and_begun_twice_at_once_it_still_mends(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess
) -> None:
    name = push_and_pull(lading, story, plain_registry, "repair/killed")
    session = session_of(lading)
    digests = blobs_of(session, name)
    for seed in range(4):
        for blob in BLOBS:
            damage(session, digests[blob], "flipped", seed)
        process = lading.start("verify", "--repair")
        time.sleep(random.Random(seed).uniform(0.2, 2.0))
        process.kill()
        process.communicate()
        together = [lading.start("verify", "--repair") for _ in range(2)]
        for one in together:
            out, error = one.communicate(timeout=120)
            assert one.returncode == 0, out + error
        assert "no faults" in lading("verify").stdout
        check_store(session.store.root)


# -- hubs and plain URLs -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_a_hubs_model_is_mended_at_its_commit(
    lading: CommandLine, hub: LoopbackHub, storyteller: Path, scheme: str
) -> None:
    weights = storyteller.read_bytes()
    repository = hub.add("team/story-GGUF", {"LICENSE": b"CC0", "story-Q4_K_M.gguf": weights, "config.json": b"{}"})
    lading.environment |= {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
    session = session_of(lading)
    name = api.pull(session, f"{scheme}://team/story-GGUF:Q4_K_M").name
    digests = blobs_of(session, name)
    # What the branch holds now is another model.
    repository.commit({"LICENSE": b"other", "story-Q4_K_M.gguf": weights[:-1] + b"\0"})
    for kind in ("flipped", "removed"):
        for blob in (*BLOBS, "LICENSE"):
            damage(session, digests[blob], kind, seed=3)
            (mended,) = repaired(session).mended
            assert mended.digest == digests[blob]
            assert mended.source.startswith(f"{scheme}://team/story-GGUF@")
    sent = hub.sent.total()
    damage(session, digests["LICENSE"], "truncated")
    repaired(session)
    assert hub.sent.total() - sent < 10_000, "whole blobs were fetched again"


def test_a_hubs_model_that_was_chosen_by_fit_is_mended_as_it_was(
    lading: CommandLine, hub: LoopbackHub, storyteller: Path
) -> None:
    weights = storyteller.read_bytes()
    # Of equals the first is taken; without a machine Q4_K_M would be.
    hub.add("team/story-GGUF", {f"story-{quant}.gguf": weights for quant in ("Q4_K_M", "IQ4_XS")})
    lading.environment |= {"HF_ENDPOINT": hub.url}
    session = session_of(lading)
    name = api.pull(session, "hf://team/story-GGUF").name
    digests = blobs_of(session, name)
    assert "story-IQ4_XS.gguf" in digests
    for blob in BLOBS:
        damage(session, digests[blob], "removed")
        (mended,) = repaired(session).mended
        assert mended.digest == digests[blob]
    for kind in ("flipped", "removed"):
        damage(session, digests["manifest"], kind)
        assert api.pull(session, "hf://team/story-GGUF").digest == digests["manifest"]
        check_store(session.store.root)


@pytest.fixture
def place(hostile: Hostile, reply: type[Reply]) -> dict[str, bytes]:
    """A server of one file; what it holds may be changed."""
    held: dict[str, bytes] = {}

    def serve(asked: Asked) -> Reply:
        data = held["data"]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("Range", ""))
        if wanted is None:
            return reply(200, data)
        start, end = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        return reply(206, data[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(data)}"})

    for method in ("HEAD", "GET"):
        hostile.on(method, "/models/story.gguf", serve)
    return held


def test_a_file_behind_a_url_is_mended_unless_it_is_another_now(
    lading: CommandLine, hostile: Hostile, place: dict[str, bytes], storyteller: Path
) -> None:
    place["data"] = storyteller.read_bytes()
    session = session_of(lading)
    name = api.pull(session, f"{hostile.url}/models/story.gguf?token=hidden").name
    digests = blobs_of(session, name)
    for blob in BLOBS:
        damage(session, digests[blob], "flipped")
        (mended,) = repaired(session).mended
        assert mended.digest == digests[blob]
        assert mended.source == f"{hostile.url}/models/story.gguf"
    for changed in (place["data"][:-1] + b"\0", place["data"] + b"\0"):
        damage(session, digests["weights"], "flipped", seed=len(changed))
        place["data"] = changed
        done = lading("verify", "--repair", code=6)
        assert "not repaired" in done.stdout
        assert "pull" in done.stderr
        assert "hidden" not in done.stdout + done.stderr
        assert not session.store.blobs.is_whole(digests["weights"], storyteller.stat().st_size)


# -- the user's own files ------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", ["docker", "modelpack"])
@pytest.mark.parametrize("how", ["copied", "linked"])
def test_what_was_packed_is_mended_from_the_file(lading: CommandLine, story: Path, format_name: str, how: str) -> None:
    session = session_of(lading)
    api.pack(session, story, "story:1", format_name=format_name, copy=how == "copied")
    digests = blobs_of(session, "story:1")
    before = story.read_bytes()
    for kind in KINDS:
        for blob in BLOBS:
            damage(session, digests[blob], kind)
            (mended,) = repaired(session).mended
            assert mended.digest == digests[blob]
            assert story.read_bytes() == before
    assert session.store.blobs.path(digests["weights"]).samefile(story) == (how == "linked")


def test_a_file_of_a_packed_folder_is_found_by_its_name(lading: CommandLine, storyteller: Path) -> None:
    folder = lading.folder / "model"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "LICENSE"):
        shutil.copyfile(storyteller.parent / name, folder / name)
    session = session_of(lading)
    api.pack(session, folder, "story:1", copy=True)
    for digest in blobs_of(session, "story:1").values():
        damage(session, digest, "removed")
        assert [mended.digest for mended in repaired(session).mended] == [digest]


GIVEN = ("--template", "chat.jinja", "--license", "TERMS.txt", "--license", "MIT", "--name", "Teller")
SAID = ("--param", "temp=0.5", "--annotation", "org.example.team=chat")


@pytest.mark.parametrize("formats", ["docker", "modelpack", "image", "docker,modelpack,image"])
def test_what_was_packed_with_given_files_and_in_several_formats_is_mended(
    lading: CommandLine, story: Path, formats: str
) -> None:
    (lading.folder / "chat.jinja").write_text("{{ messages }}")
    (lading.folder / "TERMS.txt").write_text("Be kind.")
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    lading("pack", story, "-t", "story:1", "--format", formats, *GIVEN, *SAID, more=epoch)
    lading("tag", "story:1", "other:1")
    lading("rm", "story:1")
    session = session_of(lading)
    mended: set[Digest] = set()
    for digest in tuple(session.store.blobs.digests()):
        path = session.store.blobs.path(digest)
        before = path.read_bytes()
        damage(session, digest, "removed")
        if any(fault for _digest, _size, fault in api.verify(session)):
            mended.update(one.digest for one in repaired(session).mended)
            assert path.read_bytes() == before
        else:
            # Of an index any manifest but one may be absent, and what images are made of is not needed any more.
            session.store.put_bytes(before)
    reached = list(session.store.reach(session.store.document("other:1")))
    assert {blob.digest for blob in reached if blob.media_type not in MANIFEST_KINDS} <= mended
    assert session.store.document("other:1").digest in mended


@pytest.mark.parametrize("note", ["no note", '{"formats":7}', '{"formats":"docker","files":[["king","x"]]}'])
def test_a_note_of_packing_that_makes_no_sense_is_as_none(lading: CommandLine, story: Path, note: str) -> None:
    session = session_of(lading)
    api.pack(session, story, "story:1")
    digests = blobs_of(session, "story:1")
    document = session.store.document("story:1")
    session.store.tag("story:1", document, {media.SOURCE: story.as_uri(), media.PACKED: note})
    damage(session, digests["config"], "removed")
    assert [mended.digest for mended in repaired(session).mended] == [digests["config"]]


def test_a_file_that_its_owner_changed_is_never_touched(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess
) -> None:
    session = session_of(lading)
    api.pack(session, story, "story:1")
    name = f"{plain_registry.host}/repair/owner:1"
    api.push(session, "story:1", name)
    weights = blobs_of(session, "story:1")["weights"]
    with story.open("r+b") as file:
        file.seek(2_000_000)
        file.write(b"mine now")
    changed = story.read_bytes()
    refused = lading("verify", "--repair", code=6)
    assert "pack the model again" in refused.stderr
    assert story.read_bytes() == changed
    # Now another name says where the bytes are.
    api.pull(session, name)
    damage(session, weights, "removed")
    repaired(session)
    assert story.read_bytes() == changed
    assert not session.store.blobs.path(weights).samefile(story)
    assert lading("run", "story:1", "Once upon a time", "-n", "4").stdout.strip()


def test_a_file_that_is_gone_is_named_and_can_be_put_back(lading: CommandLine, story: Path) -> None:
    session = session_of(lading)
    api.pack(session, story, "story:1", copy=True)
    damage(session, blobs_of(session, "story:1")["weights"], "flipped")
    away = story.rename(story.with_name("away.gguf"))
    assert str(story) in lading("verify", "--repair", code=6).stdout
    away.rename(story)
    repaired(session)
