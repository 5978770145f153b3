"""Headers that were read before, by digest: what an estimate needs of each, in one file that can be thrown away.

What it holds is checked like a stranger's: a damaged or forged file costs a second reading, and changes no figure that its
writer could not have changed by writing to the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lading import fs
from lading.errors import LadingError

if TYPE_CHECKING:
    from pathlib import Path

_VERSION = 1
_MOST = 512
_LARGEST = 16 * 1024 * 1024


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What was read of one header: its outline, its quantization, and which part of a split model it is (from 0, of how many).

    `kind` is what it says it is instead of a model, "" for one.
    """

    outline: str
    label: str = ""
    part: tuple[int, int] = (0, 1)
    kind: str = ""


class _File(msgspec.Struct, frozen=True):
    version: int
    headers: dict[str, Known]


class HeaderCache:
    """The headers of one store, read when first asked for and written once, by `save`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "headers.json"
        self._known: dict[str, Known] | None = None
        self._fresh: dict[str, Known] = {}

    def get(self, key: str) -> Known | None:
        """Return what was read under a key; None if nothing was, or the file is not what this version writes."""
        if self._known is None:
            self._known = self._read()
        return self._known.get(key)

    def put(self, key: str, known: Known) -> None:
        """Remember what was read; for one thread."""
        self._fresh[key] = known

    def save(self) -> None:
        """Write what is new, beside what others wrote meanwhile; a store that cannot be written to stays as it is."""
        if not self._fresh:
            return
        merged = {**self._read(), **self._fresh}
        kept = dict(list(merged.items())[-_MOST:])
        self._fresh = {}
        try:
            fs.make_folder(self._path.parent)
            fs.atomic_write(self._path, msgspec.json.encode(_File(_VERSION, kept)))
        except LadingError:
            # A store that is read-only, or a full disk: the next time they are read again.
            return

    def _read(self) -> dict[str, Known]:
        try:
            file = _DECODER.decode(read_small(self._path, _LARGEST))
        except (LadingError, msgspec.MsgspecError, UnicodeError, RecursionError):
            return {}
        return file.headers if file.version == _VERSION else {}


def read_small(path: Path, limit: int) -> bytes:
    """Return a regular file of at most `limit` bytes, and nothing of a longer one; raises LadingError."""
    descriptor = fs.open_regular(path, follow=False)
    with fs.os_errors(path), open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        data = file.read(limit + 1)
    return data if len(data) <= limit else b""


_DECODER = msgspec.json.Decoder(_File)
