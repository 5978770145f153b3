"""Spooling: a stream that has to be read out of order lies in the store's work folder meanwhile, unverified."""

from __future__ import annotations

import mmap
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lading import fs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lading.content import ByteReader, Progress
    from lading.store import Store

_BLOCK = 1024 * 1024


@contextmanager
def spooled(store: Store, reader: ByteReader, progress: Progress) -> Iterator[Path]:
    """Yield a file of all that a stream brings, which is removed at the end of the block; after a death `prune` does it."""
    store.prepare()
    partial = fs.Partial(store.work / "ingest" / f"spool.{os.getpid()}.{id(reader):x}")
    try:
        partial.truncate(0)
        block = memoryview(mmap.mmap(-1, _BLOCK))
        offset = 0
        while filled := _fill(reader, block):
            partial.append(offset, block[:filled])
            offset += filled
            progress(offset)
        yield partial.path
    finally:
        partial.discard()
        partial.close()


def _fill(reader: ByteReader, block: memoryview) -> int:
    filled = 0
    while filled < len(block) and (count := reader.readinto(block[filled:])):
        filled += count
    return filled
