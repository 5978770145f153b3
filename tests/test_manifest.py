from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from lading import media
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError
from lading.manifest import (
    MAX_DOCUMENT,
    Descriptor,
    Index,
    Manifest,
    decode_descriptor,
    expect_manifest,
    parse_document,
)

SCHEMAS = Path(__file__).parent / "data" / "schemas" / "oci"
DIGEST = "sha256:" + "0123456789abcdef" * 4
CONFIG: dict[str, Any] = {"mediaType": "application/x", "digest": DIGEST, "size": 2}


def manifest(**changed: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media.OCI_MANIFEST, "config": CONFIG, "layers": [], **changed}


def index(**changed: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [], **changed}


def raw(document: object) -> bytes:
    return json.dumps(document).encode()


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


def refused(data: bytes, media_type: str | None = None) -> FormatError:
    with pytest.raises(FormatError) as error:
        parse_document(data, name="the thing", media_type=media_type)
    assert "the thing" in error.value.message
    assert error.value.hint
    assert len(error.value.message) < 400
    return error.value


def validate(document: bytes, schema: str) -> None:
    contents = json.loads((SCHEMAS / schema).read_text())
    registry = Registry(retrieve=_schema)  # type: ignore[call-arg]  # attrs' converter hides the argument from mypy
    Draft4Validator(contents, registry=registry).validate(json.loads(document))


def _schema(uri: str) -> Resource[Any]:
    # The schemas point at one another by file name, under several bases.
    return DRAFT4.create_resource(json.loads((SCHEMAS / uri.rpartition("/")[2]).read_text()))


descriptors = st.builds(
    Descriptor,
    media_type=st.from_regex(r"\Aapplication/[a-z0-9]{1,20}\+json\Z"),
    digest=st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"])),
    size=st.integers(0, 2**63 - 1),
    annotations=st.dictionaries(st.text(), st.text(), max_size=3),
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    descriptors,
    st.lists(descriptors, min_size=1, max_size=4),
    st.dictionaries(st.text(), st.text()),
    st.none() | st.just("application/vnd.x+json"),
)
def test_a_built_manifest_is_read_back_the_same_and_fits_ocis_schema(
    config: Descriptor,
    layers: list[Descriptor],
    annotations: dict[str, str],
    kind: str | None,
) -> None:
    made = Manifest.build(config, tuple(layers), artifact_type=kind, annotations=annotations)
    assert parse_document(made.raw, name="x", media_type=media.OCI_MANIFEST, digest=made.digest) == made
    assert made.descriptor.size == len(made.raw)
    validate(made.raw, "image-manifest-schema.json")


def test_the_same_arguments_give_the_same_bytes_in_whatever_order() -> None:
    def build(keys: list[str]) -> bytes:
        words = dict.fromkeys(keys, "v")
        layer = Descriptor(media_type="x", digest=Digest(DIGEST), size=1, annotations=words)
        return Manifest.build(layer, (layer,), annotations=words).raw

    assert build(["a", "b", "c"]) == build(["c", "a", "b"])
    assert b" " not in build(["a"])


def test_unknown_fields_are_kept_in_the_raw_bytes_and_digest() -> None:
    data = raw(manifest(future={"x": [1]}))
    assert parse_document(data, name="x").raw == data
    assert parse_document(data, name="x").digest == Digest.of(data)


def test_a_blob_named_twice_is_one_blob_described_by_its_first_mention() -> None:
    config = Descriptor(media_type="config", digest=Digest(DIGEST), size=2)
    layer = Descriptor(media_type="layer", digest=Digest(DIGEST), size=2)
    assert Manifest.build(config, (layer, layer)).blobs == (config,)


@pytest.mark.parametrize("kind", [media.OCI_MANIFEST, media.DOCKER_MANIFEST])
def test_a_manifest_says_its_type_or_its_place_does(kind: str) -> None:
    for data, told in ((raw(manifest(mediaType=kind)), kind), (raw(manifest(mediaType=kind)), None)):
        document = parse_document(data, name="x", media_type=told)
        assert isinstance(document, Manifest)
        assert document.media_type == kind
    bare = parse_document(raw(without(manifest(), "mediaType")), name="x", media_type=kind)
    assert bare.media_type == kind


def test_a_content_type_that_proves_nothing_leaves_it_to_the_shape() -> None:
    for told in (None, "application/json", "text/plain"):
        assert isinstance(parse_document(raw(without(manifest(), "mediaType")), name="x", media_type=told), Manifest)
        assert isinstance(parse_document(raw(without(index(), "mediaType")), name="x", media_type=told), Index)


CONFUSED = [
    manifest(manifests=[]),
    manifest(Manifests=[]),
    index(layers=[]),
    index(LAYERS=[]),
    index(config=CONFIG),
    without(manifest(manifests=[]), "mediaType"),
    without(index(layers=[], config=CONFIG), "mediaType"),
]


@pytest.mark.parametrize("document", CONFUSED)
@pytest.mark.parametrize("told", [None, media.OCI_MANIFEST, media.OCI_INDEX, "application/json"])
def test_what_could_be_read_as_two_things_is_read_as_none(document: dict[str, Any], told: str | None) -> None:
    refused(raw(document), told)


@settings(derandomize=True, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "schemaVersion": st.just(2),
            "mediaType": st.sampled_from([media.OCI_MANIFEST, media.OCI_INDEX, media.DOCKER_MANIFEST, "x", None]),
            "config": st.just(CONFIG),
            "layers": st.just([]),
            "manifests": st.just([]),
        },
    )
)
def test_no_bytes_are_a_manifest_under_one_type_and_an_index_under_another(document: dict[str, Any]) -> None:
    kinds = set()
    for told in (None, media.OCI_MANIFEST, media.OCI_INDEX, media.DOCKER_MANIFEST, media.DOCKER_MANIFEST_LIST, "x"):
        try:
            kinds.add(type(parse_document(raw(document), name="x", media_type=told)))
        except FormatError:
            continue
    assert len(kinds) <= 1


def test_a_type_that_differs_from_the_one_it_was_sent_as_is_not_trusted() -> None:
    assert "was sent as" in refused(raw(manifest()), media.OCI_INDEX).message
    assert "was sent as" in refused(raw(manifest()), media.DOCKER_MANIFEST).message
    assert "was sent as" in refused(raw(manifest(mediaType=["\x1b[2J" * 99])), media.OCI_MANIFEST).message


MALFORMED = {
    "unknown type": manifest(mediaType="application/vnd.docker.distribution.manifest.v1+prettyjws"),
    "a type that is no text": manifest(mediaType=5),
    "an empty type": manifest(mediaType=""),
    "version as text": manifest(schemaVersion="2"),
    "version as fraction": manifest(schemaVersion=2.0),
    "version 1": manifest(schemaVersion=1),
    "version 3": manifest(schemaVersion=3),
    "no version": without(manifest(), "schemaVersion"),
    "no config": without(manifest(), "config"),
    "no layers": without(manifest(), "layers"),
    "layers null": manifest(layers=None),
    "layers an object": manifest(layers={}),
    "a layer without digest": manifest(layers=[{"mediaType": "x", "size": 1}]),
    "a layer without size": manifest(layers=[{"mediaType": "x", "digest": DIGEST}]),
    "a layer without type": manifest(layers=[{"digest": DIGEST, "size": 1}]),
    "negative size": manifest(config={**CONFIG, "size": -1}),
    "size of 2^63": manifest(config={**CONFIG, "size": 2**63}),
    "size of 2^80": manifest(config={**CONFIG, "size": 2**80}),
    "size as text": manifest(config={**CONFIG, "size": "2"}),
    "size as fraction": manifest(config={**CONFIG, "size": 2.5}),
    "digest that is a path": manifest(layers=[{**CONFIG, "digest": "sha256:../../../../etc/passwd"}]),
    "digest of another algorithm": manifest(layers=[{**CONFIG, "digest": "md5:" + "a" * 32}]),
    "digest that is no text": manifest(layers=[{**CONFIG, "digest": 5}]),
    "subject that is a path": manifest(subject={**CONFIG, "digest": "sha256:../x"}),
    "index entry that is a path": index(manifests=[{**CONFIG, "digest": "sha256:../x"}]),
    "annotation that is no text": manifest(annotations={"a": 1}),
    "annotations null": manifest(annotations=None),
    "lone surrogate": manifest(annotations={"a": "\ud800"}),
    "a list": [],
    "a number": 7,
    "null": None,
}


@pytest.mark.parametrize("document", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_document_is_refused_by_name(document: object) -> None:
    refused(raw(document))


BROKEN = {
    "empty": b"",
    "not JSON": b"not json",
    "byte-order mark": b"\xef\xbb\xbf" + raw(manifest()),
    "trailing data": raw(manifest()) + b"{}",
    "cut": raw(manifest())[:-1],
    "not UTF-8": raw(manifest()).replace(b"application/x", b"applic\xff\xfe/x"),
    "UTF-16": json.dumps(manifest()).encode("utf-16"),
    "10,000 levels": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "100,000 levels": b"[" * 100_000,
    "10,000 levels in an unknown field": raw(manifest())[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "a number of 5,000 digits": raw(manifest())[:-1] + b',"x":' + b"1" * 5_000 + b"}",
    "no number": raw(manifest())[:-1] + b',"x":NaN}',
    "a key twice": raw(manifest())[:-1] + b',"layers":[]}',
    "a key twice inside": raw(manifest()).replace(b'"size": 2', b'"size": 2, "size": 3'),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_proper_json_is_refused(data: bytes) -> None:
    refused(data)


def test_an_html_page_is_called_one() -> None:
    assert "HTML" in refused(b"\n<!doctype html><html>log in</html>").hint


def test_four_mebibytes_are_read_and_a_byte_more_is_not() -> None:
    room = MAX_DOCUMENT - len(raw(manifest(x="")))
    assert len(parse_document(raw(manifest(x="y" * room)), name="x").raw) == MAX_DOCUMENT
    assert "4 MiB" in refused(raw(manifest(x="y" * (room + 1)))).message


def test_other_bytes_than_the_digest_promises_are_no_document() -> None:
    data = raw(manifest())
    with pytest.raises(IntegrityError, match="has digest"):
        parse_document(data, name="x", digest=Digest.of(b"other"))
    kept = parse_document(data, name="x", digest=Digest.of(data, "sha512"))
    assert kept.digest.algorithm == "sha512"


def test_an_index_where_a_manifest_is_due_says_so() -> None:
    document = parse_document(raw(index(manifests=[{**CONFIG, "mediaType": media.OCI_MANIFEST}])), name="x")
    with pytest.raises(FormatError, match="index of 1 manifests"):
        expect_manifest(document, "x")
    single = parse_document(raw(manifest()), name="x")
    assert expect_manifest(single, "x") is single


def test_an_index_fits_ocis_schema_and_keeps_platforms() -> None:
    entry = {**CONFIG, "platform": {"architecture": "arm64", "os": "linux", "variant": "v8", "os.version": "1"}}
    data = raw(index(manifests=[entry]))
    validate(data, "image-index-schema.json")
    document = parse_document(data, name="x")
    assert isinstance(document, Index)
    platform = document.manifests[0].platform
    assert platform is not None
    assert (platform.variant, platform.os_version) == ("v8", "1")


def test_a_descriptor_outside_a_manifest_is_checked_alike() -> None:
    assert decode_descriptor(CONFIG, name="index.json").size == 2
    malformed: list[object] = [{}, None, [], {**CONFIG, "size": -1}, {**CONFIG, "digest": "sha256:x"}]
    for bad in malformed:
        with pytest.raises(FormatError, match=r"index\.json"):
            decode_descriptor(bad, name="index.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([DIGEST, media.OCI_MANIFEST]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["mediaType", "digest", "size", "annotations", "platform", "layers"]) | st.text(), inner
        )
    ),
    max_leaves=8,
)
keys = ["schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "subject", "artifactType"]


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.sampled_from([manifest(), index()]), st.dictionaries(st.sampled_from(keys), json_values, max_size=3))
def test_only_errors_of_the_tree_escape_a_document_with_any_values(
    base: dict[str, Any], changed: dict[str, Any]
) -> None:
    try:
        document = parse_document(raw({**base, **changed}), name="x")
    except FormatError:
        return
    assert all(0 <= blob.size < 2**63 for blob in getattr(document, "blobs", ()))


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.data())
def test_only_errors_of_the_tree_escape_mutated_bytes(data: st.DataObject) -> None:
    document = bytearray(raw(manifest(layers=[CONFIG], annotations={"a": "b"})))
    for _change in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(document) - 1))
        document[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        parse_document(bytes(document), name="x")
    except FormatError:
        return
