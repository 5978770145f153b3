from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from sources import BLOB, Memory, descriptor, manifest

from lading import copy, media
from lading.errors import IntegrityError, LadingError, NetworkError, NoSpaceError
from lading.events import Advanced, Event, Finished, Skipped, Started
from lading.manifest import Descriptor, Index, Manifest
from lading.plan import make_plan
from lading.store import Store, receive, stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lading.content import Progress, Source
    from lading.manifest import Document

BLOBS = [bytes([number]) * 6_000_000 for number in range(6)]


class Recorder:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, key: str) -> list[Event]:
        return [event for event in self.events if getattr(event, "key", None) == key]


class Tape:
    """A target that writes down what it is asked for; `put` may be given another meaning."""

    def __init__(self, put: Callable[[Descriptor, Progress], str] = lambda _blob, _progress: "") -> None:
        self.calls: list[str] = []
        self._put = put

    def has(self, _blob: Descriptor, /) -> bool:
        return False

    def put_blob(self, blob: Descriptor, _source: Source, progress: Progress, /) -> str:
        self.calls.append(blob.digest)
        return self._put(blob, progress)

    def put_document(self, document: Document, tag: str | None, /) -> None:
        self.calls.append(f"{document.digest} {tag}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def pull(store: Store, made: Manifest, source: Memory, recorder: Recorder, parallel: int = 4) -> copy.Copied:
    return copy.run(make_plan(made, store.has), source, store, "it", recorder, parallel=parallel)


@pytest.mark.parametrize("parallel", [1, 2, 4, 16])
def test_a_copy_moves_what_is_missing_and_names_it_last(store: Store, recorder: Recorder, parallel: int) -> None:
    made = manifest(*BLOBS)
    source = Memory(*BLOBS, b"{}")
    done = pull(store, made, source, recorder, parallel)
    assert done == copy.Copied(6 * 6_000_000 + 2, 6 * 6_000_000 + 2 + len(made.raw))
    assert store.document("it") == made
    assert all(store.has(blob) for blob in made.blobs)
    again = pull(store, made, source, recorder, parallel)
    assert again == copy.Copied(0, done.total_bytes)
    assert len(source.opened) == 7


def test_the_events_of_a_blob_come_in_order(store: Store, recorder: Recorder) -> None:
    made = manifest(*BLOBS[:3])
    store.put_bytes(BLOBS[0])
    pull(store, made, Memory(*BLOBS, b"{}"), recorder)
    assert recorder.of(made.layers[0].digest) == [
        Skipped(made.layers[0].digest, "file", made.layers[0].digest.short, 6_000_000, "present")
    ]
    for blob in made.layers[1:]:
        first, *middle, last = recorder.of(blob.digest)
        assert first == Started(blob.digest, "file", blob.digest.short, blob.size)
        assert last == Finished(blob.digest)
        done = [event.done for event in middle if isinstance(event, Advanced)]
        assert len(done) == len(middle)
        assert done == sorted(done)
        assert done[-1] == blob.size


def test_blobs_move_at_the_same_time_but_no_more_than_asked_for(recorder: Recorder) -> None:
    lock = threading.Lock()
    now = most = 0

    def put(_blob: Descriptor, _progress: Progress) -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return ""

    tape = Tape(put)
    made = manifest(*BLOBS)
    copy.run(make_plan(made, tape.has), Memory(), tape, "it", recorder, parallel=3)
    assert most == 3
    assert tape.calls[-1] == f"{made.digest} it"
    assert len(tape.calls) == 8


def test_a_tree_is_written_children_first_and_its_root_gets_the_name_last(recorder: Recorder) -> None:
    tape = Tape()
    one, two = manifest(b"1"), manifest(b"2")
    root = Index.build((one.descriptor, two.descriptor))
    plan = make_plan(root, lambda _blob: True, (one, two))
    done = copy.run(plan, Memory(), tape, "it", recorder, names={two.digest: "it-two"})
    assert tape.calls == [f"{one.digest} None", f"{two.digest} it-two", f"{root.digest} it"]
    assert done.total_bytes == plan.total_bytes + plan.document_bytes


def test_what_the_target_had_after_all_counts_as_not_moved(recorder: Recorder) -> None:
    made = manifest(BLOBS[0])
    tape = Tape(lambda blob, _progress: "mounted" if blob.size > 2 else "")
    done = copy.run(make_plan(made, tape.has), Memory(), tape, None, recorder)
    assert done.moved_bytes == 2
    assert recorder.of(made.layers[0].digest)[-1] == Skipped(
        made.layers[0].digest, "file", made.layers[0].digest.short, 6_000_000, "mounted"
    )
    assert tape.calls[-1] == f"{made.digest} None"


def test_a_blob_that_another_process_brought_meanwhile_is_skipped(store: Store, recorder: Recorder) -> None:
    made = manifest(BLOBS[0])
    plan = make_plan(made, store.has)
    store.put_bytes(BLOBS[0])
    source = Memory(b"{}")
    done = copy.run(plan, source, store, "it", recorder)
    assert done.moved_bytes == 2
    last = recorder.of(made.layers[0].digest)[-1]
    assert isinstance(last, Skipped)
    assert last.why == "present"


@pytest.mark.parametrize("error", [NetworkError("the line broke"), NoSpaceError("full"), IntegrityError("wrong")])
def test_the_first_failure_stops_the_others_and_is_the_one_raised(
    store: Store, recorder: Recorder, error: LadingError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ENDURANCE", stream.Endurance(tries=0))
    made = manifest(*BLOBS)
    source = Memory(*BLOBS, b"{}")
    running = threading.Barrier(3)
    arrived: set[str] = set()

    def before_read(digest: str, offset: int) -> None:
        if offset == receive.CHUNK and digest in [blob.digest for blob in made.layers[:3]]:
            # What was wrong comes once more, and alone.
            if digest not in arrived:
                arrived.add(digest)
                running.wait(10)
            if digest == made.layers[1].digest:
                raise error
            time.sleep(0.2)

    source.before_read = before_read
    with pytest.raises(LadingError) as raised:
        pull(store, made, source, recorder, parallel=3)
    assert raised.value is error
    assert store.tags() == ()
    assert not any(isinstance(event, Finished) and event.key != made.config.digest for event in recorder.events)
    kept = sorted(path.stat().st_size for path in (store.work / "ingest").iterdir())
    block = receive.CHUNK
    assert kept in ([2 * block, 2 * block], [block, 2 * block, 2 * block])  # an integrity error drops its own part
    # Repeating the command ends what was begun.
    source.before_read = lambda _digest, _offset: None
    source.opened.clear()
    pull(store, made, source, recorder)
    assert store.document("it") == made
    assert sorted(offset for _digest, offset in source.opened if offset) == kept


def test_what_waits_for_its_turn_is_not_begun_after_a_failure(recorder: Recorder) -> None:
    def put(blob: Descriptor, _progress: Progress) -> str:
        time.sleep(0.02)
        if blob.size == 2:
            message = "wrong"
            raise IntegrityError(message)
        return ""

    tape = Tape(put)
    many = manifest(*(b"%d" % number * 9 for number in range(200)))
    with pytest.raises(IntegrityError, match="wrong"):
        copy.run(make_plan(many, tape.has), Memory(), tape, "it", recorder, parallel=2)
    assert len(tape.calls) < 10


def test_two_failures_at_once_give_one_that_happened(recorder: Recorder) -> None:
    both = threading.Barrier(2)

    def put(blob: Descriptor, _progress: Progress) -> str:
        both.wait(10)
        raise NetworkError(blob.digest)

    tape = Tape(put)
    made = manifest(b"one")
    with pytest.raises(NetworkError) as error:
        copy.run(make_plan(made, tape.has), Memory(), tape, "it", recorder)
    assert error.value.message in {blob.digest for blob in made.blobs}
    assert not any(" it" in call for call in tape.calls)


@pytest.mark.parametrize("count", [1, 6])
def test_an_interrupt_leaves_the_parts_and_stops_the_threads(
    store: Store, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Ctrl-C reaches the main thread, which waits for the others; with one blob it does the work itself."""
    made = manifest(*BLOBS[:count])
    store.put_bytes(b"{}")
    source = Memory(*BLOBS)
    begun = threading.Event()

    def before_read(_digest: str, offset: int) -> None:
        if offset >= receive.CHUNK:
            begun.set()
            if count == 1:
                raise KeyboardInterrupt
            time.sleep(0.1)

    def interrupted(*_arguments: object, **_options: object) -> None:
        begun.wait(10)
        raise KeyboardInterrupt

    source.before_read = before_read
    monkeypatch.setattr(copy, "await_all", interrupted)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        pull(store, made, source, recorder)
    assert threading.active_count() == threads
    assert store.tags() == ()
    parts = list((store.work / "ingest").iterdir())
    assert parts
    assert all(part.stat().st_size < 6_000_000 for part in parts)


def test_nothing_missing_needs_no_thread(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "Crew", lambda _most: pytest.fail("threads for nothing"))
    tape = Tape()
    made = manifest()
    copy.run(make_plan(made, lambda _blob: True), Memory(), tape, "it", recorder)
    assert tape.calls == [f"{made.digest} it"]


@pytest.mark.parametrize(
    ("media_type", "word"),
    [
        ("application/vnd.docker.ai.gguf.v3", "weights"),
        ("application/vnd.docker.ai.safetensors", "weights"),
        ("application/vnd.docker.ai.license", "licence"),
        ("application/vnd.docker.ai.mmproj", "projector"),
        ("application/vnd.docker.ai.chat.template.jinja", "template"),
        ("application/vnd.docker.ai.gguf.v3.lora", "adapter"),
        ("application/vnd.docker.ai.model.config.v0.1+json", "config"),
        ("application/vnd.docker.ai.model.file", "file"),
        ("application/vnd.cncf.model.weight.v1.raw", "weights"),
        ("application/vnd.cncf.model.weight.config.v1.raw", "config"),
        ("application/vnd.cncf.model.config.v1+json", "config"),
        ("application/vnd.cncf.model.doc.v1.raw", "doc"),
        ("application/vnd.cncf.model.code.v1.raw", "code"),
        ("application/vnd.cncf.model.dataset.v1.raw", "dataset"),
        ("application/vnd.ollama.image.model", "weights"),
        ("application/vnd.ollama.image.projector", "projector"),
        ("application/vnd.ollama.image.adapter", "adapter"),
        ("application/octet-stream", "file"),
        ("", "file"),
    ],
)
def test_a_blob_is_called_by_what_it_is(media_type: str, word: str) -> None:
    assert copy.label(Descriptor(media_type=media_type, digest=descriptor(b"").digest, size=0)) == word


def test_a_blob_goes_by_its_files_name_where_it_has_one() -> None:
    def named(**annotations: str) -> str:
        keys = {"path": media.FILE_PATH, "title": media.TITLE}
        kept = {keys[key]: value for key, value in annotations.items()}
        return copy.name(Descriptor(media_type=BLOB, digest=descriptor(b"").digest, size=0, annotations=kept))

    assert named(path="a/b.gguf", title="c") == "a/b.gguf"
    assert named(title="c") == "c"
    assert named() == descriptor(b"").digest.short
