"""Hashing files at the speed of the hash: a thread may read ahead while another hashes."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from lading.digest import Digest, new_hasher

if TYPE_CHECKING:
    from collections.abc import Generator

    from lading.content import Progress

_BLOCK = 512 * 1024
"""Bytes read at a time. Two such blocks stay in a core's own cache; with larger ones hashing costs up to half as much again."""

_TOLD_EACH = 4 * 1024 * 1024
"""Bytes between two calls of `progress`."""


def hash_file(
    descriptor: int, algorithm: str, progress: Progress | None = None, *, ahead: bool = True
) -> tuple[Digest, int]:
    """Return digest and length of an open file, read from its start.

    `ahead` has a second thread read while this one hashes, which pays as long as there are idle cores. `progress` hears
    the bytes hashed so far, and may raise to stop. Raises OSError where the file cannot be read.
    """
    hasher = new_hasher(algorithm)
    size, told = 0, 0
    few = os.fstat(descriptor).st_size <= _BLOCK
    # Closed before the caller closes the file: the other thread may still be reading it.
    with closing(_blocks(descriptor) if few or not ahead else _blocks_ahead(descriptor)) as blocks:
        for block in blocks:
            hasher.update(block)
            size += len(block)
            if progress and size - told >= _TOLD_EACH:
                told = size
                progress(size)
    if progress:
        progress(size)
    return Digest.result(algorithm, hasher), size


def _blocks(descriptor: int) -> Generator[memoryview]:
    """Yield a file's bytes; each block is overwritten by the next."""
    offset = 0
    buffer = memoryview(bytearray(_BLOCK))
    while count := os.preadv(descriptor, [buffer], offset):
        yield buffer[:count]
        offset += count


def _blocks_ahead(descriptor: int) -> Generator[memoryview]:
    """Yield the same, while a thread reads the next block."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - small files are hashed without it

    offset = 0
    filling, full = memoryview(bytearray(_BLOCK)), memoryview(bytearray(_BLOCK))
    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(os.preadv, descriptor, [filling], 0)
        while count := pending.result():
            filling, full = full, filling
            offset += count
            pending = reader.submit(os.preadv, descriptor, [filling], offset)
            yield full[:count]
