"""The reserve: a little space set aside, so that on a full disk names can be dropped and blobs freed.

Dropping a name writes the index anew beside the old one, and using a model writes a lease: both need space when
there is none. The reserve is given up for them, and set aside again when there is space.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from lading import fs
from lading.errors import AccessDeniedError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

RESERVED = 256 * 1024
_PLENTY = 4 * RESERVED


class Reserve:
    """The reserve of one store, the file `reserve` in its folder."""

    __slots__ = ("_path", "_root", "_staging")

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "reserve"
        self._staging = root / "ingest" / "reserve"

    def fill(self) -> None:
        """Set the space aside, unless it is or there is none to spare."""
        # The store is as good without it: no failure here is one of the command.
        with suppress(NoSpaceError, AccessDeniedError):
            if not self._path.exists() and fs.free_bytes(self._root) >= _PLENTY:
                # Noise, for file systems that would store zeros in no space at all.
                fs.atomic_write(self._path, os.urandom(RESERVED), mode=0o600, staging=self._staging)

    def lend(self, work: Callable[[], T]) -> T:
        """Do some work, once more without the reserve if there is no space for it; it must bear to be repeated.

        Raises NoSpaceError, naming the store, when that does not help.
        """
        try:
            return work()
        except NoSpaceError:
            fs.remove(self._path)
        try:
            return work()
        except NoSpaceError as error:
            msg = f"the disk is full: no space left in the store {self._root}"
            raise NoSpaceError(msg, hint="free some space outside of the store and repeat") from error
