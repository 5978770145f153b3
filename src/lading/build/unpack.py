"""Archives that a step unpacks: their files become blobs, once."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from lading.artifact.contents import FileReader
from lading.artifact.layers import Archive, Walk, files_of, list_archives, part_of
from lading.build.bench import described
from lading.formats.archive import Compression
from lading.model import Role

if TYPE_CHECKING:
    from lading.build.bench import Bench
    from lading.build.outcome import Held

_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5\x2f\xfd": Compression.ZSTD}
_TAR_AT, _TAR = 257, b"ustar"


def unpack(held: Held, bench: Bench) -> tuple[dict[str, Held], bool] | None:
    """Return an archive's files by their paths in it, and whether they were here; None for what is no archive."""
    compression = _compression(held, bench)
    if compression is None:
        return None
    of = described("unpack", held.digest)
    known = bench.recall(of)
    if known is not None:
        return known, True
    archive = Archive(bench.descriptor(held), compression)
    listing = list_archives([archive], bench.store)
    kept = {entry.offset for entry in files_of(archive, listing)}
    files = {}
    with closing(Walk(archive, bench.store)) as walk:
        for entry in walk:
            if entry.offset in kept and entry.kind == "file":
                part = part_of(archive, entry, Role.OTHER, entry.name)
                files[entry.name] = bench.receive(entry.name, entry.size, FileReader(walk, part, keep=True))
    bench.keep(of, files)
    return files, False


def _compression(held: Held, bench: Bench) -> Compression | None:
    """Return how an archive is compressed; None for what is no archive."""
    with closing(bench.store.ranges(bench.descriptor(held))) as reader:
        head = reader.read_at(0, 512)
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return Compression.NONE
    found = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if found is None:
        return None
    from lading.formats.archive import decompressed  # noqa: PLC0415 - the compressors are seldom needed

    with closing(decompressed(bench.store.open(bench.descriptor(held)), found, "the archive")) as reader:
        data = reader.read(512) or b""
    return found if data[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR else None
