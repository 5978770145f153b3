"""Unpacking into a store: once, whole or not at all, and never elsewhere."""

from __future__ import annotations

import gzip
import json
import random
import resource
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from archives import files, member, tar

from lading import media
from lading.artifact import image
from lading.artifact.unpack import read_stored, unpack
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError, NoSpaceError, NotFoundError
from lading.events import Advanced, Event, Finished, Silent, Started
from lading.manifest import Descriptor, Manifest
from lading.model import Member, Model, Part, Role
from lading.store import Store
from lading.store.sweep import prune

if TYPE_CHECKING:
    from collections.abc import Callable

LAYER = "application/vnd.oci.image.layer.v1.tar"
WEIGHTS = b"GGUF" + bytes(range(256)) * 20_000
FILES = {"a.gguf": WEIGHTS, "deep/config.json": b"{}", "empty": b""}
ROW = image.ROW


class Log:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(params=["", "+gzip"])
def put(store: Store, request: pytest.FixtureRequest) -> Callable[..., Manifest]:
    """Put an image of archives into the store and name it; with gzip or without."""

    def make(*archives: bytes, tag: str = "car", diff_ids: list[str] | None = None) -> Manifest:
        bodies = [gzip.compress(one, mtime=0) if request.param else one for one in archives]
        said = diff_ids or [str(Digest.of(one)) for one in archives]
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": said}}).encode()
        layers = tuple(Descriptor.of(body, LAYER + request.param) for body in bodies)
        manifest = Manifest.build(Descriptor.of(config, media.OCI_CONFIG), layers)
        for body in (config, *bodies):
            store.put_bytes(body)
        store.put_document(manifest, tag)
        return manifest

    return make


def read(store: Store, manifest: Manifest) -> Model:
    return read_stored(ROW, manifest, store)


def car(named: dict[str, bytes]) -> bytes:
    return files(*((f"models/{name}", body) for name, body in named.items()))


def left(store: Store) -> list[str]:
    return [path.name for path in (store.root / "ingest").iterdir()]


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_come_to_lie_under_their_names_for_reading_only(store: Store, put: Callable[..., Manifest]) -> None:
    manifest = put(car(FILES))
    folder = unpack(store, manifest.digest, read(store, manifest).parts, Silent())
    assert folder == store.root / "models" / manifest.digest.file_name
    assert found(folder) == FILES
    assert stat.S_IMODE((folder / "a.gguf").stat().st_mode) == 0o444
    assert left(store) == []


def test_a_large_file_behind_a_small_one_is_read_on_from_the_same_stream(
    store: Store, put: Callable[..., Manifest]
) -> None:
    named = {"chat_template.jinja": b"{{ messages }}", "z.gguf": b"GGUF" + random.Random(1).randbytes(8_000_000)}
    manifest = put(car(named))
    assert found(unpack(store, manifest.digest, read(store, manifest).parts, Silent())) == named


def test_what_is_there_is_not_written_again(store: Store, put: Callable[..., Manifest]) -> None:
    manifest = put(car(FILES))
    parts = read(store, manifest).parts
    folder = unpack(store, manifest.digest, parts, Silent())
    before = {path: path.stat().st_ino for path in folder.rglob("*")}
    log = Log()
    assert unpack(store, manifest.digest, parts, log) == folder
    assert {path: path.stat().st_ino for path in folder.rglob("*")} == before
    assert log.events == []


def test_only_what_is_asked_for_is_written_and_the_rest_when_it_is(store: Store, put: Callable[..., Manifest]) -> None:
    manifest = put(car(FILES))
    parts = read(store, manifest).parts
    folder = unpack(store, manifest.digest, [part for part in parts if part.role is Role.WEIGHTS], Silent())
    assert set(found(folder)) == {"a.gguf"}
    unpack(store, manifest.digest, parts, Silent())
    assert found(folder) == FILES


def test_files_of_several_layers_are_those_that_a_container_would_see(
    store: Store, put: Callable[..., Manifest]
) -> None:
    upper = tar(member("models/deep/.wh.config.json"), member("models/b.md", b"b"), member("models/empty", b"full"))
    manifest = put(car(FILES), upper)
    folder = unpack(store, manifest.digest, read(store, manifest).parts, Silent())
    assert found(folder) == {"a.gguf": WEIGHTS, "b.md": b"b", "empty": b"full"}


def test_a_model_may_have_more_files_than_a_process_may_open(store: Store, put: Callable[..., Manifest]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    many = {f"f{number:03d}": b"%d" % number for number in range(60)}
    manifest = put(car({"a.gguf": b"GGUF", **many}))
    parts = read(store, manifest).parts
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
    try:
        folder = unpack(store, manifest.digest, parts, Silent())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found(folder) == {"a.gguf": b"GGUF", **many}


def test_more_files_than_any_model_has_are_refused(
    store: Store, put: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lading.artifact.layers.MAX_FILES", 2)
    with pytest.raises(FormatError, match="holds more than 2 files"):
        read(store, put(car(FILES)))


def test_of_several_at_once_one_writes_and_the_others_wait(store: Store, put: Callable[..., Manifest]) -> None:
    manifest = put(car(FILES))
    parts = read(store, manifest).parts
    logs = [Log() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda log: unpack(Store(store.root), manifest.digest, parts, log), logs))
    assert [found(folder) for folder in folders] == [FILES] * 4
    assert sum(bool(log.events) for log in logs) == 1
    assert left(store) == []


def test_a_file_that_was_cut_is_written_anew(store: Store, put: Callable[..., Manifest]) -> None:
    manifest = put(car(FILES))
    parts = read(store, manifest).parts
    folder = unpack(store, manifest.digest, parts, Silent())
    (folder / "a.gguf").chmod(0o644)
    (folder / "a.gguf").write_bytes(b"GG")
    (folder / "empty").unlink()
    (folder / "empty").symlink_to("/etc/passwd")
    unpack(store, manifest.digest, parts, Silent())
    assert found(folder) == FILES
    assert not (folder / "empty").is_symlink()


def test_progress_is_told_file_by_file(store: Store, put: Callable[..., Manifest]) -> None:
    manifest = put(car(FILES))
    log = Log()
    unpack(store, manifest.digest, read(store, manifest).parts, log)
    assert [event.key for event in log.events if isinstance(event, Started)] == ["a.gguf", "deep/config.json", "empty"]
    assert [event.key for event in log.events if isinstance(event, Finished)] == list(FILES)
    assert Advanced("a.gguf", len(WEIGHTS)) in log.events


def test_a_compressed_layer_is_looked_through_once_for_ever(
    store: Store, put: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = put(car(FILES))
    first = read(store, manifest)

    def never(_source: object, _blob: object, _offset: int = 0) -> None:
        pytest.fail("the layer was read again")

    monkeypatch.setattr(Store, "open", never)
    assert read(store, manifest) == first
    assert read(Store(store.root), manifest) == first


@pytest.mark.parametrize("text", [b"", b"{}", b"[1,2]", b"\xff", b'["sha256:0",[]]'])
def test_a_record_of_another_version_is_made_again(store: Store, put: Callable[..., Manifest], text: bytes) -> None:
    manifest = put(car(FILES))
    first = read(store, manifest)
    for path in (store.root / "cache").rglob("*.json"):
        path.write_bytes(text)
    assert read(store, manifest) == first


def test_a_lying_diff_id_is_refused_however_often_the_layer_was_right_elsewhere(
    store: Store, put: Callable[..., Manifest]
) -> None:
    read(store, put(car(FILES)))
    liar = put(car(FILES), tag="liar", diff_ids=["sha256:" + "0" * 64])
    for _ in range(2):
        with pytest.raises(IntegrityError, match="layer sha256:"):
            read(store, liar)


def test_nothing_has_its_name_when_one_file_is_wrong(store: Store, put: Callable[..., Manifest]) -> None:
    manifest = put(car(FILES))
    parts = list(read(store, manifest).parts)
    last = parts.pop()
    assert last.member is not None
    lie = Member(last.member.path, last.member.offset, last.member.size, last.member.compression, None, Digest.of(b"x"))
    parts.append(Part(last.role, last.name, last.blob, lie))
    with pytest.raises(IntegrityError, match="empty has digest"):
        unpack(store, manifest.digest, parts, Silent())
    assert not (store.root / "models" / manifest.digest.file_name).exists()
    assert left(store) == []


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", ""])
def test_a_name_that_leads_elsewhere_is_never_a_path(store: Store, put: Callable[..., Manifest], name: str) -> None:
    manifest = put(car(FILES))
    part = read(store, manifest).parts[0]
    with pytest.raises(FormatError, match="leads out of the model's folder"):
        unpack(store, manifest.digest, [Part(part.role, name, part.blob, part.member)], Silent())


def test_a_layer_that_is_gone_is_named(store: Store, put: Callable[..., Manifest]) -> None:
    manifest = put(car(FILES))
    parts = read(store, manifest).parts
    store.blobs.remove(manifest.layers[0].digest)
    with pytest.raises(NotFoundError, match=manifest.layers[0].digest):
        unpack(store, manifest.digest, parts, Silent())
    assert left(store) == []


@pytest.mark.parametrize("put", ["+gzip"], indirect=True)
def test_a_damaged_layer_is_found_out(store: Store, put: Callable[..., Manifest]) -> None:
    manifest = put(car(FILES))
    parts = read(store, manifest).parts
    path = store.blobs.path(manifest.layers[0].digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError):
        unpack(store, manifest.digest, parts, Silent())
    assert not (store.root / "models" / manifest.digest.file_name).exists()


def test_a_full_disk_is_told_of_before_anything_is_written(
    store: Store, put: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = put(car(FILES))
    parts = read(store, manifest).parts
    monkeypatch.setattr("lading.fs.free_bytes", lambda _folder: 1000)
    with pytest.raises(NoSpaceError):
        unpack(store, manifest.digest, parts, Silent())


def test_a_collection_drops_what_was_unpacked_with_the_models_name(store: Store, put: Callable[..., Manifest]) -> None:
    manifest = put(car(FILES))
    folder = unpack(store, manifest.digest, read(store, manifest).parts, Silent())
    prune(store)
    assert found(folder) == FILES
    store.untag("car")
    prune(store)
    assert not folder.exists()
