"""Faults at the n-th system call: run as a program, it lets an operation on a store fail or die at each call in turn.

    python faulty.py FOLDER OPERATION FAULT

makes FOLDER/0, FOLDER/1, ... with a store each, in which the fault struck at that call, until the operation
ends before its turn. Then it prints the number of calls. Forks, so that a death costs little.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sources import Memory, descriptor, ignore, manifest, put

from lading import fs
from lading.digest import Digest
from lading.errors import LadingError
from lading.store import Store, sweep

if TYPE_CHECKING:
    from collections.abc import Callable

WRITING = (
    "open",
    "pwrite",
    "ftruncate",
    "fsync",
    "fdatasync",
    "replace",
    "link",
    "symlink",
    "unlink",
    "mkdir",
    "rmdir",
    "fchmod",
)
READING = ("lstat", "fstat", "pread", "preadv")
FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES}
OLD, NEW = bytes(range(256)) * 40, b"new" * 5000


def prepare(folder: Path) -> Store:
    """Make a store with a model, another that is to go, and a file to pack."""
    store = Store(folder / "store")
    put(store, "old", OLD)
    gone = put(store, "gone", b"gone")
    store.view(gone.digest, [("model.gguf", descriptor(b"gone"))])
    store.untag("gone")
    (folder / "file.gguf").write_bytes(NEW)
    os.utime(folder / "file.gguf", (1, 1))  # long settled: nobody has to wait for the clock
    (store.work / "ingest" / descriptor(NEW).digest.file_name).write_bytes(NEW[:100])
    return store


def pull(store: Store) -> None:
    made = manifest(NEW)
    with store.lease([made.digest, *(blob.digest for blob in made.blobs)]):
        for blob in made.blobs:
            store.put_blob(blob, Memory(NEW, b"{}"), ignore)
        store.put_document(made, "new")


def pack(store: Store) -> None:
    origin = fs.Origin.open(store.root.parent / "file.gguf")
    try:
        with store.lease() as lease:
            store.adopt(origin, ignore, copy=False, lease=lease)
            made = manifest(NEW)
            lease.add([made.digest, made.config.digest])
            store.put_bytes(b"{}")
            store.put_document(made, "new")
    finally:
        origin.close()


def prune(store: Store) -> None:
    sweep.prune(store)


def retag(store: Store) -> None:
    store.tag("new", store.document("old"))
    store.untag("new")


def view(store: Store) -> None:
    store.view(Digest.of(OLD), [("a/model.gguf", descriptor(OLD)), ("b.gguf", descriptor(OLD))])


def verify(store: Store) -> None:
    list(sweep.verify(store, threads=1))


OPERATIONS: dict[str, Callable[[Store], None]] = {one.__name__: one for one in (pull, pack, prune, retag, view, verify)}


class Trap:
    """Counts the calls and strikes at one of them."""

    def __init__(self, turn: int, fault: str) -> None:
        self.count = 0
        self._turn = turn
        self._fault = fault

    def set(self) -> None:
        for name in (*WRITING, *READING):
            setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count - 1 != self._turn:
                return real(*arguments, **options)
            if self._fault in FAULTS:
                raise OSError(FAULTS[self._fault], os.strerror(FAULTS[self._fault]), *arguments[:1])
            if name == "pwrite":
                real(arguments[0], arguments[1][: len(arguments[1]) // 2], *arguments[2:])  # torn
            os._exit(9)

        return call


def strike(folder: Path, operation: str, fault: str, turn: int) -> int:
    """Run the operation in a child with the fault at that call, and return the child's exit code."""
    store = prepare(folder)
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    trap = Trap(turn, fault)
    trap.set()
    code = 0
    try:
        OPERATIONS[operation](store)
    except LadingError:
        code = 3
    except BaseException:  # noqa: BLE001 - the finding itself
        import traceback  # noqa: PLC0415 - only then

        traceback.print_exc()
        code = 70
    os._exit(100 if trap.count <= turn else code)


def main() -> None:
    folder, operation, fault = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    turn = 0
    while True:
        (folder / str(turn)).mkdir()
        code = strike(folder / str(turn), operation, fault, turn)
        if code == 100:
            break
        sys.stdout.write(f"{turn} {code}\n")
        turn += 1
    sys.stdout.write(f"calls {turn}\n")


if __name__ == "__main__":
    main()
