from __future__ import annotations

import pytest

from lading.errors import FormatError
from lading.recipe.ignore import file_names, read_ignore

# Docker's documented rules, one by one: the file, a path, and whether it is left out.
RULES = [
    ("a", "a", True),
    ("a", "a/b", True),
    ("a", "b/a", False),
    ("/a", "a", True),
    ("a/", "a/b", True),
    ("./a", "a", True),
    ("x/../a", "a", True),
    ("*", "a", True),
    ("*", "a/b", True),
    ("*.md", "a.md", True),
    ("*.md", "b/a.md", False),
    ("*/temp*", "a/temporary.txt", True),
    ("*/temp*", "a/b/temporary.txt", False),
    ("*/*/temp*", "a/b/temp", True),
    ("temp?", "tempa", True),
    ("temp?", "temp", False),
    ("a?b", "a/b", False),
    ("**/*.go", "x.go", True),
    ("**/*.go", "a/b/x.go", True),
    ("**", "a/b", True),
    ("a/**", "a/b/c", True),
    ("a/**/c", "a/c", True),
    ("a/**/c", "a/x/y/c", True),
    ("a/**/c", "b/c", False),
    ("*.md\n!README.md", "README.md", False),
    ("*.md\n!README.md", "OTHER.md", True),
    ("!README.md\n*.md", "README.md", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README-a.md", False),
    ("a\n!a/b", "a/b", False),
    ("a\n!a/b", "a/c", True),
    ("[ab].txt", "a.txt", True),
    ("[a-c].txt", "b.txt", True),
    ("[^ab].txt", "a.txt", False),
    ("[^ab].txt", "c.txt", True),
    ("[a-z]b", "a/b", False),
    ("a\\*", "a*", True),
    ("a\\*", "ab", False),
    ("# a\n", "# a", False),
    ("  a  \n", "a", True),
    ("\ufeffa\r\n", "a", True),
    (".", "a", False),
    ("/", "a", False),
    ("", "a", False),
    ("GGUFPackerfile\nignore.txt", "ignore.txt", True),
]


@pytest.mark.parametrize(("text", "path", "ignored"), RULES)
def test_ignore_rules_are_those_of_docker(text: str, path: str, ignored: bool) -> None:  # noqa: FBT001 - a table
    assert read_ignore(text).ignores(path) is ignored


@pytest.mark.parametrize(
    ("text", "said"), [("a\n!\n", "2: error: `!` stands alone"), ("[a", "1: error: `[a`"), ("a\\", "1: error: `a\\`")]
)
def test_a_pattern_that_is_none_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        read_ignore(text, ".dockerignore")
    assert caught.value.message.startswith(f".dockerignore:{said}")


def test_a_folder_is_passed_over_when_nothing_in_it_can_be_kept() -> None:
    assert read_ignore("a").prunes("a")
    assert not read_ignore("a").prunes("b")
    assert not read_ignore("a\n!a/b").prunes("a")


def test_the_file_of_the_recipe_goes_before_that_of_the_context() -> None:
    assert file_names("My.recipe") == (
        "My.recipe.ggufpackerignore",
        "My.recipe.dockerignore",
        ".ggufpackerignore",
        ".dockerignore",
    )
