"""Named files for runtimes: `models/<digest>/`, links to blobs, never copies.

Made from a list of names and digests. A name is checked segment by segment before it becomes a path.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lading import fs
from lading.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lading.digest import Digest
    from lading.manifest import Descriptor
    from lading.store.blobs import Blobs

_MAX_SEGMENT = 255
_MAX_NAME = 1024


def make_view(root: Path, blobs: Blobs, digest: Digest, files: Iterable[tuple[str, Descriptor]]) -> Path:
    """Make, or complete, the folder of a model's files and return it.

    Every blob is opened, and so held to its record, before its name is given out: a linked file that
    was changed raises IntegrityError. A name is a hard link, else a symbolic link. A view that is whole
    is not written to. Raises FormatError, with nothing written, for names that lead elsewhere or clash.
    """
    folder = root / "models" / digest.file_name
    wanted = _places(files)
    for blob in wanted.values():
        os.close(blobs.open_file(blob.digest, blob.size))
    links = {folder.joinpath(*parts): blob for parts, blob in wanted.items()}
    if all(_leads(link, blobs.path(blob.digest)) for link, blob in links.items()):
        return folder
    fs.make_folder(root / "locks")
    with fs.Lock(root / "locks" / "models", "the store's folder of models"):
        for link, blob in links.items():
            if not _leads(link, blobs.path(blob.digest)):
                _make_link(blobs, blob.digest, link)
    return folder


def safe_parts(name: str) -> tuple[str, ...]:
    """Split a relative file name with forward slashes; raises FormatError for any that could lead elsewhere."""
    parts = PurePosixPath(name).parts
    bad = (
        not parts
        or name.startswith("/")
        or "\\" in name
        or len(name) > _MAX_NAME
        # Control characters and lone surrogates: no terminal should see the first, no disk takes the second.
        or any(unicodedata.category(char) in ("Cc", "Cs") for char in name)
        or any(part == ".." or len(part.encode()) > _MAX_SEGMENT for part in parts)
    )
    if bad:
        msg = f"the file name {name[:80]!r} leads out of the model's folder or cannot be one"
        raise FormatError(msg, hint="the artifact is malformed or hostile; nothing was written")
    return parts


def folded(name: str) -> str:
    """Return what is the same for names that are one file on some disks: they differ in case or in composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _places(files: Iterable[tuple[str, Descriptor]]) -> dict[tuple[str, ...], Descriptor]:
    places: dict[tuple[str, ...], Descriptor] = {}
    taken: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name, blob in files:
        parts = safe_parts(name)
        if taken.setdefault(_key(parts), parts) != parts or places.setdefault(parts, blob).digest != blob.digest:
            raise _clash(name)
    for parts in places:
        for depth in range(1, len(parts)):
            if _key(parts[:depth]) in taken:
                raise _clash("/".join(parts[:depth]))
    return places


def _key(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(folded(part) for part in parts)


def _clash(name: str) -> FormatError:
    msg = f"two files of the model want the name {name[:80]!r}"
    return FormatError(msg, hint="the artifact is malformed; nothing was written")


def _leads(link: Path, blob: Path) -> bool:
    try:
        return link.samefile(blob)
    except FileNotFoundError:
        return False


def _make_link(blobs: Blobs, digest: Digest, link: Path) -> None:
    fs.make_folder(link.parent)
    fs.remove(link)
    if not blobs.give_name(digest, link):
        fs.symbolic_link(Path(os.path.relpath(blobs.path(digest), link.parent)), link)
