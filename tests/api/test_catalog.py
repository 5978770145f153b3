from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from lading import api
from lading.errors import NotFoundError

if TYPE_CHECKING:
    from pathlib import Path


def test_own_bytes_are_what_removing_the_name_would_free(session: api.Session, storyteller: Path) -> None:
    api.pack(session, storyteller, "story:1")
    (alone,) = api.list_models(session)
    assert alone.own_size is not None
    assert alone.own_size > alone.size
    api.pack(session, storyteller, "story:2", format_name="modelpack")
    shared = api.list_models(session)
    assert [model.format for model in shared] == ["docker", "modelpack"]
    assert all(model.own_size is not None and 0 < model.own_size < 10_000 for model in shared)
    api.tag(session, "story:2", "story:3")
    assert [model.own_size for model in api.list_models(session)][1:] == [0, 0]


def test_the_list_is_the_same_from_the_cache_and_without_it(session: api.Session, storyteller: Path) -> None:
    api.pack(session, storyteller, "story:1")
    first = api.list_models(session)
    cache = session.store.root / "cache/summaries.json"
    assert cache.exists()
    assert api.list_models(session) == first
    for damage in (b"", b"{", b'{"version":99,"summaries":{}}', b'{"version":1,"summaries":{"x":1}}'):
        cache.write_bytes(damage)
        assert api.list_models(session) == first


def test_a_model_that_cannot_be_read_is_listed_as_broken(session: api.Session, storyteller: Path) -> None:
    api.pack(session, storyteller, "story:1")
    found = session.store.find("story:1")
    assert found is not None
    session.store.blobs.path(found.descriptor.digest).unlink()
    (listed,) = api.list_models(session)
    assert listed.broken is not None
    assert listed.digest == found.descriptor.digest


def test_removing_several_names_removes_none_when_one_is_missing(session: api.Session, storyteller: Path) -> None:
    api.pack(session, storyteller, "story:1")
    with pytest.raises(NotFoundError, match="nosuch"):
        api.remove(session, ["story:1", "nosuch"])
    assert [model.reference for model in api.list_models(session)] == ["story:1"]
    assert api.remove(session, ["story:1"]) == ("story:1",)
    assert api.list_models(session) == ()


def test_tagging_keeps_where_the_model_came_from(session: api.Session, storyteller: Path) -> None:
    api.pack(session, storyteller, "story:1")
    api.tag(session, "story:1", "story:2")
    first, second = api.list_models(session)
    assert first.source == second.source == storyteller.as_uri()
    with pytest.raises(NotFoundError, match="nosuch"):
        api.tag(session, "nosuch", "story:3")


def test_a_linked_model_that_is_known_to_be_changed_is_listed_as_broken(
    session: api.Session, storyteller: Path, tmp_path: Path
) -> None:
    story = tmp_path / "story.gguf"
    story.write_bytes(storyteller.read_bytes())
    packed = api.pack(session, story, "story:1")
    if packed.files[0].how != "linked":
        pytest.skip("this file system clones: nothing is linked")

    def broken() -> str | None:
        (model,) = api.list_models(session)
        return model.broken

    assert broken() is None
    os.utime(story)
    assert broken() is None, "another time alone proves nothing"
    with story.open("ab") as file:
        file.write(b"more")
    assert f"{story} was changed after it was packed" in str(broken())
    os.truncate(story, storyteller.stat().st_size)
    assert broken() is None
    data = bytearray(storyteller.read_bytes())
    data[-1] ^= 1
    story.write_bytes(data)
    time.sleep(0.1)
    assert [fault for _digest, _size, fault in api.verify(session) if fault]
    assert f"{story} was changed after it was packed" in str(broken())
    story.write_bytes(storyteller.read_bytes())
    time.sleep(0.1)
    assert [fault for _digest, _size, fault in api.verify(session) if fault] == []
    assert broken() is None
