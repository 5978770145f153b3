"""OCI image layouts of other tools, as Source and Target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lading import fs
from lading.digest import Digest
from lading.errors import FormatError, NotFoundError, UsageError
from lading.plan import of_formats
from lading.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.reference import Layout

_WORK = ".lading"


def open_layout(reference: Layout) -> Store:
    """Open the layout in a folder; reading one that is not there raises NotFoundError later, by name."""
    root = Path(reference.path).expanduser()
    return Store(root, work=root / _WORK)


def only_tag(layout: Store, reference: Layout) -> str:
    """Return the name to read from a layout: the one asked for, else the only one there is.

    A single entry without a name is given by its digest, as skopeo writes it when no tag was named; a model in several
    formats is single.
    Raises NotFoundError for a tag that is not there, UsageError if one has to be said, both with the names that are there;
    FormatError where there is none.
    """
    if not (layout.root / "index.json").exists():
        msg = f"{reference.path} is no OCI image layout: it has no index.json"
        raise NotFoundError(msg, hint="a layout is a folder with oci-layout, index.json and blobs")
    names = [tag.name for tag in layout.tags()]
    if reference.tag is not None:
        if reference.tag not in names:
            msg = f"the layout {reference.path} has no tag `{reference.tag}`; it has {', '.join(names[:8]) or 'none'}"
            raise NotFoundError(msg)
        return reference.tag
    roots = layout.index.roots()
    if not roots:
        msg = f"the layout {reference.path} holds no model"
        raise FormatError(msg, hint="its index is empty")
    if len(roots) > 1:
        if len(names) == len(roots) and (main := of_formats(names, layout.document)):
            return main
        msg = f"the layout {reference.path} holds {len(roots)} models: {', '.join(names[:8])}"
        raise UsageError(msg, hint=f"name one, as in oci-layout:{reference.path}:{names[0] if names else 'TAG'}")
    return names[0] if names else str(roots[0].digest)


def tidy(layout: Store) -> None:
    """Remove what writing needed beside the layout's own files, when nobody else uses it.

    What a killed writer left of a blob stays as long as another one could take it up.
    """
    if layout.work != layout.root and layout.work.is_dir():
        with fs.Lock(layout.gate, "the layout"):
            busy = any(fs.read_if_locked(lease) is not None for lease in layout.leases.glob("*.lease"))
            for part in tuple(_parts(layout)):
                if not _can_go_on(part.name):
                    fs.remove_if_idle(part)
            if not busy and not any(_parts(layout)):
                fs.remove_tree(layout.work)


def _parts(layout: Store) -> Iterator[Path]:
    # Who was killed at making or removing the folders left some of them.
    folder = layout.work / "ingest"
    return folder.iterdir() if folder.is_dir() else iter(())


def _can_go_on(part: str) -> bool:
    """Say whether a part is named by the digest of the blob that it is to become."""
    try:
        Digest(part.replace("-", ":", 1))
    except FormatError:
        return False
    return True
