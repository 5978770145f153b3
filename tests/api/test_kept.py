"""What the store holds is used offline, and what is damaged in it goes nowhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from real_registry import start_registry

from lading import api
from lading.errors import IntegrityError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from real_registry import RegistryProcess

    from lading.store import Tag


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    registry = start_registry(tmp_path / "registry")
    yield registry
    registry.stop()


def pushed(session: api.Session, story: Path, registry: RegistryProcess) -> Tag:
    """A model of the store that its registry has too."""
    name = f"{registry.host}/team/story:1"
    api.pack(session, story, name, copy=True)
    api.push(session, name)
    tag = session.store.find(name)
    assert tag
    return tag


def break_weights(session: api.Session, tag: Tag) -> None:
    """Change a byte of the largest blob, and have `verify` find it."""
    largest = max(session.store.reach(session.store.document(tag.name)), key=lambda blob: blob.size)
    path = session.store.blobs.path(largest.digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()
    path.write_bytes(data)
    assert [fault.digest for _digest, _size, fault in api.verify(session) if fault] == [largest.digest]


def test_offline_a_model_that_is_whole_in_the_store_is_up_to_date(
    session: api.Session, storyteller: Path, registry: RegistryProcess
) -> None:
    tag = pushed(session, storyteller, registry)
    api.pull(session, f"oci://{tag.name}", name="mine")
    api.pull(session, tag.name)
    registry.stop()
    offline = replace(session, offline=True)
    for words in (tag.name, f"oci://{tag.name}", "mine"):
        done = api.pull(offline, words)
        assert (done.up_to_date, done.new_bytes, done.digest) == (True, 0, tag.descriptor.digest)
    assert api.pull(offline, tag.name, name="mine").name == "mine"
    for words, name in ((f"{registry.host}/team/story:2", None), (tag.name, "other")):
        with pytest.raises(NetworkError, match="offline"):
            api.pull(offline, words, name=name)
    with pytest.raises(NetworkError, match="offline"):
        api.pull(offline, tag.name, selection=api.Selection(platform="linux/arm64"))
    break_weights(session, tag)
    with pytest.raises(NetworkError, match="offline"):
        api.pull(offline, tag.name)


def test_a_damaged_model_is_not_pushed_even_where_the_registry_has_its_blobs(
    session: api.Session, storyteller: Path, registry: RegistryProcess
) -> None:
    tag = pushed(session, storyteller, registry)
    break_weights(session, tag)
    for destination in (None, f"{registry.host}/team/story:2", f"{registry.host}/other/story:1"):
        with pytest.raises(IntegrityError):
            api.push(session, tag.name, destination)
