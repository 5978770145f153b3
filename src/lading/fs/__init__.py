"""Files that survive: the one room that writes to disk.

A file appears under its name whole or not at all: written beside it, synced, renamed, and the
folder synced. Locks are flock(2) locks, shared or exclusive, on files that are never deleted
while in use; the kernel drops them with their process, so none is ever stale.
"""

from __future__ import annotations

from lading.fs.lock import Lock, read_if_locked, remove_if_idle, try_lock
from lading.fs.names import (
    clone,
    free_bytes,
    hard_link,
    make_folder,
    move_durably,
    remove,
    remove_tree,
    symbolic_link,
    sync_folder,
)
from lading.fs.partial import SYNCED_EACH, SYNCED_FINELY, Partial, atomic_write
from lading.fs.scratch import check_space, clear_scratch, put, scratch, written_back
from lading.ranges import Origin, as_lading_error, open_regular, os_errors, settled

__all__ = [
    "SYNCED_EACH",
    "SYNCED_FINELY",
    "Lock",
    "Origin",
    "Partial",
    "as_lading_error",
    "atomic_write",
    "check_space",
    "clear_scratch",
    "clone",
    "free_bytes",
    "hard_link",
    "make_folder",
    "move_durably",
    "open_regular",
    "os_errors",
    "put",
    "read_if_locked",
    "remove",
    "remove_if_idle",
    "remove_tree",
    "scratch",
    "settled",
    "symbolic_link",
    "sync_folder",
    "try_lock",
    "written_back",
]
