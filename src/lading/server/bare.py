"""The watch over files that are served as they lie, without a store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from lading.errors import IntegrityError
from lading.fs import open_regular, os_errors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class FileWatch:
    """Holds files open; `check` raises IntegrityError once one of them was written to. A context manager.

    Who puts another file in the place of one changes nothing: the runtime goes on with the one it opened.
    """

    __slots__ = ("_held", "_paths")

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._held: list[tuple[Path, int, tuple[int, int]]] = []

    def __enter__(self) -> Self:
        try:
            for path in self._paths:
                descriptor = open_regular(path)
                self._held.append((path, descriptor, _times(path, descriptor)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        while self._held:
            os.close(self._held.pop()[1])

    def check(self) -> None:
        """Raise IntegrityError, naming the file, if one has another size or time of its last change."""
        for path, descriptor, before in tuple(self._held):
            if _times(path, descriptor) != before:
                msg = f"{path} was changed while it was served"
                raise IntegrityError(msg, hint="serve it again when nothing writes to it")


def _times(path: Path, descriptor: int) -> tuple[int, int]:
    with os_errors(path):
        status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns
