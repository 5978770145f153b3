"""What `inspect` shows of an artifact besides the model: raw documents, variants, the tree, own and shared bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from lading import api, media
from lading.digest import Digest
from lading.errors import FormatError, NotFoundError, UnfitError, UsageError
from lading.manifest import Descriptor, Index, Manifest, Platform

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def forms(session: api.Session, storyteller: Path) -> Index:
    """The example model in two formats, `story:docker` and `story:modelpack`, and both in the index `story:both`."""
    entries = []
    for form in ("docker", "modelpack"):
        api.pack(session, storyteller, f"story:{form}", format_name=form)
        descriptor = session.store.document(f"story:{form}").descriptor
        entries.append(msgspec.structs.replace(descriptor, annotations={media.FORM: form}))
    index = Index.build(tuple(entries))
    session.store.put_document(index, "story:both")
    return index


def lines(node: api.Node, depth: int = 0) -> list[tuple[int, str, str, bool]]:
    own = [(depth, node.kind, node.name, node.shared)]
    return own + [line for below in node.below for line in lines(below, depth + 1)]


def test_manifest_and_config_are_given_byte_for_byte(session: api.Session, forms: Index) -> None:
    for name in ("story:docker", "story:modelpack"):
        manifest = session.store.document(name)
        assert isinstance(manifest, Manifest)
        assert api.manifest_bytes(session, name) == manifest.raw
        assert Digest.of(api.config_bytes(session, name)) == manifest.config.digest
    assert api.manifest_bytes(session, "story:both") == forms.raw


def test_an_index_has_no_config_and_its_manifests_are_named(session: api.Session, forms: Index) -> None:
    with pytest.raises(FormatError, match="no config of its own") as caught:
        api.config_bytes(session, "story:both")
    assert f"{forms.manifests[1].digest.short} (modelpack)" in caught.value.hint


def test_a_file_has_no_manifest(session: api.Session, storyteller: Path) -> None:
    for show in (api.manifest_bytes, api.config_bytes, api.tree):
        with pytest.raises(UsageError, match="no artifact yet") as caught:
            show(session, str(storyteller))
        assert "lading pack" in caught.value.hint


def test_the_tree_goes_from_the_index_to_the_blobs(session: api.Session, forms: Index) -> None:
    root = api.tree(session, "story:both")
    assert lines(root) == [
        (0, "index", "", False),
        (1, "manifest", "docker", True),
        (2, "config", "", True),
        (2, "weights", "storyteller-f16.gguf", True),
        (1, "manifest", "modelpack", True),
        (2, "config", "", True),
        (2, "weights", "storyteller-f16.gguf", True),
    ]
    assert root.size == len(forms.raw)
    assert [node.digest for node in root.below] == [entry.digest for entry in forms.manifests]
    api.remove(session, ["story:docker", "story:modelpack"])
    # Nothing but the tree itself needs any of it now; its two manifests have the weights in common.
    assert [line[1] for line in lines(api.tree(session, "story:both")) if line[3]] == ["weights", "weights"]


def test_what_an_index_names_and_the_store_lacks_is_in_the_tree(session: api.Session, forms: Index) -> None:
    absent = Descriptor(media_type=media.OCI_MANIFEST, digest=Digest.of(b"absent"), size=7)
    note = Descriptor(media_type="application/x-note", digest=Digest.of(b"note"), size=4)
    session.store.put_document(Index.build((*forms.manifests, absent, note)), "more:1")
    root = api.tree(session, "more:1")
    assert [node.size is None for node in root.below] == [False, False, True, True]
    found = api.inspect(session, "more:1").document
    assert [(one.format, one.size is None) for one in found.variants] == [
        ("docker", False),
        ("modelpack", False),
        (media.OCI_MANIFEST, True),
        ("application/x-note", True),
    ]


def test_a_manifest_that_is_no_model_is_a_tree_of_layers(session: api.Session) -> None:
    layer = Descriptor.of(b"words", "text/plain")
    manifest = Manifest.build(Descriptor.of(b"{}", media.OCI_EMPTY), (layer,), artifact_type="application/x-words")
    for data in (b"words", b"{}"):
        session.store.put_bytes(data)
    session.store.put_document(manifest, "words:1")
    assert lines(api.tree(session, "words:1")) == [
        (0, "manifest", "application/x-words", False),
        (1, "config", "", False),
        (1, "layer", "text/plain", False),
    ]


def test_inspect_of_an_index_lists_its_variants_and_shows_the_model(session: api.Session, forms: Index) -> None:
    found = api.inspect(session, "story:both").document
    assert (found.digest, found.format, found.media_type) == (forms.digest, "docker,modelpack", media.OCI_INDEX)
    assert [(one.format, one.platform, one.digest) for one in found.variants] == [
        ("docker", None, forms.manifests[0].digest),
        ("modelpack", None, forms.manifests[1].digest),
    ]
    manifest = session.store.document("story:modelpack")
    assert isinstance(manifest, Manifest)
    assert found.variants[1].size == sum(blob.size for blob in manifest.blobs)
    assert found.model.name == "Storyteller"
    assert [part.role for part in found.parts] == ["weights"]
    listed = {model.reference: model for model in api.list_models(session)}
    assert (listed["story:both"].format, listed["story:both"].broken) == ("docker,modelpack", None)


def test_an_index_of_which_none_stands_for_all_is_shown_by_its_variants(session: api.Session, forms: Index) -> None:
    entries = tuple(
        msgspec.structs.replace(entry, annotations={}, platform=Platform(architecture=chip, os="plan9"))
        for entry, chip in zip(forms.manifests, ("mips", "sparc"), strict=True)
    )
    session.store.put_document(Index.build(entries), "odd:1")
    found = api.inspect(session, "odd:1").document
    assert (found.format, found.parts) == ("index", ())
    assert [(one.format, one.platform) for one in found.variants] == [
        ("docker", "plan9/mips"),
        ("modelpack", "plan9/sparc"),
    ]


def test_own_and_shared_bytes_are_those_of_the_list(session: api.Session, forms: Index, storyteller: Path) -> None:
    api.pack(session, storyteller, "tale:1", format_name="modelpack", given=api.given(name="Tale"))
    listed = {model.reference: (model.own_size, model.shared_size) for model in api.list_models(session)}
    assert len(listed) == 4
    for name, sizes in listed.items():
        found = api.inspect(session, name).document
        assert (found.own_size, found.shared_size) == sizes
    own, shared = listed["tale:1"]
    assert own is not None
    assert 0 < own < 10_000
    assert shared == storyteller.stat().st_size
    assert listed["story:docker"][0] == 0
    api.remove(session, [name for name in listed if name != "tale:1"])
    assert api.inspect(session, "tale:1").document.shared_size == 0


def test_what_the_packager_said_is_shown_and_honoured(session: api.Session, storyteller: Path, tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0].content }}")
    given = api.given(
        name="Tale",
        template=template,
        licences=["MIT"],
        params=[("ctx-size", "256"), ("temp", "0.5"), ("stop", "END")],
        annotations=[("org.example.team", "chat")],
    )
    settings = {"ctx_size": 256, "stop": ["END"], "temperature": 0.5}
    for form in ("docker", "modelpack"):
        name = f"tale:{form}"
        packed = api.pack(session, storyteller, name, format_name=form, given=given)
        assert packed.facts.settings == settings
        found = api.inspect(session, name).document
        assert (found.model.name, found.model.licence, found.model.context_length) == ("Tale", "MIT", 512)
        assert (found.settings, found.annotations) == (settings, {"org.example.team": "chat"})
        (listed,) = (model for model in api.list_models(session) if model.reference == name)
        assert (listed.settings, listed.model.name) == (settings, "Tale")
        with api.prepare(session, name) as prepared:
            assert prepared.parameters == settings
            assert prepared.template is not None
            assert prepared.template.read_text() == template.read_text()


def test_a_model_in_a_bin_is_kept_and_never_run(session: api.Session, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (folder / "config.json").write_text('{"model_type":"bert"}')
    for form in ("docker", "modelpack"):
        api.pack(session, folder, f"bert:{form}", format_name=form)
        found = api.inspect(session, f"bert:{form}").document
        assert [(part.role, part.name) for part in found.parts] == [
            ("config", "config.json"),
            ("bin", "pytorch_model.bin"),
        ]
        assert found.model.architecture == "bert"
        with pytest.raises(UnfitError, match="is a bin model"), api.prepare(session, f"bert:{form}"):
            pass


def test_a_name_that_is_nowhere_is_not_found(session: api.Session) -> None:
    for show in (api.manifest_bytes, api.config_bytes, api.tree):
        with pytest.raises(NotFoundError):
            show(session, "oci-layout:nowhere:1")
