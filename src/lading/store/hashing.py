"""Hashing files at the speed of the hash: one thread reads ahead while the other hashes."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from lading.digest import Digest

if TYPE_CHECKING:
    from lading.content import Progress
    from lading.digest import Hasher

_BLOCK = 4 * 1024 * 1024


def hash_file(descriptor: int, algorithm: str, progress: Progress | None = None) -> tuple[Digest, int]:
    """Return digest and length of an open file, read from its start.

    `progress` hears the bytes hashed so far, and may raise to stop. Raises OSError where the file cannot be read.
    """
    hasher: Hasher = hashlib.new(algorithm)
    if os.fstat(descriptor).st_size <= _BLOCK:
        size = _hash_small(descriptor, hasher)
    else:
        size = _hash_large(descriptor, hasher, progress or _nobody)
    if progress:
        progress(size)
    return Digest.result(algorithm, hasher), size


def _hash_small(descriptor: int, hasher: Hasher) -> int:
    offset = 0
    while data := os.pread(descriptor, _BLOCK, offset):
        hasher.update(data)
        offset += len(data)
    return offset


def _hash_large(descriptor: int, hasher: Hasher, progress: Progress) -> int:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - small files are hashed without it

    offset = 0
    filling, full = memoryview(bytearray(_BLOCK)), memoryview(bytearray(_BLOCK))
    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(os.preadv, descriptor, [filling], 0)
        while count := pending.result():
            filling, full = full, filling
            offset += count
            pending = reader.submit(os.preadv, descriptor, [filling], offset)
            hasher.update(full[:count])
            progress(offset)
    return offset


def _nobody(_done: int) -> None:
    """Nobody wants to hear how far it is."""
