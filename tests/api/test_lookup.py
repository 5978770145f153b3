from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lading import api
from lading import reference as refs
from lading.api import lookup
from lading.errors import NotFoundError, UsageError
from lading.reference import parse

if TYPE_CHECKING:
    from pathlib import Path


def short_names(session: api.Session, text: str) -> None:
    file = session.config.short_name_files[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"[shortnames]\n{text}\n")


def test_a_local_tag_is_found_by_its_words_and_by_its_reference(session: api.Session, storyteller: Path) -> None:
    api.pack(session, storyteller, "localhost:5000/team/story")
    for words in ("localhost:5000/team/story", "localhost:5000/team/story:latest", "oci://localhost:5000/team/story"):
        found = lookup.local(session, words)
        assert found is not None
        assert found.name == "localhost:5000/team/story:latest"
    assert lookup.local(session, "localhost:5000/team/story:2") is None


def test_a_bare_name_is_a_local_tag_first_then_a_short_name_then_the_default_transport(
    session: api.Session, storyteller: Path
) -> None:
    assert lookup.remote(session, "story:1") == refs.Ollama("story", "1")
    with pytest.raises(NotFoundError, match="no file here"):
        lookup.remote(session, "story.gguf")
    short_names(session, '"story:1" = "registry.example.org/team/story:1"')
    assert lookup.remote(session, "story:1") == refs.Oci("registry.example.org", "team/story", "1")
    api.pack(session, storyteller, "story:1")
    with pytest.raises(NotFoundError, match="packed here"):
        lookup.remote(session, "story:1")


def test_a_pulled_tag_is_asked_for_where_it_came_from(session: api.Session, storyteller: Path, tmp_path: Path) -> None:
    api.pack(session, storyteller, "story:1")
    api.push(session, "story:1", f"oci-layout:{tmp_path}/out:a")
    api.pull(session, f"oci-layout:{tmp_path}/out:a", name="mine")
    assert lookup.remote(session, "mine") == refs.Layout(f"{tmp_path}/out", "a")
    assert api.pull(session, "mine").up_to_date


def test_short_names_may_lead_to_short_names_but_not_in_a_circle(session: api.Session) -> None:
    short_names(session, 'a = "b"\nb = "registry.example.org/x:1"\nround = "about"\nabout = "round"')
    assert str(lookup.remote(session, "a")) == "registry.example.org/x:1"
    with pytest.raises(UsageError, match="circle"):
        lookup.remote(session, "round")


@pytest.mark.parametrize(
    ("words", "tag"),
    [
        ("story:1", "story:1"),
        ("story", "story"),
        ("localhost:5000/team/story", "localhost:5000/team/story:latest"),
        ("registry.example.org/team/story:2", "registry.example.org/team/story:2"),
        ("hf.co/owner/repo:Q4_K_M", "hf:owner/repo:Q4_K_M"),
    ],
)
def test_the_name_given_with_t_is_kept_as_it_is(words: str, tag: str) -> None:
    assert lookup.tag_name(words) == tag
    assert refs.is_tag_name(tag)


@pytest.mark.parametrize(
    "words", ["a b", "./story", "/story", "oci-layout:out", "https://x/y.gguf", "", "-story", "sto\nry"]
)
def test_a_name_that_skopeo_could_not_read_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        lookup.tag_name(words)


@pytest.mark.parametrize(
    "words", ["localhost:5000/team/story:1", "hf://o/r:Q4@main", "ollama://story:1", "oci://a.b/c@sha256:" + "0" * 64]
)
def test_every_reference_has_a_name_in_the_store(words: str) -> None:
    name = lookup.stored_name(parse(words))
    assert name is not None
    assert refs.is_tag_name(name)
