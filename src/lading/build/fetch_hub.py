"""Files of a hub's repository for a step: at one commit, held to the digests that the hub lists."""

from __future__ import annotations

import posixpath
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from lading import copy, media
from lading import reference as refs
from lading.build.bench import Stopping, described
from lading.build.outcome import Held
from lading.digest import Digest
from lading.errors import NotFoundError
from lading.events import Noted
from lading.recipe.sources import pinned
from lading.text import clean
from lading.transport import open_hub
from lading.transport.choice import choose
from lading.transport.listing import ListedSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.build.bench import Bench
    from lading.recipe.sources import Hub
    from lading.transport.listing import ListedFile, Repository

_GLOB = "*?["


def fetch_hub(source: Hub, bench: Bench) -> tuple[dict[str, Held], bool]:
    """Return the files that a source names, by their paths, and whether all were here.

    A repository that is asked for by its commit is not asked again for files that are here. Raises NotFoundError for
    what it does not have, IntegrityError for bytes that are not as listed.
    """
    reference = refs.Hub(source.hub, source.owner, source.repository, None, source.revision)

    def ask() -> str:
        return open_hub(reference, bench.config, bench.client(), insecure=bench.insecure).revision()

    name = f"{source.hub}://{source.owner}/{source.repository}"
    asked = f"{name}@{source.revision}" if source.revision else name
    commit = source.revision if pinned(source) and source.revision else bench.resolved(asked, ask)
    of = described("hub", name, commit, source.pattern, source.folder)
    found = bench.recall(of)
    if found is not None:
        return found, True
    exact = refs.Hub(source.hub, source.owner, source.repository, None, commit)
    hub = open_hub(exact, bench.config, bench.client(), insecure=bench.insecure)
    files = _fetched(source, hub, bench)
    bench.keep(of, files)
    return files, False


def _fetched(source: Hub, hub: Repository, bench: Bench) -> dict[str, Held]:
    listing = hub.listing()
    wanted = _select(source, listing.names, bench)
    listed = ListedSource(hub, bench.client(), listing, wanted)
    bench.lease.add(listed.digests.values())

    def hold(_file: ListedFile, data: bytes) -> None:
        bench.check()
        bench.lease.add([Digest.of(data)])
        bench.store.put_bytes(data)

    listed.settle(hold)
    blobs = {file.path: listed.blob(file) for file in listed.files}
    # With the name, by which progress is told.
    missing = {
        blob.digest: msgspec.structs.replace(blob, annotations={media.TITLE: path})
        for path, blob in blobs.items()
        if not bench.store.has(blob)
    }
    bench.store.require_space(sum(blob.size for blob in missing.values()))
    copy.move(tuple(missing.values()), listed, Stopping(bench), bench.reporter, frozenset(missing))
    root = f"{source.folder.strip('/')}/" if source.folder else ""
    return {path.removeprefix(root): Held(blob.digest, blob.size) for path, blob in blobs.items()}


def _select(source: Hub, names: tuple[str, ...], bench: Bench) -> tuple[str, ...]:
    """Return the paths of what a source names: a folder, a file, a pattern, or a quantization."""
    name = f"{source.hub}://{source.owner}/{source.repository}"
    if source.folder:
        folder = f"{posixpath.normpath(source.folder.strip('/'))}/"
        names = tuple(path for path in names if path.startswith(folder))
    pattern = source.pattern
    if pattern is None:
        found = names
    elif any(char in pattern for char in _GLOB):
        # A pattern without a folder is for names, wherever they lie.
        found = tuple(
            path for path in names if fnmatchcase(path if "/" in pattern else posixpath.basename(path), pattern)
        )
    elif pattern in names:
        found = (pattern,)
    else:
        choice = choose(names, pattern, name)
        for text in choice.told:
            bench.reporter.emit(Noted(text))
        found = choice.names
    if not found:
        what = clean(pattern or source.folder or "files")
        msg = f"{name} has no `{what}`"
        raise NotFoundError(msg, hint="check how it is written, and at which revision it is there")
    return found


def is_one_file(source: Hub, files: Mapping[str, Held]) -> bool:
    """Say whether a source names a single file by its path."""
    return source.pattern is not None and list(files) == [source.pattern]
