from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sources import Memory, descriptor, ignore, manifest, put

from lading import media
from lading.digest import Digest
from lading.errors import FormatError, LadingError, NoSpaceError, NotFoundError, UsageError
from lading.store import Store, sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workers import Start

    from .conftest import CheckStore

TAG = """
import sys
from pathlib import Path
from sources import manifest
from lading.store import Store
store = Store(Path(sys.argv[1]))
made = manifest()
print("ready", flush=True)
sys.stdin.read()
for number in range(20):
    store.tag(f"{sys.argv[2]}:{number}", made)
"""


def entries(store: Store) -> list[dict[str, Any]]:
    index = json.loads((store.root / "index.json").read_bytes())
    found: list[dict[str, Any]] = index["manifests"]
    return found


def names(store: Store) -> list[str]:
    return [tag.name for tag in store.tags()]


def test_a_store_that_is_not_there_is_empty_and_reading_makes_nothing(store: Store) -> None:
    assert store.tags() == ()
    assert store.find("x") is None
    assert not store.has(descriptor(b"x"))
    assert list(store.blobs.digests()) == []
    assert list(sweep.verify(store)) == []
    assert sweep.prune(store) == sweep.Pruned(0, 0, 0)
    for use in (store.document, store.untag):
        with pytest.raises(NotFoundError, match="`x`"):
            use("x")
    with store.use([Digest.of(b"x")]):
        pass
    assert not store.root.exists()


def test_tags_are_listed_oldest_first_and_point_where_they_were_last_set(store: Store) -> None:
    first, second = put(store, "a", b"1"), put(store, "b", b"2")
    assert names(store) == ["a", "b"]
    store.tag("a", second)
    assert names(store) == ["b", "a"]
    assert store.document("a").digest == second.digest
    assert store.document(first.digest).digest == first.digest
    store.untag("b")
    assert names(store) == ["a"]


def test_a_tag_keeps_what_it_was_told_of_its_origin(store: Store) -> None:
    made = put(store, None, b"1")
    kept = {media.SOURCE: "oci://x@y", media.REFERENCE: "oci://x", media.PULLED: "2026-01-01T00:00:00Z"}
    store.tag("a", made, kept)
    tag = store.find("a")
    assert tag is not None
    assert (tag.source, tag.reference, tag.pulled) == tuple(kept.values())
    put(store, "b", b"1")
    assert [(tag.source, tag.reference, tag.pulled) for tag in store.tags()][1] == (None, None, None)


def test_a_name_without_a_tag_means_latest_where_that_is_there(store: Store) -> None:
    put(store, "quay.io/story:latest", b"1")
    found = store.find("quay.io/story")
    assert found is not None
    assert found.name == "quay.io/story:latest"
    put(store, "quay.io/story", b"2")
    found = store.find("quay.io/story")
    assert found is not None
    assert found.name == "quay.io/story"
    store.untag("quay.io/story")
    store.untag("quay.io/story")
    assert names(store) == []


@pytest.mark.parametrize(
    "name",
    ["", "a b", "-a", "a//b", "é", "a" * 256, "a\n", "../x", str(Digest.of(b"x")), str(Digest.of(b"x", "sha512"))],
)
def test_what_cannot_be_a_tag_is_refused_and_nothing_is_written(store: Store, name: str) -> None:
    made = put(store, None, b"1")
    with pytest.raises(UsageError):
        store.tag(name, made)
    assert entries(store) == []


def test_a_foreign_tag_that_looks_like_a_digest_never_stands_for_it(store: Store) -> None:
    honest, other = put(store, None, b"1"), put(store, "other", b"2")
    index = json.loads((store.root / "index.json").read_bytes())
    index["manifests"][0]["annotations"][media.REF_NAME] = str(honest.digest)
    (store.root / "index.json").write_text(json.dumps(index))
    assert store.document(str(honest.digest)).digest == honest.digest != other.digest


def test_only_what_is_there_can_be_named(store: Store, check_store: CheckStore) -> None:
    store.prepare()
    with pytest.raises(NotFoundError, match="no manifest"):
        store.tag("a", manifest(b"1"))
    check_store(store.root, idle=True)


def test_a_document_of_sha512_is_kept_under_its_digest(store: Store) -> None:
    raw = manifest(b"1").raw
    source = Memory(raw)
    document = source.document(Digest.of(raw, "sha512"))
    by_512 = type(document)(
        **{**{name: getattr(document, name) for name in document.__slots__}, "digest": Digest.of(raw, "sha512")}
    )
    store.put_document(by_512, "a")
    assert store.document("a").digest == Digest.of(raw, "sha512")


def test_entries_of_others_are_kept_as_they_are(store: Store) -> None:
    put(store, "a", b"1")
    made = put(store, None, b"2")
    foreign: list[dict[str, Any]] = [
        {
            "mediaType": media.OCI_MANIFEST,
            "digest": str(made.digest),
            "size": len(made.raw),
            "data": "e30=",
            "x": [1.5],
        },
        {"mediaType": "application/x", "digest": "blake3:" + "a" * 64, "size": 1, "annotations": {media.REF_NAME: "f"}},
        {"mediaType": "application/x", "digest": str(Digest.of(b"gone")), "size": 4, "annotations": None},
    ]
    index = json.loads((store.root / "index.json").read_bytes())
    index["manifests"] += foreign
    index["annotations"] = {"whose": "others"}
    (store.root / "index.json").write_text(json.dumps(index))
    put(store, "b", b"3")
    store.untag("a")
    assert entries(store)[:3] == foreign
    assert names(store) == ["b"]
    assert json.loads((store.root / "index.json").read_bytes())["annotations"] == {"whose": "others"}


BROKEN = {
    "empty": b"",
    "half": b'{"schemaVersion":2,"manifests":[{"medi',
    "garbage": b"\0\1\2\3",
    "a list": b"[]",
    "no manifests": b'{"schemaVersion":2}',
    "manifests that are none": b'{"schemaVersion":2,"manifests":[1]}',
    "deep": b"[" * 200_000,
    "another version": b'{"schemaVersion":3,"manifests":[]}',
    "no version": b'{"manifests":[]}',
    "not UTF-8": b'{"schemaVersion":2,"manifests":[{"a":"\xff"}]}',
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_a_broken_index_is_named_and_never_overwritten_and_nothing_is_freed(store: Store, raw: bytes) -> None:
    made = put(store, "a", b"1")
    path = store.root / "index.json"
    path.write_bytes(raw)
    blobs = list(store.blobs.digests())
    for use in (
        store.tags,
        lambda: store.find("a"),
        lambda: store.tag("b", made),
        lambda: store.untag("a"),
        lambda: store.put_document(made, "b"),
        lambda: store.document("a"),
        lambda: sweep.prune(store),
        lambda: list(sweep.verify(store)),
    ):
        with pytest.raises(FormatError) as error:
            use()
        assert str(path) in error.value.message
        assert error.value.hint
    assert path.read_bytes() == raw
    assert list(store.blobs.digests()) == blobs


def test_an_index_that_is_a_pipe_blocks_nobody(store: Store) -> None:
    put(store, "a", b"1")
    (store.root / "index.json").unlink()
    os.mkfifo(store.root / "index.json")
    with pytest.raises(FormatError, match="regular"):
        store.tags()


def test_a_lost_index_frees_nothing(store: Store) -> None:
    put(store, "a", b"1")
    (store.root / "index.json").unlink()
    with pytest.raises(FormatError, match=r"no index\.json"):
        sweep.prune(store)
    assert len(list(store.blobs.digests())) == 3


def test_no_update_is_lost_between_processes(tmp_path: Path, start: Start, check_store: CheckStore) -> None:
    store = Store(tmp_path / "store")
    put(store, "mine")
    writers = [start(TAG, store.root, f"w{number}") for number in range(16)]
    for writer in writers:
        assert writer.line() == "ready"
    for writer in writers:
        writer.go()
    for writer in writers:
        writer.process.wait(60)
        assert writer.process.returncode == 0
    assert sorted(names(store)) == sorted(["mine", *(f"w{a}:{b}" for a in range(16) for b in range(20))])
    check_store(store.root, idle=True)


def test_no_update_is_lost_between_threads(store: Store, check_store: CheckStore) -> None:
    made = put(store, "mine")

    def write(number: int) -> None:
        for turn in range(10):
            store.tag(f"t{number}:{turn}", made)
        store.untag(f"t{number}:0")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(names(store)) == 1 + 6 * 9
    check_store(store.root, idle=True)


def test_a_layout_of_others_gets_nothing_but_the_layouts_own_files(tmp_path: Path) -> None:
    """As skopeo leaves one: no folders of ours; ours go into the work folder."""
    root, work = tmp_path / "layout", tmp_path / "layout" / ".work"
    (root / "blobs" / "sha256").mkdir(parents=True)
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (root / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    layout = Store(root, work=work)
    made = manifest(b"1")
    source = Memory(b"1", b"{}")
    for blob in made.blobs:
        layout.put_blob(blob, source, ignore)
    layout.put_document(made, "1")
    assert names(layout) == ["1"]
    layout.untag("1")
    sweep.prune(layout)
    assert {path.name for path in root.iterdir()} == {"oci-layout", "index.json", "blobs", ".work"}
    assert list(layout.blobs.digests()) == []


def test_an_index_with_an_entry_that_cannot_be_read_frees_nothing(store: Store) -> None:
    put(store, "a", b"1")
    index = json.loads((store.root / "index.json").read_bytes())
    index["manifests"].append({"mediaType": "x", "digest": "md5:x", "size": 1})
    (store.root / "index.json").write_text(json.dumps(index))
    store.untag("a")
    with pytest.raises(LadingError):
        sweep.prune(store)
    assert len(list(store.blobs.digests())) == 3


def test_a_damaged_index_says_to_restore_it_or_to_begin_anew_and_never_to_remove_it(store: Store) -> None:
    put(store, "a", b"1")
    (store.root / "index.json").write_text("{")
    with pytest.raises(FormatError, match="is not JSON") as caught:
        store.tags()
    assert "begin anew with another --store" in caught.value.hint
    assert "remove" not in caught.value.hint


def test_too_little_space_tells_what_stays_free(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lading.fs.free_bytes", lambda _folder: 225_200_000)
    with pytest.raises(NoSpaceError, match=r"209\.7 MB .* 225\.2 MB are free .* of which 16\.8 MB are to stay free"):
        store.require_space(209_700_000)


def test_a_store_that_lost_its_index_is_neither_read_nor_written_until_it_is_back(store: Store) -> None:
    made = put(store, "precious", b"weights")
    moved = (store.root / "index.json").rename(store.root.parent / "index.json")
    before = set(store.blobs.digests())
    actions: dict[str, Callable[[], object]] = {
        "list": store.tags,
        "find": lambda: store.find("precious"),
        "verify": lambda: list(sweep.verify(store)),
        "prune": lambda: sweep.prune(store),
        "tag": lambda: store.tag("other", made),
        "untag": lambda: store.untag("precious"),
        "pack": lambda: put(store, "new", b"more"),
        "pull": lambda: store.put_blob(descriptor(b"more"), Memory(b"more"), ignore),
        "lease": lambda: store.lease().__enter__(),
        "create": store.index.create,
    }
    for action in actions.values():
        with pytest.raises(FormatError, match="has blobs but no index") as caught:
            action()
        assert "restore index.json" in caught.value.hint
    (store.root / "oci-layout").unlink()
    with pytest.raises(FormatError, match="has blobs but no index"):
        store.prepare()
    assert set(store.blobs.digests()) == before
    assert not (store.root / "index.json").exists()
    moved.rename(store.root / "index.json")
    assert names(store) == ["precious"]
    assert sweep.prune(store).blobs == 0


CREATE = """
import sys
from pathlib import Path
from sources import put
from lading.store import Store
print("ready", flush=True)
sys.stdin.read()
for number in range(30):
    store = Store(Path(sys.argv[1]) / str(number))
    store.tags()
    put(store, sys.argv[2], sys.argv[2].encode())
    store.tags()
"""


def test_processes_that_begin_a_store_at_once_do_not_take_it_for_a_lost_one(start: Start, tmp_path: Path) -> None:
    writers = [start(CREATE, tmp_path / "stores", name) for name in ("a", "b", "c")]
    for writer in writers:
        assert writer.line() == "ready"
    for writer in writers:
        writer.go()
    for writer in writers:
        assert writer.process.wait(60) == 0
    for number in range(30):
        assert sorted(names(Store(tmp_path / "stores" / str(number)))) == ["a", "b", "c"]
