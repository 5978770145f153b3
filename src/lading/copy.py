"""Copy: move a manifest and what it reaches from a Source to a Target. Pull and push are both copies."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import media
from lading.content import Redundant
from lading.crew import Crew, await_all
from lading.errors import IntegrityError, StoppedError
from lading.events import Advanced, Finished, Noted, Skipped, Started
from lading.pace import Paced
from lading.store.connections import Connections, Shared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lading.content import Progress, Source, Target
    from lading.digest import Digest
    from lading.events import Event, Reporter
    from lading.manifest import Descriptor
    from lading.pace import Pace
    from lading.plan import Plan

    Put = Callable[[Descriptor, Source, Progress], str]

PARALLEL = 4
"""Connections at a time: blobs that are moved, and what a big one may use more."""

_LABELS = {
    "license": "licence",
    "mmproj": "projector",
    "projector": "projector",
    "template": "template",
    "lora": "adapter",
    "adapter": "adapter",
    "config": "config",
    "doc": "doc",
    "code": "code",
    "dataset": "dataset",
    "gguf": "weights",
    "safetensors": "weights",
    "weight": "weights",
    "weights": "weights",
    "layer": "layer",
}


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did: bytes of the blobs that had to be moved, and of the whole artifact."""

    moved_bytes: int
    total_bytes: int


def run(
    plan: Plan,
    source: Source,
    target: Target,
    tag: str | None,
    reporter: Reporter,
    *,
    names: Mapping[Digest, str] | None = None,
    parallel: int = PARALLEL,
    pace: Pace | None = None,
) -> Copied:
    """Move the plan's missing blobs, then its inner documents, then its root, which gets the name `tag` at the target.

    `names` are those that inner documents get. `parallel` is how many connections there are at a time: one for each blob that moves, and the rest for a big one
    whose source is slow over one. `pace` is the limit that all keep together; with it each blob has one connection.

    Documents are written last, so that none names a blob that is not there. The first failure
    stops the other transfers and is raised; what they received so far is kept for the next attempt.
    Events tell of files, not of the config, which is no file of the model.
    """
    files = plan.files
    if plan.missing:
        for blob in plan.present:
            if blob.digest in files:
                reporter.emit(Skipped(blob.digest, label(blob), name(blob), blob.size, "present"))
    moved = move(plan.missing, source, target, reporter, files, parallel=parallel, pace=pace)
    for document in plan.inner:
        target.put_document(document, (names or {}).get(document.digest))
    target.put_document(plan.root, tag)
    return Copied(moved, plan.total_bytes + plan.document_bytes)


def move(
    blobs: tuple[Descriptor, ...],
    source: Source,
    target: Target,
    reporter: Reporter,
    files: frozenset[Digest],
    *,
    parallel: int = PARALLEL,
    pace: Pace | None = None,
) -> int:
    """Move blobs as `run` does, begun in their order, and return the bytes that moved; events tell of `files` alone."""
    connections = Connections(parallel)
    stream: Source = Paced(source, pace) if pace else Shared(source, connections)
    return _move(blobs, stream, _insisting(source, target), _OnlyFiles(reporter, files), connections)


def label(blob: Descriptor) -> str:
    """Return what kind of thing a blob is, in a word, from its media type."""
    words = re.split(r"[^a-z0-9]+", blob.media_type)
    other = "weights" if words[-1] == "model" else "file"
    return next((label for word, label in _LABELS.items() if word in words), other)


def name(blob: Descriptor) -> str:
    """Return a blob's file name, else its short digest."""
    return blob.annotations.get(media.FILE_PATH) or blob.annotations.get(media.TITLE) or blob.digest.short


@dataclass(frozen=True, slots=True)
class _OnlyFiles:
    """A reporter that passes on what concerns the model's files."""

    inner: Reporter
    files: frozenset[str]

    def emit(self, event: Event) -> None:
        if isinstance(event, Noted) or event.key in self.files:
            self.inner.emit(event)


def _insisting(source: Source, target: Target) -> Put:
    """Return how to write a blob to the target: once more where its bytes are wrong and another place has it too."""

    def put(blob: Descriptor, stream: Source, progress: Progress) -> str:
        while True:
            try:
                return target.put_blob(blob, stream, progress)
            except IntegrityError:
                if not (isinstance(source, Redundant) and source.distrust(blob)):
                    raise

    return put


def _move(blobs: tuple[Descriptor, ...], source: Source, put: Put, reporter: Reporter, connections: Connections) -> int:
    stop = threading.Event()
    failures: list[BaseException] = []

    def proceed() -> None:
        if stop.is_set():
            msg = "another transfer failed"
            raise StoppedError(msg)

    def one(blob: Descriptor) -> int:
        def progress(done: int) -> None:
            proceed()
            reporter.emit(Advanced(blob.digest, done))

        proceed()
        reporter.emit(Started(blob.digest, label(blob), name(blob), blob.size))
        try:
            with connections.one(proceed):
                why = put(blob, source, progress)
        except BaseException as error:
            # The first to come is the reason; what follows it, mostly that the others were told to stop, is not.
            failures.append(error)
            stop.set()
            raise
        if why:
            reporter.emit(Skipped(blob.digest, label(blob), name(blob), blob.size, why))
            return 0
        reporter.emit(Finished(blob.digest))
        return blob.size

    if len(blobs) <= 1:
        return sum(one(blob) for blob in blobs)
    with Crew(connections.most) as crew:
        jobs = [crew.submit(one, blob) for blob in blobs]
        try:
            await_all(jobs)
        finally:
            # Also after Ctrl-C in `wait`: the transfers see it at their next chunk.
            if not all(job.done() for job in jobs):
                stop.set()
        if failures:
            raise failures[0]
        return sum(job.result() for job in jobs)
