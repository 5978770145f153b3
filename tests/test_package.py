from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_weights import gguf, gguf_shard, safetensors

from lading.artifact import RAW, detect, named
from lading.errors import AccessDeniedError, FormatError, IntegrityError, NotFoundError
from lading.events import Advanced, Event, Finished, Silent, Skipped, Started
from lading.formats import gguf as gguf_reader
from lading.manifest import Manifest
from lading.model import Role
from lading.package import MAX_FILES, Draft, Given, Packed, find_files, open_draft, pack
from lading.store import Store
from lading.store.sweep import prune, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lading.artifact import Format
    from lading.content import RangeReader
    from lading.formats.gguf import GgufHeader

NOBODY = 65_534
LONG_AGO = 1_700_000_000.5
INDEX = "model.safetensors.index.json"


class Log:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def put(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write files, last changed long ago, so that opening them does not wait for the clock."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        os.utime(path, (LONG_AGO, LONG_AGO))
    return folder


def put_one(folder: Path, name: str, data: bytes | str) -> Path:
    return put(folder, {name: data}) / name


@contextmanager
def drafted(source: Path) -> Iterator[Draft]:
    with ExitStack() as stack:
        yield open_draft(source, stack)


def roles(source: Path) -> dict[str, str]:
    with drafted(source) as draft:
        return {name: role.value for role, name, _origin in draft.files}


def packed(source: Path, store: Store, row: Format = RAW[0], log: Log | None = None, **more: Any) -> Packed:
    with drafted(source) as draft, store.lease() as lease:
        done = pack(draft, store, lease, row, log or Silent(), **{"copy": False, **more})
        store.tag("it:1", done.written.manifest)
        return done


@contextmanager
def powerless() -> Iterator[None]:
    """Without root's power to read everything, if this process has it."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def refusal(source: Path) -> FormatError:
    with pytest.raises(FormatError) as caught, drafted(source):
        pass
    assert caught.value.hint
    assert caught.value.message.isprintable()
    return caught.value


FOLDER: dict[str, bytes | str] = {
    "LICENSE": "terms",
    "README.md": "# A model",
    "config.json": '{"model_type":"llama","max_position_embeddings":64}',
    "tokenizer.json": "{}",
    "deep/er/notes.txt": "",
    INDEX: json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ),
    "model-00001-of-00002.safetensors": safetensors({"a": ("BF16", [4], 8)}),
    "model-00002-of-00002.safetensors": safetensors({"b": ("BF16", [4], 8)}),
}


@pytest.fixture
def storyteller(storyteller: Path, tmp_path: Path) -> Path:
    """A copy of the example, so that no link of a test's store reaches into the checkout."""
    return put_one(tmp_path / "example", storyteller.name, storyteller.read_bytes())


class TestFindFiles:
    def test_a_file_is_itself(self, tmp_path: Path) -> None:
        source = put_one(tmp_path, "a.gguf", gguf())
        put(tmp_path, {"b.gguf": gguf()})
        assert find_files(source) == (("a.gguf", source),)

    def test_a_link_to_a_file_goes_by_its_own_name(self, tmp_path: Path) -> None:
        source = tmp_path / "story.gguf"
        source.symlink_to(put_one(tmp_path, "blob", gguf()))
        assert find_files(source) == (("story.gguf", source),)
        assert roles(source) == {"story.gguf": "weights"}

    def test_a_shard_is_its_whole_set_and_no_other(self, tmp_path: Path) -> None:
        names = [f"a+b[1]-{number:05d}-of-00011.gguf" for number in range(1, 12)]
        others = ["a+b[1]-00001-of-00002.gguf", "c-00001-of-00011.gguf", "a.gguf"]
        put(tmp_path, dict.fromkeys([*reversed(names), *others], b""))
        for member in (names[0], names[7]):
            assert find_files(tmp_path / member) == tuple((name, tmp_path / name) for name in names)

    def test_missing_shards_are_named(self, tmp_path: Path) -> None:
        put(tmp_path, {f"a-{number:05d}-of-00005.gguf": b"" for number in (1, 2, 5)})
        with pytest.raises(FormatError, match=r"'a-00003-of-00005\.gguf', 'a-00004-of-00005\.gguf' are missing"):
            find_files(tmp_path / "a-00002-of-00005.gguf")

    def test_a_shard_numbered_out_of_its_set_is_refused(self, tmp_path: Path) -> None:
        put(tmp_path, {f"a-{number:05d}-of-00002.gguf": b"" for number in (1, 2, 3)})
        for number in (1, 3):
            with pytest.raises(FormatError, match=r"'a-00003-of-00002\.gguf' is named as part 3 of 2"):
                find_files(tmp_path / f"a-{number:05d}-of-00002.gguf")

    @pytest.mark.parametrize("name", ["none.gguf", "none-00001-of-00002.gguf", "none/none.gguf", "file/none.gguf"])
    def test_what_is_not_there_is_named(self, tmp_path: Path, name: str) -> None:
        put_one(tmp_path, "file", "")
        with pytest.raises(NotFoundError, match=f"{name} does not exist"):
            find_files(tmp_path / name)

    def test_a_folder_is_all_its_files_by_path(self, tmp_path: Path) -> None:
        put(tmp_path, FOLDER)
        assert [name for name, _path in find_files(tmp_path)] == sorted(FOLDER)
        assert dict(find_files(tmp_path))["deep/er/notes.txt"] == tmp_path / "deep" / "er" / "notes.txt"

    def test_hidden_files_and_links_are_left_out(self, tmp_path: Path) -> None:
        put(tmp_path, {"a.gguf": gguf(), ".hidden": "", ".git/config": "", "deep/.cache/x": "", "deep/b.txt": ""})
        (tmp_path / "link.txt").symlink_to("a.gguf")
        (tmp_path / "loop").symlink_to(".")
        (tmp_path / "nowhere").symlink_to("none")
        assert [name for name, _path in find_files(tmp_path)] == ["a.gguf", "deep/b.txt"]

    def test_a_folder_without_files_is_said_to_be(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        put(tmp_path, {".hidden": ""})
        (tmp_path / "link.gguf").symlink_to(".hidden")
        with pytest.raises(NotFoundError, match="holds no files") as caught:
            find_files(tmp_path)
        assert "links in it are not followed" in caught.value.hint

    @pytest.mark.parametrize("name", [b"caf\xe9.gguf", b"a\nb.gguf", b"a\x1b[2Jb.txt", b"a\\b.txt", b"bad\xff/a.txt"])
    def test_a_name_that_not_every_machine_can_have_is_refused(self, tmp_path: Path, name: bytes) -> None:
        put(tmp_path, {"a.gguf": gguf()})
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert "impossible name" in refusal(tmp_path).message
        if path.parent == tmp_path:
            assert "impossible name" in refusal(path).message

    @pytest.mark.parametrize(
        ("one", "other"),
        [("README.md", "Readme.md"), ("Docs/a.txt", "docs/b.txt"), ("caf\u00e9.txt", "cafe\u0301.txt")],
    )
    def test_names_that_are_one_on_some_disks_are_refused(self, tmp_path: Path, one: str, other: str) -> None:
        put(tmp_path, {"a.gguf": gguf(), one: "1", other: "2"})
        message = refusal(tmp_path).message
        assert one.partition("/")[0] in message
        assert other.partition("/")[0] in message
        assert "differ by case or accents only" in message

    def test_more_files_than_a_model_has_are_refused(self, tmp_path: Path) -> None:
        for number in range(MAX_FILES):
            (tmp_path / str(number)).touch()
        assert len(find_files(tmp_path)) == MAX_FILES
        (tmp_path / "one more").touch()
        with pytest.raises(FormatError, match=f"holds {MAX_FILES + 1} files"):
            find_files(tmp_path)

    def test_what_may_not_be_read_is_never_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(tmp_path, {"a.gguf": gguf(), "closed/b.gguf": gguf(), "secret.gguf": gguf()})
        tmp_path.chmod(0o755)
        # Relative paths, because the folders above belong to root where root runs this.
        monkeypatch.chdir(tmp_path)
        Path("closed").chmod(0)
        Path("secret.gguf").chmod(0)
        try:
            with powerless():
                for source, thing in ((".", r"\./closed"), ("closed", "closed"), ("closed/b.gguf", "closed/b.gguf")):
                    with pytest.raises(AccessDeniedError, match=f"cannot use {thing}: permission denied"):
                        find_files(Path(source))
                with pytest.raises(AccessDeniedError, match=r"cannot use secret\.gguf"), drafted(Path("secret.gguf")):
                    pass
        finally:
            Path("closed").chmod(0o700)


class TestOpenDraft:
    def test_the_storyteller(self, storyteller: Path) -> None:
        with drafted(storyteller) as draft:
            assert [(role, name) for role, name, _origin in draft.files] == [(Role.WEIGHTS, "storyteller-f16.gguf")]
            assert (draft.facts.name, draft.facts.parameters) == ("Storyteller", 1_443_584)
            assert draft.size == storyteller.stat().st_size

    def test_a_safetensors_folder(self, tmp_path: Path) -> None:
        put(tmp_path, FOLDER)
        with drafted(tmp_path) as draft:
            assert {name: role.value for role, name, _origin in draft.files} == {
                "LICENSE": "licence",
                "README.md": "doc",
                "config.json": "config",
                "deep/er/notes.txt": "doc",
                "model-00001-of-00002.safetensors": "weights",
                "model-00002-of-00002.safetensors": "weights",
                INDEX: "config",
                "tokenizer.json": "tokenizer",
            }
            facts = draft.facts
            assert (facts.architecture, facts.parameters, facts.file_type, facts.context_length) == (
                "llama",
                8,
                "BF16",
                64,
            )
            # Nothing said it, so it has no name: a folder's own would make other bytes in another folder.
            assert facts.name is None

    def test_headers_tell_roles_that_names_hide(self, tmp_path: Path) -> None:
        arch = {"general.architecture": "llama"}
        put(
            tmp_path,
            {
                "style-lora-merged.gguf": gguf({**arch, "general.type": "model"}),
                "eyes.gguf": gguf({"general.architecture": "clip"}),
                "bible.gguf": gguf({**arch, "general.type": "adapter"}),
                "imatrix.gguf": gguf({"general.type": "imatrix"}),
            },
        )
        assert roles(tmp_path) == {
            "bible.gguf": "adapter",
            "eyes.gguf": "projector",
            "imatrix.gguf": "other",
            "style-lora-merged.gguf": "weights",
        }

    def test_shards_have_the_role_of_the_first(self, tmp_path: Path) -> None:
        names = [f"x-lora-merged-{number:05d}-of-00002.gguf" for number in (1, 2)]
        put(tmp_path, {name: gguf_shard(index, 2, {"general.type": "model"}) for index, name in enumerate(names, 1)})
        assert roles(tmp_path / names[1]) == dict.fromkeys(names, "weights")

    def test_each_gguf_header_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(tmp_path, {f"m-{number:05d}-of-00003.gguf": gguf_shard(number, 3) for number in (1, 2, 3)})
        put(tmp_path, {"mmproj.gguf": gguf({"general.architecture": "clip"})})
        seen: list[str] = []
        original = gguf_reader.read_header

        def spied(reader: RangeReader) -> GgufHeader:
            seen.append(reader.name)
            return original(reader)

        monkeypatch.setattr(gguf_reader, "read_header", spied)
        assert set(roles(tmp_path).values()) == {"weights", "projector"}
        assert sorted(seen) == sorted(str(path) for path in tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["blob", "sha256-0123", "model.bin", "notes.txt"])
    def test_a_single_file_is_known_by_its_header(self, tmp_path: Path, name: str) -> None:
        assert roles(put_one(tmp_path / "gguf", name, gguf())) == {name: "weights"}
        assert roles(put_one(tmp_path / "safetensors", name, safetensors())) == {name: "weights"}

    def test_a_bin_in_a_folder_is_kept_and_not_opened(self, tmp_path: Path) -> None:
        put(tmp_path, {"config.json": '{"model_type":"bert"}', "pytorch_model.bin": b"cos\nsystem\n(S'true'\ntR."})
        assert roles(tmp_path) == {"config.json": "config", "pytorch_model.bin": "bin"}
        with drafted(tmp_path) as draft:
            assert (draft.facts.format, draft.facts.architecture, draft.facts.parameters) == ("bin", "bert", None)
        put(tmp_path, {"model.safetensors": safetensors()})
        assert roles(tmp_path)["pytorch_model.bin"] == "bin"
        with drafted(tmp_path) as draft:
            assert draft.facts.format == "safetensors"

    def test_templates_for_other_uses_stand_beside_the_one_for_chats(self, tmp_path: Path) -> None:
        further = "additional_chat_templates/rag.jinja"
        put(tmp_path, {"a.gguf": gguf(), "chat_template.jinja": "1", "chat_template.json": "{}", further: "2"})
        assert roles(tmp_path) == {
            "a.gguf": "weights",
            "chat_template.jinja": "template",
            "chat_template.json": "config",
            further: "config",
        }

    def test_a_big_endian_gguf_may_be_packed(self, tmp_path: Path) -> None:
        assert roles(put_one(tmp_path, "a.gguf", gguf(order=">"))) == {"a.gguf": "weights"}

    def test_descriptors_are_closed_even_after_a_refusal(self, tmp_path: Path) -> None:
        put(tmp_path, {**FOLDER, "z.gguf": "no gguf"})
        descriptors = Path("/dev/fd")
        before = len(list(descriptors.iterdir()))
        refusal(tmp_path)
        assert len(list(descriptors.iterdir())) == before


class TestGiven:
    """What the user says goes before what names and headers say."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        eyes = gguf({"general.type": "mmproj"})
        files: dict[str, bytes | str] = {"a.gguf": gguf(), "chat_template.jinja": "old", "mmproj.gguf": eyes}
        return put(tmp_path / "model", files)

    def draft(self, source: Path, given: Given) -> tuple[dict[str, str], tuple[str, ...]]:
        with ExitStack() as stack:
            draft = open_draft(source, stack, given)
            return {name: role.value for role, name, _origin in draft.files}, draft.replaced

    def test_files_from_elsewhere_join_the_model(self, tmp_path: Path) -> None:
        source = put_one(tmp_path / "model", "a.gguf", gguf())
        beside = put(tmp_path, {"t.txt": "{{ x }}", "eyes": gguf({"general.architecture": "clip"}), "terms": "MIT"})
        lora = put_one(tmp_path, "style.safetensors", safetensors())
        given = Given(
            (
                (Role.TEMPLATE, beside / "t.txt"),
                (Role.PROJECTOR, beside / "eyes"),
                (Role.LICENCE, beside / "terms"),
                (Role.ADAPTER, lora),
            )
        )
        found, replaced = self.draft(source, given)
        assert found == {
            "a.gguf": "weights",
            "eyes": "projector",
            "style.safetensors": "adapter",
            "t.txt": "template",
            "terms": "licence",
        }
        assert replaced == ()

    def test_a_template_and_a_projector_replace_those_that_were_found(self, tmp_path: Path, folder: Path) -> None:
        new = put(tmp_path / "new", {"t.jinja": "new", "mmproj.gguf": gguf({"general.type": "mmproj"})})
        given = Given(((Role.TEMPLATE, new / "t.jinja"), (Role.PROJECTOR, new / "mmproj.gguf")))
        found, replaced = self.draft(folder, given)
        assert found == {"a.gguf": "weights", "mmproj.gguf": "projector", "t.jinja": "template"}
        assert replaced == ("chat_template.jinja", "mmproj.gguf")

    def test_one_of_the_models_own_files_is_chosen(self, folder: Path) -> None:
        put(folder, {"tool.jinja": "tool", "draft.gguf": gguf()})
        given = Given(((Role.TEMPLATE, folder / "tool.jinja"), (Role.ADAPTER, folder / "draft.gguf")))
        found, replaced = self.draft(folder, given)
        assert found["tool.jinja"] == "template"
        assert found["draft.gguf"] == "adapter"
        assert replaced == ("chat_template.jinja",)

    def test_words_and_settings_are_facts(self, folder: Path) -> None:
        given = Given(name="Tales", licence="MIT", settings={"ctx_size": 256}, annotations={"org.example": "x"})
        with ExitStack() as stack:
            facts = open_draft(folder, stack, given).facts
        assert (facts.name, facts.licence, facts.settings) == ("Tales", "MIT", {"ctx_size": 256})
        assert facts.annotations == {"org.example": "x"}

    @pytest.mark.parametrize(
        ("role", "data", "words"),
        [
            (Role.TEMPLATE, b"\xff\xfe", "is no chat template"),
            (Role.TEMPLATE, b"a\0b", "is no chat template"),
            (Role.TEMPLATE, b"x" * (1024 * 1024 + 1), "is no chat template"),
            (Role.PROJECTOR, b"{{ x }}", "is not a GGUF file"),
            (Role.PROJECTOR, gguf({"general.type": "model"}), "is no projector: its header says that it is weights"),
            (Role.ADAPTER, gguf({"general.type": "mmproj"}), "is no adapter: its header says that it is projector"),
            (Role.ADAPTER, b"<html>please log in</html>", "is not a safetensors file"),
        ],
    )
    def test_a_file_that_cannot_be_what_it_is_said_to_be_is_named(
        self, tmp_path: Path, folder: Path, role: Role, data: bytes, words: str
    ) -> None:
        path = put_one(tmp_path, "thing", data)
        with pytest.raises(FormatError, match=words) as caught, ExitStack() as stack:
            open_draft(folder, stack, Given(((role, path),)))
        assert str(path) in caught.value.message

    def test_a_file_that_is_not_there_is_named(self, folder: Path) -> None:
        with pytest.raises(NotFoundError, match="nosuch"), ExitStack() as stack:
            open_draft(folder, stack, Given(((Role.TEMPLATE, folder / "nosuch"),)))

    def test_two_given_files_of_one_name_are_refused(self, tmp_path: Path, folder: Path) -> None:
        files = [put_one(tmp_path / place, "lora.gguf", gguf({"general.type": "adapter"})) for place in ("x", "y")]
        with pytest.raises(FormatError, match=r"has lora\.gguf twice"), ExitStack() as stack:
            open_draft(folder, stack, Given(tuple((Role.ADAPTER, path) for path in files)))


class TestRefusals:
    def test_a_device(self) -> None:
        assert refusal(Path("/dev/zero")).message == "/dev/zero is not a regular file"

    def test_a_pipe_and_a_socket_alone_or_in_a_folder(self, tmp_path: Path) -> None:
        put(tmp_path, {"a.gguf": gguf()})
        pipe = tmp_path / "pipe.gguf"
        os.mkfifo(pipe)
        for source in (pipe, tmp_path):
            assert refusal(source).message == f"{pipe} is not a regular file"
        pipe.unlink()
        with socket.socket(socket.AF_UNIX) as bound:
            previous = Path.cwd()
            os.chdir(tmp_path)  # the address of a socket is short
            try:
                bound.bind("socket")
            finally:
                os.chdir(previous)
            for source in (tmp_path / "socket", tmp_path):
                assert refusal(source).message == f"{tmp_path / 'socket'} is not a regular file"

    @pytest.mark.parametrize(
        ("name", "data", "words"),
        [
            ("a.gguf", "hello, world", "is not a GGUF file"),
            ("a.gguf", "", "is empty"),
            ("a.gguf", gguf()[:60], "a.gguf"),
            ("a.safetensors", "<html>please log in</html>", "is not a safetensors file"),
            ("notes.txt", "hello, world", "is neither GGUF nor safetensors"),
            ("pytorch_model.bin", b"PK\x03\x04" + bytes(200), "is neither GGUF nor safetensors"),
            ("config.json", "{}", "holds no model weights"),
            ("mmproj.gguf", gguf({"general.architecture": "clip"}), "holds no model weights"),
        ],
    )
    def test_a_file_that_is_no_model(self, tmp_path: Path, name: str, data: bytes | str, words: str) -> None:
        source = put_one(tmp_path, name, data)
        error = refusal(source)
        assert words in error.message
        assert str(source) in error.message

    def test_a_folder_with_checkpoints_only(self, tmp_path: Path) -> None:
        put(tmp_path, {"pytorch_model.pt": b"PK\x03\x04", "config.json": "{}"})
        error = refusal(tmp_path)
        assert error.message == f"{tmp_path} holds no model weights"
        assert error.hint.startswith("pytorch_model.pt is in a format that is not read")

    def test_two_templates_are_named(self, tmp_path: Path) -> None:
        put(tmp_path, {"a.gguf": gguf(), "chat_template.jinja": "1", "tool.jinja": "2"})
        error = refusal(tmp_path)
        assert error.message == f"{tmp_path} has 2 chat templates: chat_template.jinja, tool.jinja"
        assert "--template" in error.hint

    def test_two_quantizations_in_a_folder(self, tmp_path: Path) -> None:
        put(tmp_path, {"a-Q4_K_M.gguf": gguf(), "a-Q8_0.gguf": gguf()})
        assert "2 models side by side: a-Q4_K_M.gguf, a-Q8_0.gguf" in refusal(tmp_path).message

    def test_two_formats_in_a_folder(self, tmp_path: Path) -> None:
        put(tmp_path, {"a.gguf": gguf(), "a.safetensors": safetensors()})
        assert "weights of two formats: a.gguf, a.safetensors" in refusal(tmp_path).message

    def test_a_shard_missing_in_a_folder(self, tmp_path: Path) -> None:
        put(tmp_path, {"a-00001-of-00002.gguf": gguf_shard(1, 2)})
        assert "'a-00002-of-00002.gguf' is missing" in refusal(tmp_path).message

    @pytest.mark.parametrize("folder", ["", "text_encoder/"])
    def test_an_index_that_names_a_missing_file(self, tmp_path: Path, folder: str) -> None:
        part = "model-00001-of-00002.safetensors"
        put(tmp_path, {folder + INDEX: FOLDER[INDEX], folder + part: FOLDER[part]})
        message = refusal(tmp_path).message
        assert "'model-00002-of-00002.safetensors' is missing" in message
        assert message.startswith(str(tmp_path / folder / INDEX))

    def test_an_index_that_is_none(self, tmp_path: Path) -> None:
        put(tmp_path, {**FOLDER, INDEX: "{"})
        assert INDEX in refusal(tmp_path).message

    def test_an_index_left_behind_beside_a_gguf_is_only_a_file(self, tmp_path: Path) -> None:
        put(tmp_path, {"a.gguf": gguf(), INDEX: FOLDER[INDEX]})
        assert roles(tmp_path) == {"a.gguf": "weights", INDEX: "config"}

    def test_a_part_of_a_safetensors_model(self, tmp_path: Path) -> None:
        part = "model-00002-of-00002.safetensors"
        source = put_one(tmp_path, part, FOLDER[part])
        for place in (source, tmp_path):
            assert "has 2 files, of which 'model-00001-of-00002.safetensors' is missing" in refusal(place).message


class TestPack:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(tmp_path / "store")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return put(tmp_path / "model", FOLDER)

    @pytest.mark.parametrize("row", RAW, ids=lambda row: row.name)
    @pytest.mark.parametrize("kind", ["storyteller", "shards", "folder"])
    def test_what_was_packed_is_read_from_the_store_whole(
        self, tmp_path: Path, storyteller: Path, folder: Path, store: Store, row: Format, kind: str
    ) -> None:
        shards = {f"m-{number:05d}-of-00002.gguf": gguf_shard(number, 2) for number in (1, 2)}
        put(tmp_path / "shards", shards)
        sources = {
            "storyteller": storyteller,
            "shards": tmp_path / "shards" / "m-00001-of-00002.gguf",
            "folder": folder,
        }
        done = packed(sources[kind], store, row)
        manifest = store.document("it:1")
        assert isinstance(manifest, Manifest)
        assert manifest.digest == done.written.manifest.digest
        assert detect(manifest, "it:1") is row
        model = row.read(manifest, store.read(manifest.config))
        assert {part.name: part.blob.digest for part in model.parts} == {
            part.name: part.blob.digest for part in done.model.parts
        }
        for part in model.parts:
            path = dict(find_files(sources[kind]))[part.name]
            assert store.read(part.blob, limit=1 << 30) == path.read_bytes()
        assert [fault for _digest, _size, fault in verify(store) if fault] == []

    def test_how_each_file_came_is_told(self, folder: Path, store: Store, tmp_path: Path) -> None:
        first = packed(folder, store)
        # A copy-on-write twin where the file system can, a hard link elsewhere.
        assert set(first.how) == set(FOLDER)
        assert set(first.how.values()) <= {"cloned", "linked"}
        assert set(packed(folder, store).how.values()) == {"present"}
        other = Store(tmp_path / "other")
        assert set(packed(folder, other, copy=True).how.values()) == {"copied"}
        inodes = {path.stat().st_ino for path in other.root.rglob("blobs/*/*")}
        assert inodes.isdisjoint(path.stat().st_ino for path in folder.rglob("*"))

    def test_the_same_bytes_twice_are_one_blob_and_two_files(self, tmp_path: Path, store: Store) -> None:
        put(tmp_path / "model", {"a.gguf": gguf(), "LICENSE": "terms", "NOTICE": "terms"})
        done = packed(tmp_path / "model", store)
        assert done.how["NOTICE"] == "present"
        licences = [part.blob.digest for part in done.model.of(Role.LICENCE)]
        assert len(licences) == 2
        assert len(set(licences)) == 1
        assert [fault for _digest, _size, fault in verify(store) if fault] == []

    def test_progress_is_told_for_each_file(self, storyteller: Path, store: Store) -> None:
        log = Log()
        packed(storyteller, store, log=log)
        size, name = storyteller.stat().st_size, storyteller.name
        assert log.events[0] == Started(name, "weights", name, size)
        assert log.events[-1] == Finished(name)
        counts = [event.done for event in log.events if isinstance(event, Advanced)]
        assert counts == sorted(counts)
        assert counts[-1] == size
        again = Log()
        packed(storyteller, store, log=again)
        assert again.events[-1] == Skipped(name, "weights", name, size, "present")

    def test_a_lease_keeps_everything_until_it_has_a_name(self, folder: Path, store: Store) -> None:
        with drafted(folder) as draft, store.lease() as lease:
            done = pack(draft, store, lease, RAW[0], Silent(), copy=False)
            assert prune(store).blobs == 0
            assert all(store.has(blob) for blob in done.written.manifest.blobs)
            assert store.has(done.written.manifest.descriptor)
        # Nobody named it, and the lease has gone.
        assert prune(store).blobs == len({blob.digest for blob in done.written.manifest.blobs}) + 1

    def test_a_time_is_recorded_when_it_is_given(self, storyteller: Path, store: Store) -> None:
        for row in RAW:
            done = packed(storyteller, store, row, created="2026-01-02T03:04:05Z")
            assert b'"2026-01-02T03:04:05Z"' in done.written.config
            assert done.written.manifest.digest != packed(storyteller, store, row).written.manifest.digest

    @pytest.mark.parametrize("row", RAW, ids=lambda row: row.name)
    def test_the_same_files_give_the_same_digest_anywhere(self, tmp_path: Path, row: Format, folder: Path) -> None:
        expected = packed(folder, Store(tmp_path / "one"), row).written.manifest.digest
        # Another place, other times, modes, order of making, clock zone, language, hash seed and way into the store.
        elsewhere = tmp_path / "else where"
        for name in sorted(FOLDER, reverse=True):
            put(elsewhere, {name: FOLDER[name]})
            (elsewhere / name).chmod(0o600)
            os.utime(elsewhere / name, (LONG_AGO - 5000, LONG_AGO - 9000))
        program = (
            "import os, sys; os.umask(0o077)\n"
            "from contextlib import ExitStack; from pathlib import Path\n"
            "from lading.artifact import named; from lading.events import Silent\n"
            "from lading.package import open_draft, pack; from lading.store import Store\n"
            "with ExitStack() as stack:\n"
            "    store = Store(Path(sys.argv[2])); lease = stack.enter_context(store.lease())\n"
            "    draft = open_draft(Path(sys.argv[1]), stack)\n"
            "    done = pack(draft, store, lease, named(sys.argv[3]), Silent(), copy=True)\n"
            "    print(done.written.manifest.digest)\n"
        )
        environment = {"LC_ALL": "C", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
        run = subprocess.run(
            [sys.executable, "-c", program, ".", str(tmp_path / "two"), row.name],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert run.stdout.strip() == expected

    def test_the_digests_of_the_example_stay(self, storyteller: Path, store: Store) -> None:
        # What people have pushed must not change with a release of ours; a new digest here is a change to announce.
        digests = {row.name: str(packed(storyteller, store, row).written.manifest.digest) for row in RAW}
        assert digests == {
            "docker": "sha256:d917ec4c26501ac11b100a2f7e1bdb5ef9c690d946da4bfdd1a21a81f7afdac2",
            "modelpack": "sha256:27cf0609b624bdc034c8228fc5218d0c2918fdc4e9360cab603fd419ba1bcf46",
        }

    def test_a_file_that_changes_while_it_is_packed_is_refused(self, tmp_path: Path, store: Store) -> None:
        source = put_one(tmp_path, "a.gguf", gguf())
        with drafted(source) as draft, store.lease() as lease:
            replacement = put_one(tmp_path, "b.gguf", gguf({"general.name": "another"}))
            shutil.copyfile(replacement, source)
            with pytest.raises(IntegrityError, match=r"a\.gguf was changed while it was packed"):
                pack(draft, store, lease, named("docker"), Silent(), copy=False)
        assert [fault for _digest, _size, fault in verify(store) if fault] == []


ELSEWHERE = """
import os, sys, time
folder, store, form, order, user = sys.argv[1:]
os.umask(0o077)
scandir = os.scandir
class Listed:
    "A folder as another file system might list it."
    def __init__(self, path="."):
        with scandir(path) as found:
            self.left = iter(sorted(found, key=lambda entry: entry.name, reverse=order == "backwards"))
    def __iter__(self): return self
    def __next__(self): return next(self.left)
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def close(self): pass
os.scandir = Listed
real = time.time
time.time = lambda: real() + 86_400 * 3650
from pathlib import Path
from lading import api
given = api.given(name="Tales", licences=["MIT"], params=[("temp", "0.5"), ("ctx-size", "512")],
                  annotations=[("b", "2"), ("a", "1")], template=Path("t.jinja"))
def packed(place):
    own = Path(place)
    session = api.Session(api.Config(store=own, home=own, folder=own, state=own))
    return api.pack(session, Path(folder), "it:1", format_name=form, given=given, copy=True).digest
packed(store + "-first")  # Python's own folders may be closed to others: all modules are loaded before.
if user != "0":
    os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
print(packed(store))
"""


@pytest.mark.parametrize("form", ["docker", "modelpack", "image", "image,docker,modelpack"])
def test_clock_umask_locale_order_and_user_leave_no_trace_in_a_digest(tmp_path: Path, form: str) -> None:
    """The same files and words give the same artifact wherever, whenever and by whomever they are packed."""
    put(tmp_path / "model", FOLDER)
    put(tmp_path, {"t.jinja": "{{ x }}"})
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    other = NOBODY if os.geteuid() == 0 else os.geteuid()

    def packed_by(order: str, user: int, **environment: str) -> str:
        place = tmp_path / f"store-{order}"
        place.mkdir()
        if os.geteuid() == 0:
            os.chown(place, user, user)
        run = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, "model", place.name, form, order, str(user)],
            # Names below a folder that only its owner may enter are reached from within.
            cwd=tmp_path,
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    here = packed_by("forwards", os.geteuid(), LC_ALL="C.UTF-8", TZ="UTC", PYTHONHASHSEED="1")
    there = packed_by("backwards", other, LC_ALL="POSIX", TZ="Pacific/Kiritimati", PYTHONHASHSEED="2")
    assert here == there
    assert here.startswith("sha256:")
