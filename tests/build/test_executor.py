"""Recipes built whole: what steps make, what of it is made again, and what is left when one fails."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lading.api import write_out
from lading.artifact.format import PLATFORMS
from lading.errors import (
    FormatError,
    IntegrityError,
    LadingError,
    NetworkError,
    NotFoundError,
    RecipeError,
    UsageError,
)
from lading.events import Started
from lading.plan import single_manifest
from lading.store import Store, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostile_server import Hostile, Reply
    from hub import LoopbackHub

    from lading.build.converter import Converter

    from .conftest import Builder

CMD = 'CMD ["-m", "story.gguf"]\n'
QUANTIZE = "QUANTIZE --type=Q8_0 story.gguf q8.gguf"
TWO_STAGES = f"""
FROM scratch AS weights
COPY story.gguf /
{QUANTIZE}

FROM scratch
LABEL org.opencontainers.image.licenses=CC0-1.0
COPY --from=weights q8.gguf /story.gguf
COPY notes.txt /
CAT <<EOF system.txt
You tell stories.
EOF
CMD ["-m", "story.gguf", "--ctx-size", "256"]
"""


@pytest.fixture
def story(builder: Builder, storyteller: Path) -> Builder:
    """A builder whose context holds the example model."""
    shutil.copyfile(storyteller, builder.context / "story.gguf")
    builder.write(**{"notes.txt": "one\n"})
    return builder


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# -- what is made, and what is made again ------------------------------------------------


def test_the_second_build_runs_no_step_and_gives_the_same_digest(story: Builder) -> None:
    first = story(TWO_STAGES)
    assert (first.steps, first.cached) == (5, 1)  # the copy of what the other stage has costs nothing
    second = story(TWO_STAGES)
    assert (second.digest, second.cached, story.made) == (first.digest, 5, [])
    assert set(story.files()) == {"story.gguf", "notes.txt", "system.txt"}
    assert story.files()["system.txt"] == b"You tell stories.\n"


def test_the_same_recipe_gives_the_same_digest_in_another_store_and_folder(
    story: Builder, tmp_path_factory: pytest.TempPathFactory, bare: dict[str, str]
) -> None:
    first = story(TWO_STAGES)
    other = type(story)(tmp_path_factory.mktemp("elsewhere"), bare)
    shutil.copytree(story.context, other.context, dirs_exist_ok=True)
    assert other(TWO_STAGES).digest == first.digest


def test_a_changed_file_makes_only_those_steps_anew_that_read_it(story: Builder) -> None:
    first = story(TWO_STAGES)
    story.write(**{"notes.txt": "two\n"})
    second = story(TWO_STAGES)
    assert story.made == ["COPY notes.txt /"]
    assert second.digest != first.digest


def test_a_step_does_not_depend_on_files_of_its_stage_that_it_does_not_read(story: Builder) -> None:
    recipe = f"FROM scratch\nCOPY notes.txt story.gguf /\n{QUANTIZE}\n{CMD}"
    story(recipe)
    story.write(**{"notes.txt": "changed\n"})
    story(recipe)
    assert story.cached == [QUANTIZE]


def test_another_type_makes_the_step_anew(story: Builder) -> None:
    story(TWO_STAGES)
    story(TWO_STAGES.replace("Q8_0", "Q4_0"))
    assert story.made == [QUANTIZE.replace("Q8_0", "Q4_0")]


def test_without_the_cache_every_tool_runs_again_and_the_digest_is_the_same(story: Builder) -> None:
    first = story(TWO_STAGES)
    again = story(TWO_STAGES, fresh=True)
    assert QUANTIZE in story.made
    assert again.digest == first.digest


def test_prune_keeps_what_the_build_cache_holds_until_told_otherwise(story: Builder) -> None:
    story(TWO_STAGES)
    store = Store(story.session().config.store)
    for tag in store.tags():
        store.untag(tag.name)
    sweep.prune(store)
    story(TWO_STAGES)
    assert QUANTIZE in story.cached
    for tag in store.tags():
        store.untag(tag.name)
    freed = sweep.prune(store, build_cache=True)
    assert freed.blobs
    assert list(store.blobs.digests()) == []
    story(TWO_STAGES)
    assert QUANTIZE in story.made


def test_a_cached_file_that_was_damaged_is_made_again(story: Builder) -> None:
    first = story(TWO_STAGES)
    store = Store(story.session().config.store)
    path = store.root / "blobs/sha256" / hashlib.sha256(story.files()["story.gguf"]).hexdigest()
    path.chmod(0o644)
    path.write_bytes(b"short")
    assert story(TWO_STAGES).digest == first.digest
    assert QUANTIZE in story.made


def test_stages_that_need_nothing_of_each_other_are_all_made(story: Builder) -> None:
    kinds = ("Q8_0", "Q4_0", "Q5_K_M")
    stages = "".join(
        f"FROM scratch AS s{kind.lower()}\nCOPY story.gguf /\nQUANTIZE --type={kind} story.gguf {kind}.gguf\n"
        for kind in kinds
    )
    copies = "".join(f"COPY --from=s{kind.lower()} {kind}.gguf /{kind}.gguf\n" for kind in kinds)
    built = story(f"{stages}FROM scratch\n{copies}" + 'CMD ["-m", "Q8_0.gguf"]\n', formats="image")
    assert built.steps == 9
    assert len(story.made) == 6


def test_shards_are_quantized_as_one_and_kept_where_that_is_asked(
    story: Builder, tools: dict[str, str], storyteller: Path
) -> None:
    split = Path(tools["PATH"].partition(":")[0]) / "llama-gguf-split"
    if not split.exists():
        pytest.skip("no llama-gguf-split: scripts/fetch_llama_server.sh .tools/llama")
    words: list[str | Path] = [split, "--split-max-tensors", "10", storyteller, story.context / "part"]
    subprocess.run(words, check=True, capture_output=True)
    first = "part-00001-of-00003.gguf"
    kept = f"FROM scratch\nQUANTIZE --from=context --type=Q8_0 --keep-split {first} /small.gguf\n"
    story(kept + 'CMD ["-m", "small-00001-of-00003.gguf"]\n')
    assert sorted(story.files()) == [f"small-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    story(kept.replace(" --keep-split", "") + 'CMD ["-m", "small.gguf"]\n')
    assert list(story.files()) == ["small.gguf"]
    (story.context / "part-00003-of-00003.gguf").unlink()
    with pytest.raises(NotFoundError, match=r"the context has no `part-00003-of-00003\.gguf`"):
        story(kept + 'CMD ["-m", "small-00001-of-00003.gguf"]\n', fresh=True)


def test_the_example_is_built_from_its_safetensors(builder: Builder, converter: Converter, storyteller: Path) -> None:
    assert converter.scripts.is_dir()
    shutil.copytree(storyteller.parent, builder.context / "storyteller")
    whole = "CONVERT --from=context --type=F16 storyteller story.gguf\n"
    builder(f"FROM scratch\n{whole}{CMD}")
    assert builder.files() == {"story.gguf": storyteller.read_bytes()}
    (builder.context / "storyteller/model.safetensors").unlink()
    with pytest.raises(NotFoundError, match="holds no weights"):
        builder(f"FROM scratch\n{whole}{CMD}")


def test_only_the_stages_that_the_target_needs_are_made(story: Builder) -> None:
    recipe = TWO_STAGES.replace("FROM scratch\nLABEL", "FROM scratch AS last\nLABEL") + "FROM scratch\nCAT no no.txt\n"
    assert story(recipe, target="last").steps == 5
    with pytest.raises(UsageError, match="nowhere"):
        story(recipe, target="nowhere")


# -- where files come from -----------------------------------------------------------------


def test_what_the_ignore_file_leaves_out_is_not_in_the_context(story: Builder) -> None:
    story.write(**{".dockerignore": "*.txt\n", "LICENSE": "yes\n"})
    story(f"FROM scratch\nCOPY . /\n{CMD}", formats="modelpack")
    assert set(story.files()) == {"story.gguf", "LICENSE", ".dockerignore"}
    with pytest.raises(NotFoundError, match=r"GGUFPackerfile:2:1: error: the context has no `notes\.txt`"):
        story(f"FROM scratch\nCOPY notes.txt story.gguf /\n{CMD}")


def test_a_further_context_is_a_folder_by_its_name(story: Builder, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/LICENSE").write_text("Do as you please.\n")
    recipe = f"FROM scratch\nCOPY story.gguf /\nCOPY --from=legal LICENSE /\n{CMD}"
    story(recipe, contexts={"legal": str(tmp_path / "more")})
    assert story.files()["LICENSE"] == b"Do as you please.\n"
    with pytest.raises(NotFoundError, match="is no folder"):
        story(recipe, contexts={"legal": str(tmp_path / "none")})


def test_a_bare_name_is_first_one_in_the_store(story: Builder) -> None:
    story(f"FROM scratch\nCOPY story.gguf /\n{CMD}", names=("mine:1",))
    recipe = f"FROM mine:1\nCAT Hello. hello.txt\nCOPY --from=mine:1 story.gguf /copied.gguf\n{CMD}"
    first = story(recipe, offline=True)
    assert set(story.files()) == {"story.gguf", "hello.txt", "copied.gguf"}
    assert story(recipe, offline=True).digest == first.digest
    assert story.cached[0] == "FROM mine:1"
    with pytest.raises(NetworkError, match=r"docker\.io/library/other:1 was not asked for before"):
        story("FROM other:1\nCAT Hello. hello.txt\n", offline=True)


def test_a_bare_name_in_the_store_that_has_lost_a_file_is_not_looked_for_elsewhere(story: Builder) -> None:
    story(f"FROM scratch\nCOPY story.gguf /\n{CMD}", names=("mine:1",))
    store = story.session().store
    config = single_manifest(store.document("mine:1"), store.document, "mine:1", PLATFORMS[0]).config
    store.blobs.path(config.digest).unlink()
    with pytest.raises(IntegrityError, match="mine:1 is in the store, and not whole"):
        story(f"FROM mine:1\n{CMD}")


def test_a_context_may_be_an_image_or_a_hub_s_repository(story: Builder, hub: LoopbackHub) -> None:
    story.environment["HF_ENDPOINT"] = hub.url
    hub.add("me/notes", {"note.txt": b"of the hub\n"})
    story(f"FROM scratch\nCOPY story.gguf /\n{CMD}", names=("mine:1",))
    recipe = f"FROM base\nCOPY --from=notes note.txt /\n{CMD}"
    story(recipe, contexts={"base": "docker-image://mine:1", "notes": "hf://me/notes"})
    assert story.files()["note.txt"] == b"of the hub\n"
    assert set(story.files()) == {"story.gguf", "note.txt"}
    with pytest.raises(NotFoundError, match="the context `notes` is no folder: ftp://somewhere"):
        story(recipe, contexts={"base": "docker-image://mine:1", "notes": "ftp://somewhere"})
    with pytest.raises(UsageError, match="`docker-image://` names no image"):
        story(recipe, contexts={"base": "docker-image://", "notes": "hf://me/notes"})
    with pytest.raises(NotFoundError, match="scratch has no `note"):
        story(recipe, contexts={"base": "docker-image://scratch", "notes": "docker-image://scratch"})


def test_a_context_may_be_a_model_in_a_layout(story: Builder, tmp_path: Path) -> None:
    made = story(f"FROM scratch\nCOPY story.gguf /\n{CMD}", names=("mine:1",))
    for place in ("one", "two"):
        write_out(story.session(), made, f"oci-layout:{tmp_path / place}")
    recipe = "FROM base\nCOPY --from=base story.gguf /again.gguf\n"
    named = [f"oci-layout://{tmp_path}/one:mine:1", f"oci-layout://{tmp_path}/two", f"oci-layout:{tmp_path}/two:mine:1"]
    shutil.rmtree(tmp_path / "store")
    digests = {story(recipe, contexts={"base": place}, offline=True).digest for place in named}
    assert len(digests) == 1
    assert set(story.files()) == {"story.gguf", "again.gguf"}
    assert story.made == []
    assert not [text for text in story.heard.notes() if "model-missing" in text]
    story(recipe, contexts={"base": f"oci-layout://{tmp_path}/two@{made.digest}"})
    assert set(story.files()) == {"story.gguf", "again.gguf"}
    for place, error, said in (
        (f"{tmp_path}/one:other", NotFoundError, "has no tag `other`; it has mine:1"),
        (f"{tmp_path}/none", NotFoundError, "is no OCI image layout"),
        (f"{tmp_path}/one@sha256:{'0' * 64}", NotFoundError, "has no blob sha256:0000"),
        (f"{tmp_path}/one@sha256:12", UsageError, "malformed sha256 digest '12'"),
        ("", UsageError, "is no reference"),
    ):
        with pytest.raises(error, match=said):
            story(recipe, contexts={"base": f"oci-layout://{place}"})


def test_a_context_may_be_an_archive_or_a_file_behind_a_url(
    story: Builder, hostile: Hostile, reply: type[Reply], tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "more.tar.gz", "w:gz") as archive:
        archive.add(story.context / "story.gguf", "weights/story.gguf")
    hostile.on("HEAD", "/more.tar.gz", packed := reply(200, (tmp_path / "more.tar.gz").read_bytes(), {"ETag": '"1"'}))
    hostile.on("GET", "/more.tar.gz", packed)
    for method in ("HEAD", "GET"):
        hostile.on(method, "/notes.txt", reply(200, b"of the web\n", {"ETag": '"1"'}))
    recipe = f"FROM weights AS all\nFROM scratch\nCOPY --from=all weights/ /\nCOPY --from=notes notes.txt /\n{CMD}"
    contexts = {"weights": f"{hostile.url}/more.tar.gz", "notes": f"{hostile.url}/notes.txt"}
    story(recipe, contexts=contexts)
    assert set(story.files()) == {"story.gguf", "notes.txt"}
    story(recipe, contexts=contexts)
    assert story.made == []


def test_a_platform_that_nobody_has_is_refused(story: Builder) -> None:
    for platform in ("wat", "linux/wat", "plan9/amd64"):
        with pytest.raises(UsageError, match="is no platform"):
            story(f"FROM scratch\nCOPY story.gguf /\n{CMD}", platform=platform)


def test_a_folder_without_weights_and_a_stage_without_files_are_told_as_what_they_are(story: Builder) -> None:
    with pytest.raises(UsageError, match="`w` has no weights that could be converted"):
        story("FROM scratch\nCOPY story.gguf /w/\nCONVERT w a.gguf\n")
    with pytest.raises(NotFoundError, match="the stage `none` has no files"):
        story(f"FROM scratch AS none\nFROM scratch\nCOPY --from=none / /\nCOPY story.gguf /\n{CMD}")


def test_a_link_out_of_the_context_is_refused(story: Builder, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("private\n")
    (story.context / "link.txt").symlink_to(tmp_path / "outside")
    with pytest.raises(FormatError, match="leads out of the context"):
        story(f"FROM scratch\nCOPY link.txt story.gguf /\n{CMD}")


def test_wildcards_folders_and_parents_are_placed_as_docker_does(story: Builder) -> None:
    (story.context / "deep/er").mkdir(parents=True)
    (story.context / "deep/er/a.txt").write_text("a")
    (story.context / "deep/b.md").write_text("b")
    story(
        "FROM scratch\nCOPY story.gguf /\nCOPY deep /folder\nCOPY --parents deep/./er/a.txt deep/b.md /kept/\n"
        f"COPY --exclude=*.md deep/* /flat/\nCOPY --chmod=600 deep/b.md /one.md\n{CMD}",
        formats="modelpack",
    )
    assert sorted(name for name in story.files() if name != "story.gguf") == [
        "flat/a.txt",
        "folder/b.md",
        "folder/er/a.txt",
        "kept/deep/b.md",
        "kept/er/a.txt",
        "one.md",
    ]


def test_several_documents_with_a_file_as_destination_are_joined(story: Builder) -> None:
    cat = "CAT <<A <<B both.txt\none\nA\ntwo\nB\nCAT hello world greeting.txt\n"
    story(f"FROM scratch\nCOPY story.gguf /\n{cat}{CMD}")
    assert story.files()["both.txt"] == b"one\ntwo\n"
    assert story.files()["greeting.txt"] == b"hello world\n"


def test_a_hubs_repository_is_fetched_anew_when_its_branch_moves(story: Builder, hub: LoopbackHub) -> None:
    weights = (story.context / "story.gguf").read_bytes()
    repository = hub.add("tales/story", {"story.gguf": weights, "README.md": b"# Story\n", "LICENSE": b"CC0\n"})
    story.environment["HF_ENDPOINT"] = hub.url
    recipe = f"FROM scratch\nADD hf://tales/story /\n{CMD}"
    first = story(recipe)
    assert story.made == ["ADD hf://tales/story /"]
    assert "story.gguf" in [event.name for event in story.heard.events if isinstance(event, Started)]
    assert story.files()["LICENSE"] == b"CC0\n"
    assert story(recipe).digest == first.digest
    assert story.made == []
    repository.commit({"story.gguf": weights, "LICENSE": b"MIT\n"})
    assert story(recipe).digest != first.digest
    assert story.files()["LICENSE"] == b"MIT\n"


def test_a_commit_of_a_hub_is_not_asked_for_again(story: Builder, hub: LoopbackHub) -> None:
    weights = (story.context / "story.gguf").read_bytes()
    repository = hub.add("tales/story", {"story.gguf": weights})
    commit = repository.commit({"story.gguf": weights, "LICENSE": b"MIT\n"})
    story.environment["HF_ENDPOINT"] = hub.url
    recipe = f"FROM scratch\nADD hf://tales/story@{commit} /\n{CMD}"
    first = story(recipe)
    asked = len(hub.asked)
    assert story(recipe).digest == first.digest
    assert len(hub.asked) == asked


def test_a_name_stands_for_one_thing_throughout_a_build(
    story: Builder, hub: LoopbackHub, hostile: Hostile, reply: type[Reply]
) -> None:
    hub.add("tales/story", {"LICENSE": b"MIT\n", "README.md": b"# Story\n"})
    story.environment["HF_ENDPOINT"] = hub.url
    # A server that tells no versions: what it gives is another file each time.
    hostile.on("HEAD", "/notes", reply(200, b"first\n"))
    hostile.on("GET", "/notes", reply(200, b"first\n"), reply(200, b"other\n"))
    recipe = f"FROM scratch\nCOPY story.gguf /\n{CMD}"
    recipe += "ADD hf://tales/story:LICENSE /\nADD hf://tales/story:README.md /\n"
    recipe += f"ADD {hostile.url}/notes /one.txt\nADD {hostile.url}/notes /two.txt\n"
    story(recipe)
    assert len([one for one in hub.asked if "/revision/" in one.path]) == 1
    assert story.files()["one.txt"] == story.files()["two.txt"] == b"first\n"
    story(recipe)
    assert story.files()["one.txt"] == story.files()["two.txt"] == b"other\n"


def test_an_upstream_git_address_of_the_hub_needs_no_git(story: Builder, hub: LoopbackHub) -> None:
    hub.add("tales/story", {"story.gguf": (story.context / "story.gguf").read_bytes(), "README.md": b"# Story\n"})
    story.environment |= {"HF_ENDPOINT": hub.url, "PATH": "/nowhere"}
    story(f"FROM scratch\nADD https://huggingface.co/tales/story.git /\n{CMD}")
    assert set(story.files()) == {"story.gguf", "README.md"}


def test_a_pattern_and_a_checksum_choose_one_file_of_a_hub(story: Builder, hub: LoopbackHub) -> None:
    weights = (story.context / "story.gguf").read_bytes()
    hub.add("tales/story", {"a/story.gguf": weights, "README.md": b"# Story\n"})
    story.environment["HF_ENDPOINT"] = hub.url
    place = "hf://tales/story@main:a/story.gguf"
    story(f"FROM scratch\nADD --checksum={sha256(weights)} {place} /story.gguf\n{CMD}")
    assert set(story.files()) == {"story.gguf"}
    with pytest.raises(IntegrityError, match="is not what its checksum says"):
        story(f"FROM scratch\nADD --checksum={sha256(b'other')} {place} /story.gguf\n{CMD}")


def test_what_was_fetched_is_built_again_offline(story: Builder, hub: LoopbackHub) -> None:
    hub.add("tales/story", {"story.gguf": (story.context / "story.gguf").read_bytes()})
    story.environment["HF_ENDPOINT"] = hub.url
    recipe = f"FROM scratch\nADD hf://tales/story /\n{CMD}"
    first = story(recipe)
    asked = len(hub.asked)
    assert story(recipe, offline=True).digest == first.digest
    assert len(hub.asked) == asked
    with pytest.raises(NetworkError, match="offline"):
        story(f"FROM scratch\nADD hf://tales/other /\n{CMD}", offline=True)


def test_a_hub_s_repository_that_is_not_here_offline_is_named_as_in_the_recipe(story: Builder) -> None:
    with pytest.raises(NetworkError, match="hf://me/tiny was not asked for before"):
        story("FROM scratch\nADD hf://me/tiny /\n", offline=True)


def test_a_file_behind_a_url_is_held_to_its_checksum_and_nothing_of_another_is_cached(
    story: Builder, hostile: Hostile, reply: type[Reply]
) -> None:
    weights = (story.context / "story.gguf").read_bytes()
    answer = reply(200, weights, {"ETag": '"one"'})
    hostile.on("HEAD", "/story.gguf", *[answer] * 9)
    hostile.on("GET", "/story.gguf", *[answer] * 9)
    url = f"{hostile.url}/story.gguf"
    with pytest.raises(IntegrityError, match=r"GGUFPackerfile:2:1"):
        story(f"FROM scratch\nADD --checksum={sha256(b'other')} {url} /\n{CMD}")
    store = Store(story.session().config.store)
    assert list(store.build_cache.mentioned()) == []
    sweep.prune(store)
    assert list(store.blobs.digests()) == []

    good = f"FROM scratch\nADD --checksum={sha256(weights)} {url} /\n{CMD}"
    story(good)
    assert len(story.made) == 1
    asked = len(hostile.asked)
    story(good)
    assert (len(hostile.asked), story.made) == (asked, [])


def test_a_url_without_a_checksum_is_asked_whether_it_changed(
    story: Builder, hostile: Hostile, reply: type[Reply]
) -> None:
    first, second = (reply(200, data, {"ETag": tag}) for tag, data in (('"1"', b"first\n"), ('"2"', b"second\n")))
    hostile.on("HEAD", "/notes", first, first, second)
    hostile.on("GET", "/notes", first, second)
    recipe = f"FROM scratch\nCOPY story.gguf /\nADD {hostile.url}/notes /notes.txt\n{CMD}"
    story(recipe)
    assert story.files()["notes.txt"] == b"first\n"
    story(recipe)
    assert story.made == []
    story(recipe)
    assert story.files()["notes.txt"] == b"second\n"


def test_a_git_repository_is_fetched_without_running_anything_of_it(story: Builder, tmp_path: Path) -> None:
    work = tmp_path / "origin"
    git = ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "-q", str(work)], check=True)
    (work / "sub").mkdir()
    (work / "sub/NOTES.md").write_text("from git\n")
    (work / ".gitattributes").write_text("* filter=evil\n")
    (work / "link").symlink_to("/etc/passwd")
    subprocess.run([*git, "-C", str(work), "add", "."], check=True)
    subprocess.run([*git, "-C", str(work), "commit", "-qm", "one"], check=True)
    said = subprocess.run(["git", "-C", str(work), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    commit = said.stdout.strip()
    with git_daemon(tmp_path) as url:
        recipe = f"FROM scratch\nCOPY story.gguf /\nADD {url}/origin/.git#main:sub /\n{CMD}"
        first = story(recipe)
        assert story.files()["NOTES.md"] == b"from git\n"
        assert story(recipe).digest == first.digest
        assert story.made == []
        pinned = f"FROM scratch\nCOPY story.gguf /\nADD {url}/origin/.git#{commit} /\n{CMD}"
        story(pinned, formats="modelpack")
        assert story.files()["sub/NOTES.md"] == b"from git\n"
        assert story.files()["link"] == b"/etc/passwd"  # its target's name, for links are files here
        with pytest.raises(NotFoundError, match="no branch or tag `gone`"):
            story(f"FROM scratch\nADD {url}/origin/.git#gone /\n{CMD}")
    assert story(pinned).cached == 2
    with pytest.raises(NetworkError, match="cannot be fetched"):
        story(recipe)


def test_a_name_that_is_no_text_is_refused_where_it_is_taken(story: Builder) -> None:
    odd = os.fsdecode(b"odd\xff.txt")
    (story.context / odd).write_text("x")
    with tarfile.open(story.context / "odd.tar", "w") as archive:
        archive.add(story.context / odd, odd)
    story(f"FROM scratch\nCOPY story.gguf /\n{CMD}")
    for line in ("COPY odd* /odd/", "ADD odd.tar /odd/", "COPY . /"):
        with pytest.raises(FormatError, match=r"the file name `/?odd\\udcff\.txt` is no UTF-8"):
            story(f"FROM scratch\nCOPY story.gguf /\n{line}\n{CMD}")


def test_folders_may_lie_deeper_than_calls(story: Builder) -> None:
    folder = story.context
    for _ in range(sys.getrecursionlimit()):
        folder /= "a"
        folder.mkdir()
    try:
        story(f"FROM scratch\nCOPY story.gguf /\n{CMD}")
    finally:
        subprocess.run(["rm", "-rf", story.context / "a"], check=True)


def test_an_archive_of_the_context_is_unpacked_by_add_and_not_by_copy(story: Builder, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/a.txt").write_text("a")
    packed = story.context / "pack.tar.gz"
    subprocess.run(["tar", "-C", str(tmp_path / "inside"), "-czf", str(packed), "a.txt"], check=True)
    story(f"FROM scratch\nCOPY story.gguf /\nADD pack.tar.gz /un/\nCOPY pack.tar.gz /\n{CMD}", formats="modelpack")
    assert set(story.files()) == {"story.gguf", "un/a.txt", "pack.tar.gz"}


def test_a_big_file_of_the_context_is_hashed_once_and_stays_the_user_s(story: Builder, storyteller: Path) -> None:
    weights = storyteller.read_bytes() + bytes(17 * 1024 * 1024)
    story.write(**{"story.gguf": weights})
    recipe = f"FROM scratch AS q\nCOPY story.gguf /\n{QUANTIZE}\nFROM scratch\nCOPY --from=q q8.gguf /story.gguf\n{CMD}"
    story(recipe)
    assert any(isinstance(event, Started) and event.label == "context" for event in story.heard.events)
    story(recipe)
    assert not [event for event in story.heard.events if isinstance(event, Started)]
    assert (story.context / "story.gguf").read_bytes() == weights


# -- upon what ---------------------------------------------------------------------------------


def test_a_stage_upon_a_stage_has_its_files_and_command(story: Builder) -> None:
    story("FROM scratch AS one\nLABEL a=b\nCOPY story.gguf /\n" + CMD + "FROM one\nCAT hi hello.txt\n")
    assert set(story.files()) == {"story.gguf", "hello.txt"}


def test_a_model_of_a_hub_can_be_the_base(story: Builder, hub: LoopbackHub) -> None:
    hub.add("tales/story", {"story.gguf": (story.context / "story.gguf").read_bytes(), "README.md": b"# Story\n"})
    story.environment["HF_ENDPOINT"] = hub.url
    story(f"FROM hf://tales/story:*.gguf\nCAT hi hello.txt\n{CMD}")
    assert set(story.files()) == {"story.gguf", "hello.txt"}


# -- converting ----------------------------------------------------------------------------------


@pytest.mark.integration
def test_weights_of_a_hub_are_converted_and_quantized_once(
    builder: Builder, storyteller: Path, converter: Converter, hub: LoopbackHub
) -> None:
    assert converter.python.exists()
    names = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer.model")
    hub.add("tales/story", {name: storyteller.with_name(name) for name in (*names, "tokenizer_config.json")})
    builder.environment["HF_ENDPOINT"] = hub.url
    recipe = """
FROM scratch AS f16
ADD hf://tales/story /storyteller/
CONVERT storyteller f16.gguf

FROM scratch
QUANTIZE --from=f16 --type=Q8_0 f16.gguf story.gguf
CAT <<EOF system.txt
You tell stories.
EOF
CMD ["-m", "story.gguf", "--chat-template", "{% for m in messages %}{{ m['content'] }}\\n{% endfor %}"]
"""
    first = builder(recipe)
    assert len(builder.made) == 4
    second = builder(recipe)
    assert (second.digest, builder.made) == (first.digest, [])
    assert builder.files()["story.gguf"].startswith(b"GGUF")


@pytest.mark.integration
def test_a_converter_that_fails_is_told_of_with_its_place(builder: Builder, converter: Converter) -> None:
    assert converter.python.exists()
    builder.write(**{"config.json": '{"architectures": ["NoSuchModel"]}'})
    builder.write(**{"model.safetensors": b"\2\0\0\0\0\0\0\0{}"})
    with pytest.raises(LadingError, match=r"GGUFPackerfile:2:1: error: .*cannot be converted"):
        builder(f"FROM scratch\nCONVERT --from=context . story.gguf\n{CMD}")


# -- what is wrong -------------------------------------------------------------------------------


def test_a_recipe_that_breaks_a_rule_it_wants_kept_is_not_built(story: Builder) -> None:
    with pytest.raises(FormatError, match="breaks rules"):
        story(f"# check=error=true\nFROM scratch\nCOPY story.gguf /\n{CMD}")
    assert story.made == []


def test_an_error_in_a_recipe_is_told_before_anything_is_done(story: Builder) -> None:
    with pytest.raises(RecipeError):
        story("FROM scratch\nCOPY story.gguf /\nQUANTIZE --type=Q5_KM story.gguf q.gguf\n")
    assert story.made == []


def test_a_failure_tells_its_place_and_names_nothing(story: Builder) -> None:
    recipe = (
        "FROM scratch AS a\nCOPY story.gguf /\nQUANTIZE --type=IQ2_XXS story.gguf q.gguf\n"
        "FROM scratch\nCOPY --from=a q.gguf /story.gguf\n" + CMD
    )
    with pytest.raises(UsageError, match=r"GGUFPackerfile:3:1: error: .*importance matrix"):
        story(recipe)
    assert story.session().store.tags() == ()


def test_an_owner_by_name_is_refused(story: Builder) -> None:
    with pytest.raises(UsageError, match=r"GGUFPackerfile:2:1: error: `alice`"):
        story(f"FROM scratch\nCOPY --chown=alice story.gguf /\n{CMD}")


def test_a_file_where_a_folder_is_is_refused(story: Builder) -> None:
    with pytest.raises(FormatError, match="a file and a folder"):
        story(f"FROM scratch\nCOPY story.gguf /a/b\nCAT hi /a/b/c\n{CMD}")


@contextmanager
def git_daemon(folder: Path) -> Iterator[str]:
    """Serve the repositories below a folder over git's own protocol, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["git", "daemon", "--export-all", f"--base-path={folder}", "--listen=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen([*command, "--reuseaddr"], stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
