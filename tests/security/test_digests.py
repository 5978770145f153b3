"""Digests from strangers, in every place where one can stand, never become paths (S01, S02, S03)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from checker import check_store, snapshot
from small_artifact import INDEX, MANIFEST, WEIGHTS, described, manifest

from lading import api
from lading.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CommandLine

    from .conftest import Registry

HEX = "0123456789abcdef" * 4
HOSTILE = {
    "path": "sha256:../../../../../../../../../../../escape/me/please/aaaaaaaaaaaaaaa",
    "absolute path": "sha256:/etc/escape",
    "63 digits": f"sha256:{HEX[:-1]}",
    "65 digits": f"sha256:{HEX}0",
    "upper case": f"sha256:{HEX.upper()}",
    "dash": f"sha256-{HEX}",
    "NUL": f"sha256:{HEX[:-1]}\0",
    "backslash": f"sha256:{HEX[:-3]}\\..",
    "foreign digit": f"sha256:{HEX[:-1]}\u0663",
    "empty": "",
    "10 kB": "sha256:" + "a" * 10_000,
    "md5": f"md5:{HEX[:32]}",
    "sha1": f"sha1:{HEX[:40]}",
    "sha512, short": f"sha512:{HEX}",
    "in base 64": f"sha256+b64:{HEX}",
    "no text": 7,
}
PLACES = ("config", "layer", "subject", "index", "index in an index")


def document(place: str, digest: object) -> dict[str, Any]:
    """Return a document with that digest at that place, and all else as it should be."""
    bad = {**described(WEIGHTS, "application/vnd.docker.ai.gguf.v3"), "digest": digest}
    entry = {**bad, "mediaType": MANIFEST if place == "index" else INDEX}
    if place.startswith("index"):
        return {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    if place == "layer":
        return manifest(layers=[*manifest()["layers"], bad])
    return manifest(**{place: {**manifest()["config"], "digest": digest}})


def surroundings(session: api.Session) -> dict[str, tuple[int, int, str]]:
    """Return all that lies around the store, up to the folder of the whole test."""
    store = session.config.store
    return snapshot(store.parent.parent, without=[store])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_digest_that_is_none_is_refused_wherever_it_stands(
    session: api.Session, registry: Registry, kind: str, place: str
) -> None:
    """S01, S03: nothing that the document names is asked for, and nothing is written around the store."""
    reference = registry.serve(document(place, HOSTILE[kind]))
    before = surroundings(session)
    with pytest.raises(FormatError) as caught:
        api.pull(session, reference)
    assert (caught.value.message + caught.value.hint).isprintable()
    assert len(caught.value.message) < 700
    assert not any("/blobs/" in asked.path for asked in registry.server.asked)
    assert sum("/manifests/" in asked.path for asked in registry.server.asked) == 1
    assert surroundings(session) == before
    assert check_store(session.config.store) == {}


@pytest.mark.parametrize("kind", [kind for kind, digest in HOSTILE.items() if isinstance(digest, str)])
def test_a_digest_in_an_annotation_is_text_and_no_place(session: api.Session, registry: Registry, kind: str) -> None:
    """S01: annotations are kept as they are, and lead nowhere."""
    text = str(HOSTILE[kind])
    keys = ("io.lading.source", "org.opencontainers.image.base.digest", "org.opencontainers.image.ref.name")
    reference = registry.serve(manifest(annotations=dict.fromkeys(keys, text)))
    before = surroundings(session)
    made = api.pull(session, reference)
    assert surroundings(session) == before
    assert check_store(session.config.store) == {reference: str(made.digest)}
    assert not [fault for _digest, _size, fault in api.verify(session) if fault]


@pytest.mark.parametrize("kind", ["path", "absolute path", "63 digits", "upper case", "dash", "md5", "10 kB"])
def test_a_digest_on_the_command_line_is_refused_in_one_message(
    lading: CommandLine, registry: Registry, tmp_path: Path, kind: str
) -> None:
    """S01: what a user pastes is checked as what a server sends."""
    bad = str(HOSTILE[kind])
    registry.serve(manifest())
    before = snapshot(tmp_path)
    place = f"{registry.server.host}/team/small@{bad}"
    missing = 2 if "/" in bad or len(bad) > 255 else 3  # no name at all, or that of nothing
    for words, code in ((("pull", place), 2), (("inspect", place), 2), (("rm", bad), missing), (("tag", bad, "x"), 3)):
        assert lading(*words, code=code).stderr.count("error: ") == 1
    assert registry.server.asked == []
    assert snapshot(tmp_path) == before
