from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import descriptor, manifest

from lading import media
from lading.digest import Digest
from lading.errors import FormatError, NotFoundError
from lading.manifest import Descriptor, Document, Manifest, parse_document
from lading.plan import MAX_DEPTH, make_plan, single_manifest


def entry(document: Document, **more: Any) -> dict[str, Any]:
    return {"mediaType": document.media_type, "digest": str(document.digest), "size": len(document.raw), **more}


def index(*entries: dict[str, Any], note: str = "") -> Document:
    tree = {
        "schemaVersion": 2,
        "mediaType": media.OCI_INDEX,
        "manifests": list(entries),
        "annotations": {"note": note},
    }
    return parse_document(json.dumps(tree).encode(), name="index")


class Shelf:
    """Documents by digest, and a count of how many were asked for."""

    def __init__(self, *documents: Document) -> None:
        self._documents = {str(one.digest): one for one in documents}
        self.asked = 0

    def __call__(self, digest: str) -> Document:
        self.asked += 1
        if digest not in self._documents:
            raise NotFoundError(digest)
        return self._documents[digest]


def nested(levels: int) -> tuple[Document, Shelf]:
    """Return a manifest under that many levels of index, each with a single entry."""
    documents: list[Document] = [manifest(b"1")]
    for level in range(levels):
        documents.append(index(entry(documents[-1]), note=str(level)))
    return documents[-1], Shelf(*documents)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=3), max_size=6), st.sets(st.binary(max_size=3)))
def test_every_blob_is_asked_for_once_and_counted_once(layers: list[bytes], there: set[bytes]) -> None:
    made = manifest(*layers)
    held = {Digest.of(data) for data in there}
    asked: list[Digest] = []

    def has(blob: Descriptor) -> bool:
        asked.append(blob.digest)
        return blob.digest in held

    plan = make_plan(made, has)
    assert len(asked) == len(set(asked)) == len(plan.missing) + len(plan.present)
    assert plan.total_bytes == sum(map(len, {b"{}", *layers}))
    assert plan.missing_bytes == sum(map(len, {b"{}", *layers} - there))
    assert {blob.digest for blob in plan.present} == held & set(asked)
    assert [blob.digest for blob in (*made.blobs,) if blob in plan.missing] == [blob.digest for blob in plan.missing]


def test_one_digest_with_two_sizes_is_refused_before_anything_is_asked() -> None:
    honest = descriptor(b"12")
    lie = Descriptor(media_type="x", digest=honest.digest, size=3)
    for config, layers in ((honest, (lie,)), (honest, (honest, lie)), (descriptor(b"c"), (lie, honest))):
        with pytest.raises(FormatError, match="two sizes"):
            make_plan(Manifest.build(config, layers), lambda _blob: pytest.fail("asked"))


@pytest.mark.parametrize("levels", range(MAX_DEPTH + 1))
def test_an_index_of_one_entry_is_followed(levels: int) -> None:
    top, shelf = nested(levels)
    assert single_manifest(top, shelf, "it") == manifest(b"1")
    assert shelf.asked == levels


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 100])
def test_deep_nesting_is_refused_after_a_few_requests(levels: int) -> None:
    top, shelf = nested(levels)
    with pytest.raises(FormatError, match=f"it is an index nested deeper than {MAX_DEPTH} levels") as error:
        single_manifest(top, shelf, "it")
    assert shelf.asked == MAX_DEPTH
    assert error.value.exit_code == 6


def test_an_index_of_several_lists_them() -> None:
    one, two = manifest(b"1"), manifest(b"2")
    several = index(
        entry(one, platform={"architecture": "arm64", "os": "linux"}),
        entry(two, annotations={media.TITLE: "small"}),
        entry(manifest(b"3"), artifactType="application/vnd.x"),
        entry(manifest(b"4")),
    )
    with pytest.raises(FormatError, match="index of 4 manifests") as error:
        single_manifest(several, Shelf(), "it")
    for word in (one.digest.short, two.digest.short, "linux/arm64", "small", "application/vnd.x", media.OCI_MANIFEST):
        assert word in error.value.hint


def test_an_index_of_a_thousand_names_a_few_and_their_number() -> None:
    many = index(*(entry(manifest(b"%d" % number)) for number in range(1000)))
    with pytest.raises(FormatError, match="index of 1000 manifests") as error:
        single_manifest(many, Shelf(), "it")
    assert "and 992 more" in error.value.hint
    assert len(error.value.hint) < 1000


def test_an_empty_index_and_one_that_leads_nowhere_say_so() -> None:
    with pytest.raises(FormatError, match="index of 0 manifests") as error:
        single_manifest(index(), Shelf(), "it")
    assert "empty" in error.value.hint
    with pytest.raises(NotFoundError):
        single_manifest(index(entry(manifest(b"1"))), Shelf(), "it")
