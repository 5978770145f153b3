"""What steps of builds made, by what they were made of: small records, whose digests are kept from collection."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from lading import fs
from lading.digest import Digest
from lading.errors import BusyError, FormatError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MENTION = re.compile(rb"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})")
_KEY = re.compile(r"[0-9a-f]{64}")
_POLL_SECONDS = 0.1


class BuildCache:
    """Records under keys of 64 hexadecimal digits; each appears whole or not at all."""

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> bytes | None:
        """Return a record; None where there is none."""
        path = self._path(key)
        try:
            with fs.os_errors(path):
                return path.read_bytes()
        except NotFoundError:
            return None

    def write(self, key: str, record: bytes) -> None:
        """Keep a record; from then on no collection frees what it mentions."""
        fs.make_folder(self._folder)
        fs.atomic_write(self._path(key), record)

    @contextmanager
    def making(self, key: str, check: Callable[[], None]) -> Iterator[Path]:
        """Yield an empty folder of the store for whoever makes what the key is for; others wait meanwhile.

        `check` is called while waiting, and may raise to give up. The folder goes at the end, with all in it.
        """
        fs.make_folder(self._folder)
        with ExitStack() as stack:
            while True:
                check()
                try:
                    folder = stack.enter_context(fs.scratch(self._path(key)))
                    break
                except BusyError:
                    time.sleep(_POLL_SECONDS)
            yield folder

    def mentioned(self) -> Iterator[Digest]:
        """Yield every digest that a record mentions."""
        for path in self._records():
            with fs.os_errors(path):
                raw = path.read_bytes()
            for mention in _MENTION.findall(raw):
                with suppress(FormatError):
                    yield Digest(mention.decode("ascii"))

    def drop(self) -> None:
        """Forget all records."""
        for path in self._records():
            fs.remove(path)

    def clear(self) -> None:
        """Remove what steps that were killed left behind."""
        fs.clear_scratch(self._folder)

    def _path(self, key: str) -> Path:
        assert _KEY.fullmatch(key)  # noqa: S101 - it becomes a file's name
        return self._folder / f"{key}.json"

    def _records(self) -> list[Path]:
        with fs.os_errors(self._folder):
            return sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []
