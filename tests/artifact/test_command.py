"""A command's files: which they are, and other names for them."""

from __future__ import annotations

from lading.artifact.command import FILE_FLAGS, files_of, in_root, renamed
from lading.model import Role
from lading.recipe.command import read_command
from lading.recipe.llama_arguments import ARGUMENTS

NAMES = {"a.gguf": "/models/a.gguf", "b:c.gguf": "/models/b:c.gguf", "l.gguf": "/models/l.gguf"}


def moved(*words: str) -> tuple[str, ...]:
    return renamed(words, lambda path: NAMES.get(path, path))


def test_the_flags_are_those_that_a_recipe_knows_as_naming_files() -> None:
    def is_file(word: str) -> bool:
        _kept, command = read_command(("-m", "y", word, "x"), lambda _index, reason, _note: ValueError(reason))
        return any(file.path == "x" for file in command.files)

    assert {word for word in ARGUMENTS if is_file(word)} == set(FILE_FLAGS)


def test_only_what_stands_behind_a_flag_for_files_is_renamed() -> None:
    words = ("--alias", "a.gguf", "-m", "a.gguf", "--temp", "0.5", "-md", "unknown.gguf", "--mmproj")
    assert moved(*words) == ("--alias", "a.gguf", "-m", "/models/a.gguf", *words[4:])


def test_adapters_keep_their_scales_and_commas() -> None:
    assert moved("--lora", "a.gguf,l.gguf") == ("--lora", "/models/a.gguf,/models/l.gguf")
    assert moved("--lora-scaled", "l.gguf:0.5,b:c.gguf:1") == (
        "--lora-scaled",
        "/models/l.gguf:0.5,/models/b:c.gguf:1",
    )
    assert moved("--lora-scaled", "l.gguf", "0.5") == ("--lora-scaled", "/models/l.gguf", "0.5")
    assert moved("-m", "b:c.gguf") == ("-m", "/models/b:c.gguf")


def test_files_have_roles_and_lie_below_the_root() -> None:
    assert files_of(("-m", "./w//a.gguf", "--chat-template-file", "/t.jinja", "--mmproj", "")) == {
        "w/a.gguf": Role.WEIGHTS,
        "t.jinja": Role.TEMPLATE,
    }
    assert in_root("../../etc/passwd") == "../../etc/passwd", "which is no file's name"
