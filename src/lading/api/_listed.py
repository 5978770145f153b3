"""What hubs listed a moment ago: a second look at a repository need not ask again, and can be had offline."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import msgspec

from lading import fs
from lading.errors import LadingError
from lading.fit.cache import read_small

if TYPE_CHECKING:
    from pathlib import Path

    from lading.reference import Hub
    from lading.transport.listing import Listing

FRESH = 300
"""Seconds for which a list of files stands for the repository, unless that was named by its commit."""

_LARGEST = 4 * 1024 * 1024
_MOST_FILES = 4096
_COMMITS = (40, 64)
_VERSION = 1


class Listed(msgspec.Struct, frozen=True, array_like=True):
    """A file of a repository; `sha256` is "" where the hub does not tell it."""

    path: str
    size: int
    sha256: str = ""
    git_sha1: str = ""
    xet: bool = False


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a repository at a commit, as its hub listed them at a time, in seconds."""

    version: int
    asked: str
    time: float
    source: str
    revision: str
    files: tuple[Listed, ...]


class Listings:
    """The lists of one store, a file for each repository."""

    def __init__(self, folder: Path, *, stale: bool) -> None:
        """`stale` says that an old list is better than none, as offline."""
        self._folder = folder / "listings"
        self._stale = stale

    def get(self, reference: Hub, endpoint: str) -> Repository | None:
        """Return what was listed of a repository at its revision; None where that is too old, or not what we write."""
        asked = _asked(reference, endpoint)
        try:
            found = _DECODER.decode(read_small(self._path(asked), _LARGEST))
        except (LadingError, msgspec.MsgspecError, UnicodeError, RecursionError):
            return None
        if found.version != _VERSION or found.asked != asked or any(file.size < 0 for file in found.files):
            return None
        pinned = len(reference.revision or "") in _COMMITS and reference.revision == found.revision
        return found if pinned or self._stale or 0 <= time.time() - found.time < FRESH else None

    def put(self, reference: Hub, endpoint: str, listing: Listing) -> Repository:
        """Keep a list and return it; a store that cannot be written to stays as it is."""
        asked = _asked(reference, endpoint)
        found = Repository(
            version=_VERSION,
            asked=asked,
            time=time.time(),
            source=listing.source,
            revision=listing.revision,
            files=tuple(
                Listed(file.path, file.size, str(file.digest or ""), file.git_sha1, file.xet) for file in listing.files
            ),
        )
        if len(found.files) > _MOST_FILES:
            return found
        try:
            fs.make_folder(self._folder)
            fs.atomic_write(self._path(asked), msgspec.json.encode(found))
        except LadingError:
            # A store that is read-only, or a full disk: the next time the hub is asked again.
            return found
        return found

    def _path(self, asked: str) -> Path:
        return self._folder / f"{hashlib.sha256(asked.encode()).hexdigest()}.json"


def _asked(reference: Hub, endpoint: str) -> str:
    return f"{endpoint} {reference.hub}://{reference.owner}/{reference.repository}@{reference.revision or ''}"


_DECODER = msgspec.json.Decoder(Repository)
