"""Copy: move a manifest and what it reaches from a Source to a Target. Pull and push are both copies."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import media
from lading.errors import StoppedError
from lading.events import Advanced, Finished, Skipped, Started

if TYPE_CHECKING:
    from lading.content import Source, Target
    from lading.events import Reporter
    from lading.manifest import Descriptor
    from lading.plan import Plan

PARALLEL = 4
"""Blobs moved at a time."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did: bytes that crossed, and bytes of the whole artifact."""

    moved_bytes: int
    total_bytes: int


def run(
    plan: Plan, source: Source, target: Target, tag: str | None, reporter: Reporter, *, parallel: int = PARALLEL
) -> Copied:
    """Move the plan's missing blobs, then its manifest, which gets the name `tag` at the target.

    The manifest is written last, so that it never names a blob that is not there. The first failure
    stops the other transfers and is raised; what they received so far is kept for the next attempt.
    """
    for blob in plan.present:
        reporter.emit(Skipped(blob.digest, label(blob), name(blob), blob.size, "present"))
    moved = _move(plan.missing, source, target, reporter, parallel)
    target.put_document(plan.manifest, tag)
    return Copied(moved, plan.total_bytes + len(plan.manifest.raw))


def label(blob: Descriptor) -> str:
    """Return what kind of thing a blob is, in a word, from its media type."""
    kind = blob.media_type
    for word in ("license", "mmproj", "template", "lora", "config", "doc", "code", "dataset"):
        if word in kind:
            return {"license": "licence", "mmproj": "projector", "lora": "adapter"}.get(word, word)
    return "weights" if any(word in kind for word in ("gguf", "weight", "safetensors", ".model")) else "file"


def name(blob: Descriptor) -> str:
    """Return a blob's file name, else its short digest."""
    return blob.annotations.get(media.FILE_PATH) or blob.annotations.get(media.TITLE) or blob.digest.short


def _move(blobs: tuple[Descriptor, ...], source: Source, target: Target, reporter: Reporter, parallel: int) -> int:
    stop = threading.Event()

    def one(blob: Descriptor) -> int:
        def progress(done: int) -> None:
            if stop.is_set():
                msg = "another transfer failed"
                raise StoppedError(msg)
            reporter.emit(Advanced(blob.digest, done))

        reporter.emit(Started(blob.digest, label(blob), name(blob), blob.size))
        why = target.put_blob(blob, source, progress)
        if why:
            reporter.emit(Skipped(blob.digest, label(blob), name(blob), blob.size, why))
            return 0
        reporter.emit(Finished(blob.digest))
        return blob.size

    if len(blobs) == 1:
        return one(blobs[0])
    with ThreadPoolExecutor(max_workers=parallel) as pool:
        jobs = [pool.submit(one, blob) for blob in blobs]
        try:
            done, _waiting = wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            # Also after Ctrl-C in `wait`: the transfers see it at their next chunk.
            failed = any(job.done() and job.exception() for job in jobs) or not all(job.done() for job in jobs)
            if failed:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        for job in done:
            error = job.exception()
            if error and not (isinstance(error, StoppedError) and stop.is_set()):
                raise error
        return sum(job.result() for job in jobs)
