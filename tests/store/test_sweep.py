from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources import Memory, descriptor, ignore, put

from lading import media
from lading.digest import Digest
from lading.errors import IntegrityError, LadingError
from lading.manifest import Descriptor
from lading.store import Store, sweep
from lading.store.closure import closure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from workers import Start

    from .conftest import CheckStore

FOREIGN = "application/vnd.example.bundle.v1+json"


def present(store: Store) -> set[str]:
    return set(store.blobs.digests())


def entry(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


def add_root(store: Store, data: bytes, media_type: str, name: str | None = None) -> None:
    """Write an entry into index.json as another tool would."""
    store.prepare()
    index = json.loads((store.root / "index.json").read_bytes())
    index["manifests"].append(
        entry(data, media_type) | ({"annotations": {media.REF_NAME: name}} if name is not None else {})
    )
    (store.root / "index.json").write_text(json.dumps(index))


def damage(store: Store, digest: str, data: bytes | None) -> None:
    path = store.root / Digest(digest).path
    path.chmod(0o644)
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def faults(store: Store) -> dict[str, sweep.Fault]:
    return {fault.digest: fault for _digest, _size, fault in sweep.verify(store) if fault}


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[bytes], list[tuple[bytes, str]], list[int]]:
    """Draw blobs, documents over them (each may name those before it), and which documents are roots."""
    blobs = [b"blob%d" % number for number in range(draw(st.integers(1, 5)))]
    documents: list[tuple[bytes, str]] = []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from([media.OCI_MANIFEST, media.DOCKER_MANIFEST, media.OCI_INDEX, FOREIGN]))
        some = [entry(blob, "application/x") for blob in draw(st.lists(st.sampled_from(blobs), max_size=3))]
        older = (
            [entry(data, of) for data, of in draw(st.lists(st.sampled_from(documents), max_size=3))]
            if documents
            else []
        )
        tree: dict[str, Any] = {"schemaVersion": 2, "mediaType": kind, "annotations": {"n": str(number)}}
        if kind == media.OCI_INDEX:
            tree["manifests"] = older + draw(st.sampled_from([[], some]))
        elif kind == FOREIGN:
            tree["things"] = {"deep": [some, older]}
        else:
            tree |= {"config": entry(blobs[0], "application/x"), "layers": some}
        documents.append((json.dumps(tree).encode(), kind))
    return blobs, documents, draw(st.lists(st.integers(0, len(documents) - 1), unique=True))


def reached(documents: Iterable[tuple[bytes, str]], roots: list[int]) -> set[str]:
    """What a collection must keep, by a walk of our own over everything that a document mentions."""
    bodies = {str(Digest.of(data)): data.decode() for data, _kind in documents}
    keys = list(bodies)
    waiting = [keys[number] for number in roots]
    found: set[str] = set()
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            tree = json.loads(bodies.get(digest, "null"))
            waiting += [inner["digest"] for inner in _entries(tree)]
    return found


def _entries(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "digest" in tree:
            yield tree
        for value in tree.values():
            yield from _entries(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _entries(value)


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graphs())
def test_a_collection_frees_exactly_what_no_root_reaches(
    tmp_path_factory: pytest.TempPathFactory, graph: tuple[list[bytes], list[tuple[bytes, str]], list[int]]
) -> None:
    blobs, documents, roots = graph
    store = Store(tmp_path_factory.mktemp("store") / "store")
    for data in (*blobs, *(data for data, _kind in documents)):
        store.put_bytes(data)
    for number in roots:
        add_root(store, *documents[number], name=random.Random(number).choice([None, f"m{number}"]))
    before = present(store)
    expected = reached(documents, roots)
    would = sweep.prune(store, dry_run=True)
    assert present(store) == before
    done = sweep.prune(store)
    assert present(store) == expected & before
    assert done.blobs == would.blobs == len(before - expected)
    assert done.bytes == would.bytes
    assert sweep.prune(store).blobs == 0
    assert set(faults(store)) == set()


def test_an_unreadable_manifest_frees_nothing(store: Store) -> None:
    put(store, "a", b"1")
    made = put(store, "b", b"2")
    store.put_bytes(b"garbage")
    before = present(store)
    for bad in (b"{}", b"", made.raw[:-1], b"x" * len(made.raw), None):
        damage(store, made.digest, bad)
        with pytest.raises(LadingError) as error:
            sweep.prune(store)
        assert str(made.digest) in error.value.message or made.digest.short in error.value.message
        assert present(store) | {made.digest} == before
        store.put_bytes(made.raw)
    assert sweep.prune(store).blobs == 1


def test_only_the_entries_of_an_index_that_are_here_are_followed(store: Store) -> None:
    made = put(store, None, b"1")
    index = {
        "schemaVersion": 2,
        "mediaType": media.OCI_INDEX,
        "manifests": [entry(made.raw, media.OCI_MANIFEST), entry(b"elsewhere", media.OCI_MANIFEST)],
    }
    raw = json.dumps(index).encode()
    store.put_bytes(raw)
    add_root(store, raw, media.OCI_INDEX, "all")
    assert sweep.prune(store).blobs == 0
    assert faults(store) == {}


def test_indexes_in_indexes_are_walked_once_however_many_paths_lead_there(store: Store) -> None:
    """Each of 200 levels names the next one twice: 2^200 paths, 200 documents."""
    made = put(store, None, b"1")
    raw, kind = made.raw, media.OCI_MANIFEST
    for number in range(200):
        entries = [entry(raw, kind), entry(raw, kind)]
        tree = {
            "schemaVersion": 2,
            "mediaType": media.OCI_INDEX,
            "manifests": entries,
            "annotations": {"n": f"{number}"},
        }
        raw, kind = json.dumps(tree).encode(), media.OCI_INDEX
        store.put_bytes(raw)
    add_root(store, raw, kind, "deep")
    assert sweep.prune(store).blobs == 0
    root = store.document("deep")
    told = [blob.digest for blob in store.reach(root)]
    assert len(told) == len(set(told)) == 200 + 3
    assert [blob.digest for blob in closure(store, root.descriptor)] == told


def test_what_is_a_leaf_here_and_a_document_there_is_followed(store: Store) -> None:
    inner = put(store, None, b"1")
    outer = put(store, "outer", inner.raw)
    index = {
        "schemaVersion": 2,
        "mediaType": media.OCI_INDEX,
        "manifests": [entry(outer.raw, media.OCI_MANIFEST), entry(inner.raw, media.OCI_MANIFEST)],
    }
    raw = json.dumps(index).encode()
    store.put_bytes(raw)
    add_root(store, raw, media.OCI_INDEX, "both")
    assert sweep.prune(store).blobs == 0


def test_verify_finds_every_kind_of_damage_and_names_the_models(store: Store) -> None:
    first = put(store, "first", b"only mine", b"shared")
    second = put(store, "second", b"shared", b"fine")
    store.put_bytes(b"nobody's")
    assert faults(store) == {}
    assert len(list(sweep.verify(store))) == len(present(store))
    damage(store, Digest.of(b"shared"), b"sharEd")
    damage(store, Digest.of(b"only mine"), None)
    damage(store, Digest.of(b"nobody's"), b"")
    damage(store, second.digest, b"{}")
    found = faults(store)
    assert {digest: fault.models for digest, fault in found.items()} == {
        Digest.of(b"shared"): ("first",),  # what a damaged manifest needs is not known
        Digest.of(b"only mine"): ("first",),
        Digest.of(b"nobody's"): (),
        second.digest: ("second",),
    }
    assert found[Digest.of(b"only mine")].why == "is missing"
    assert all(fault.why for fault in found.values())
    assert store.document("first").digest == first.digest


def test_all_names_of_a_damaged_manifest_are_told_and_why_in_a_few_words(store: Store) -> None:
    made = put(store, "first", b"weights")
    store.tag("second", made)
    damage(store, made.digest, b"{}")
    fault = faults(store)[made.digest]
    assert fault.models == ("first", "second")
    assert fault.why == f"its bytes hash to {Digest.of(b'{}').short}"
    damage(store, made.digest, None)
    fault = faults(store)[made.digest]
    assert (fault.models, fault.why) == (("first", "second"), "is missing")


def test_all_names_of_a_missing_blob_are_told(store: Store) -> None:
    for name in ("first", "second"):
        put(store, name, b"shared", name.encode())
    damage(store, Digest.of(b"shared"), None)
    assert faults(store)[Digest.of(b"shared")].models == ("first", "second")


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_flipped_bit_is_found_and_the_blob_fetched_again(store: Store, place: str) -> None:
    data = random.Random(5).randbytes(5_000_000)
    put(store, "a", data)
    at = {"first": 0, "middle": len(data) // 2, "last": len(data) - 1}[place]
    flipped = bytearray(data)
    flipped[at] ^= 1
    damage(store, Digest.of(data), bytes(flipped))
    assert store.has(descriptor(data))
    assert set(faults(store)) == {Digest.of(data)}
    assert not store.has(descriptor(data))
    assert set(faults(store)) == {Digest.of(data)}
    source = Memory(data)
    store.put_blob(descriptor(data), source, ignore)
    assert len(source.opened) == 1
    assert faults(store) == {}


def test_a_manifest_that_lies_about_a_size_is_a_fault(store: Store) -> None:
    store.put_bytes(b"four")
    config = Descriptor(media_type="x", digest=store.put_bytes(b"{}"), size=2)
    lie = {"schemaVersion": 2, "config": entry(b"{}", "x"), "layers": [entry(b"four", "x") | {"size": 5}]}
    raw = json.dumps(lie).encode()
    store.put_bytes(raw)
    add_root(store, raw, media.OCI_MANIFEST, "liar")
    assert store.has(config)
    assert faults(store)[Digest.of(b"four")].why == "has 4 bytes, not 5"


def test_a_verification_that_is_left_stops_at_the_next_block(store: Store) -> None:
    for number in range(4):
        put(store, f"m{number}", random.Random(number).randbytes(20_000_000))
    walk = sweep.verify(store)
    next(walk)
    walk.close()  # type: ignore[attr-defined]  # it is a generator


def test_left_parts_are_swept_and_those_of_a_living_download_are_not(
    store: Store, start: Start, check_store: CheckStore
) -> None:
    code = """
import sys
from pathlib import Path
from sources import Memory, descriptor
from lading.store import Store
store = Store(Path(sys.argv[1]))
data = bytes(5_000_000)
def progress(done):
    if done > 2_000_000:
        print("half", flush=True)
        sys.stdin.read()
if sys.argv[2] == "known":
    store.put_blob(descriptor(data), Memory(data), progress)
else:
    store.put_unknown("x", None, Memory(data).open(descriptor(data)), progress)
"""
    put(store, "a", b"1")
    blob = descriptor(b"left")
    (store.work / "ingest" / blob.digest.file_name).write_bytes(b"le")
    (store.work / "ingest" / f"{Digest.of(b'1').file_name}.123-7f").write_bytes(b"of a reachable blob")
    (store.work / "ingest" / "whatever").write_bytes(b"x")
    workers = [start(code, store.root, kind) for kind in ("known", "unknown")]
    for worker in workers:
        assert worker.line() == "half"
    assert sweep.prune(store, dry_run=True).partial_bytes == 2 + 19 + 1
    assert sweep.prune(store).partial_bytes == 2 + 19 + 1
    assert len(list((store.work / "ingest").iterdir())) == 2
    for worker in workers:
        worker.end()
        assert worker.process.returncode == 0
    assert Digest.of(bytes(5_000_000)) in check_store(store.root, idle=True)


def test_a_leased_part_is_kept_for_its_download(store: Store) -> None:
    store.prepare()
    blob = descriptor(b"left")
    path = store.work / "ingest" / blob.digest.file_name
    path.write_bytes(b"le")
    with store.lease([blob.digest]):
        assert sweep.prune(store).partial_bytes == 0
        assert path.exists()
    assert sweep.prune(store).partial_bytes == 2


def test_views_go_with_their_models_and_strays_never_lead_out(store: Store, check_store: CheckStore) -> None:
    made = put(store, "a", b"1")
    gone = put(store, "b", b"2")
    for one, data in ((made, b"1"), (gone, b"2")):
        store.view(one.digest, [("model.gguf", descriptor(data))])
    outside = store.root.parent / "precious"
    outside.mkdir()
    (outside / "file").write_bytes(b"x")
    (store.root / "models" / "sha256-link").symlink_to(outside)
    (store.root / "models" / "sha256-file").write_bytes(b"x")
    store.untag("b")
    sweep.prune(store)
    assert [path.name for path in (store.root / "models").iterdir()] == [made.digest.file_name]
    assert (outside / "file").read_bytes() == b"x"
    assert check_store(store.root, idle=True) == present(store)


@pytest.mark.parametrize("name", ["ingest", "models"])
def test_a_folder_that_may_not_be_read_is_named(store: Store, start: Start, name: str) -> None:
    put(store, "a", b"1")
    folder = store.work / name
    folder.mkdir(exist_ok=True)
    folder.chmod(0)
    code = """
import sys
from pathlib import Path
from lading.errors import AccessDeniedError
from lading.store import Store, sweep
try:
    sweep.prune(Store(Path(sys.argv[1])))
except AccessDeniedError as error:
    print(error.message)
"""
    try:
        told = start(code, store.root, powerless=True).end()
    finally:
        folder.chmod(0o700)
    assert told.strip() == f"cannot use {folder}: permission denied"


def test_a_folder_that_vanished_holds_nothing_to_collect(store: Store) -> None:
    put(store, "a", b"1")
    (store.work / "models").mkdir(exist_ok=True)
    (store.work / "models").rmdir()
    assert sweep.prune(store).partial_bytes == 0


def test_files_that_are_not_named_like_blobs_are_left_alone(store: Store) -> None:
    put(store, "a", b"1")
    strangers = [store.root / "blobs" / "sha256" / name for name in ("x", "a" * 128, "A" * 64, ".hidden")]
    for path in strangers:
        path.write_bytes(b"x")
    assert sweep.prune(store).blobs == 0
    assert all(path.exists() for path in strangers)
    assert faults(store) == {}


def test_a_document_of_unknown_type_that_is_damaged_frees_nothing(store: Store) -> None:
    raw = json.dumps({"things": [entry(b"1", "x")]}).encode()
    store.put_bytes(b"1")
    store.put_bytes(raw)
    add_root(store, raw, FOREIGN)
    assert sweep.prune(store).blobs == 0
    damage(store, Digest.of(raw), b"x" * len(raw))
    with pytest.raises(IntegrityError):
        sweep.prune(store)
    assert Digest.of(b"1") in present(store)
