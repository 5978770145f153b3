"""Leases: promises that a blob is about to be referenced, or in use, and must not be collected.

A lease is a file under `leases/` that lists digests and is flocked by its holder. The kernel drops
the lock with the process, so the lease of a dead one counts for nothing and is swept by `prune`.
"""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from lading import fs
from lading.digest import Digest
from lading.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class Lease:
    """Keeps the digests added to it from collection while it is open; a context manager.

    Taking one waits for a running collection; from then on whatever is found in the store and
    added here first stays there.
    """

    __slots__ = ("_file", "_gate", "_path", "_writing")

    _file: fs.Partial

    def __init__(self, folder: Path, gate: Path) -> None:
        self._gate = gate
        self._writing = threading.Lock()
        self._path = folder / f"{uuid.uuid4().hex}.lease"

    def __enter__(self) -> Self:
        with fs.Lock(self._gate, "the store", shared=True):
            self._file = fs.Partial(self._path)
        return self

    def __exit__(self, *_exc: object) -> None:
        try:
            self._file.discard()
        finally:
            self._file.close()

    def add(self, digests: Iterable[Digest]) -> None:
        """Protect these too."""
        # The newline comes first: a line that a full disk cut short must not swallow the next one.
        lines = "".join(f"\n{digest}" for digest in digests).encode()
        # Threads of one process share the gate: only the second lock keeps their lines apart.
        with fs.Lock(self._gate, "the store", shared=True), self._writing:
            self._file.write_at(self._file.size, memoryview(lines))


def living(folder: Path, *, dry_run: bool = False) -> Iterator[Digest]:
    """Yield all digests under a living lease and remove the leases of the dead, unless it is a dry run.

    Call it with the store's gate held exclusively, so that no lease is half made.
    """
    with fs.os_errors(folder):
        paths = sorted(folder.glob("*.lease"))
    for path in paths:
        lines = fs.read_if_locked(path)
        if lines is None:
            fs.remove_if_idle(path, dry_run=dry_run)
            continue
        for line in lines.decode("ascii", "replace").splitlines():
            # A line that a full disk cut short names no blob; its holder was told of the failure.
            with suppress(FormatError):
                yield Digest(line)
