"""Named files for runtimes: `models/<digest>/`, links to blobs, never copies.

Made from a list of names and digests. A name is checked segment by segment before it becomes a path.
"""

from __future__ import annotations

import os
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


def make_view(root: Path, blobs: Blobs, digest: Digest, files: Iterable[tuple[str, Descriptor]]) -> Path:
    """Make, or complete, the folder of a model's files and return it.

    Every blob is opened, and so held to its record, before its name is given out: a linked file that
    was changed raises IntegrityError. A name is a hard link, else a symbolic link.
    """
    folder = root / "models" / digest.file_name
    for name, blob in files:
        os.close(blobs.open_file(blob.digest, blob.size))
        link = folder.joinpath(*safe_parts(name))
        path = blobs.path(blob.digest)
        if link.exists() and link.samefile(path):
            continue
        fs.make_folder(link.parent)
        fs.remove(link)
        if not blobs.give_name(blob.digest, link):
            fs.symbolic_link(Path(os.path.relpath(path, link.parent)), link)
    return folder


def safe_parts(name: str) -> tuple[str, ...]:
    """Split a relative file name with forward slashes; raises FormatError for any that could lead elsewhere."""
    parts = PurePosixPath(name).parts
    bad = (
        not parts
        or name.startswith("/")
        or "\\" in name
        or any(part in ("..", ".") or len(part.encode("utf-8", "replace")) > _MAX_SEGMENT for part in parts)
        or any(ord(char) < ord(" ") or char == "\x7f" for char in name)
    )
    if bad:
        msg = f"the file name {name[:80]!r} leads out of the model's folder or cannot be one"
        raise FormatError(msg, hint="the artifact is malformed or hostile; nothing was written")
    return parts
