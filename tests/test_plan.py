from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import descriptor, manifest

from lading import media
from lading.digest import Digest
from lading.errors import FormatError, NotFoundError, UsageError
from lading.manifest import Descriptor, Document, Manifest, parse_document
from lading.plan import MAX_DEPTH, MAX_DOCUMENTS, inner_documents, make_plan, parse_platform, single_manifest


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


ARM = {"architecture": "arm64", "os": "linux", "variant": "v8"}
AMD = {"architecture": "amd64", "os": "linux"}
NOTE = {"architecture": "unknown", "os": "unknown"}


def form(document: Document, name: str, **more: Any) -> dict[str, Any]:
    return entry(document, annotations={media.FORM: name}, **more)


def test_of_one_models_formats_the_first_that_is_no_image_is_meant() -> None:
    car, docker, pack = (manifest(data) for data in (b"1", b"2", b"3"))
    formats = index(form(car, "image", platform=AMD), form(docker, "docker"), form(pack, "modelpack"))
    assert single_manifest(formats, Shelf(car, docker, pack), "it") == docker
    assert single_manifest(formats, Shelf(car, docker, pack), "it", parse_platform("linux/amd64")) == car
    with pytest.raises(NotFoundError, match="nothing for linux/arm64") as error:
        single_manifest(formats, Shelf(car, docker, pack), "it", parse_platform("linux/arm64"))
    assert error.value.hint == "it has linux/amd64"


def test_of_images_for_several_platforms_the_one_asked_for_is_meant_else_a_usual_one() -> None:
    arm, amd, note = (manifest(data) for data in (b"1", b"2", b"3"))
    images = index(entry(arm, platform=ARM), entry(note, platform=NOTE), entry(amd, platform=AMD))
    shelf = Shelf(arm, amd, note)
    assert single_manifest(images, shelf, "it") == amd
    for text in ("linux/arm64", "linux/arm64/v8"):
        assert single_manifest(images, shelf, "it", parse_platform(text)) == arm
    with pytest.raises(NotFoundError, match="nothing for linux/arm64/v7"):
        single_manifest(images, shelf, "it", parse_platform("linux/arm64/v7"))
    only = index(entry(arm, platform=ARM), entry(note, platform=NOTE))
    assert single_manifest(only, shelf, "it") == arm
    # A platform says nothing of what has none.
    assert single_manifest(index(entry(arm)), shelf, "it", parse_platform("linux/amd64")) == arm


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/é", "linux/a b", "x:y/z"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no platform"):
        parse_platform(text)


def test_a_tree_is_told_children_first_each_document_once() -> None:
    one, two = manifest(b"1"), manifest(b"2")
    low = index(entry(one), note="low")
    top = index(entry(low), entry(one), entry(two), entry(low), note="top")
    assert inner_documents(top, Shelf(one, two, low), "it") == (one, low, two)
    assert inner_documents(one, Shelf(), "it") == ()


def test_a_tree_is_bounded_in_depth_and_number() -> None:
    top, shelf = nested(MAX_DEPTH)
    assert len(inner_documents(top, shelf, "it")) == MAX_DEPTH
    top, shelf = nested(MAX_DEPTH + 1)
    with pytest.raises(FormatError, match="nested deeper"):
        inner_documents(top, shelf, "it")
    many = [manifest(b"%d" % number) for number in range(MAX_DOCUMENTS)]
    shelf = Shelf(*many)
    with pytest.raises(FormatError, match=f"more than {MAX_DOCUMENTS} manifests"):
        inner_documents(index(*map(entry, many)), shelf, "it")
    assert shelf.asked < MAX_DOCUMENTS
    assert len(inner_documents(index(*map(entry, many[1:])), Shelf(*many), "it")) == MAX_DOCUMENTS - 1


def test_a_tree_with_an_entry_that_is_no_manifest_or_not_there_is_refused() -> None:
    one = manifest(b"1")
    with pytest.raises(FormatError, match="entry of the unknown type text/plain"):
        inner_documents(index({**entry(one), "mediaType": "text/plain"}), Shelf(one), "it")
    with pytest.raises(NotFoundError):
        inner_documents(index(entry(one)), Shelf(), "it")


def test_the_plan_of_a_tree_counts_what_is_shared_once() -> None:
    one, two = manifest(b"shared", b"1"), manifest(b"shared", b"two")
    top = index(entry(one), entry(two))
    plan = make_plan(top, lambda blob: blob.size == 3, (one, two))
    assert plan.root is top
    assert plan.inner == (one, two)
    assert plan.missing_bytes == len(b"{}") + len(b"shared") + 1
    assert plan.total_bytes == plan.missing_bytes + 3
    assert plan.document_bytes == sum(len(document.raw) for document in (one, two, top))
    assert plan.files == {Digest.of(data) for data in (b"shared", b"1", b"two")}
    lie = Manifest.build(one.config, (Descriptor(media_type="x", digest=Digest.of(b"1"), size=9),))
    with pytest.raises(FormatError, match="two sizes"):
        make_plan(top, lambda _blob: False, (one, lie))
