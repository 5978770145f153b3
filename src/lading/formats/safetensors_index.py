"""The index of a safetensors model in several files: `model.safetensors.index.json` (transformers)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading.errors import FormatError
from lading.formats.foreign import ENOUGH, hint_for
from lading.formats.json_cursor import JsonCursor
from lading.formats.quote import quote

if TYPE_CHECKING:
    from collections.abc import Collection

    from lading.content import RangeReader

MAX_INDEX = 64 * 1024 * 1024
"""Bytes; that of a model with 92,000 tensors has 9 million."""

MAX_SHARDS = 16_384
"""Models have up to some hundreds."""

_MAX_NAME = 4096
_MAX_FILE_NAME = 255
_MAX_STRING = 1024 * 1024
_NAMED = 5


def read_index(reader: RangeReader, present: Collection[str]) -> tuple[str, ...]:
    """Return the names of the model's files, sorted, each in the index's own folder and among `present`.

    Raises FormatError if the index is malformed, names a file outside its folder, or names files that are not there.
    """
    shards = _read_shards(reader)
    missing = sorted(shards.difference(present))
    if missing:
        named = ", ".join(quote(name) for name in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        verb = "is" if len(missing) == 1 else "are"
        msg = f"{reader.name} names {len(shards)} files, of which {named}{more} {verb} missing"
        raise FormatError(msg, hint="a split model needs all its files in one place")
    return tuple(sorted(shards))


def _read_shards(reader: RangeReader) -> set[str]:
    head = reader.read_at(0, ENOUGH)
    if reader.size > MAX_INDEX:
        msg = f"{reader.name} is {reader.size} bytes long; {MAX_INDEX} are the most read of an index"
        raise FormatError(msg, hint=hint_for(head))
    if not head.lstrip().startswith(b"{"):
        msg = f"{reader.name} is not a safetensors index"
        raise FormatError(msg, hint=hint_for(head) if head else "it is empty: fetch it again")
    cursor = JsonCursor(reader, 0, reader.size, reader.name)
    shards: set[str] | None = None
    cursor.take("{")
    going = "," if cursor.peek() != "}" else cursor.take("}")
    while going == ",":
        key = cursor.string(_MAX_NAME)
        cursor.take(":")
        if key != "weight_map":
            cursor.skip_value(_MAX_STRING)
        elif shards is not None:
            cursor.fail("has weight_map twice")
        else:
            shards = _read_weight_map(cursor)
        going = cursor.take(",}")
    cursor.finish()
    if not shards:
        cursor.fail("names no files: it has no weight_map")
    return shards


def _read_weight_map(cursor: JsonCursor) -> set[str]:
    shards: set[str] = set()
    cursor.take("{")
    going = "," if cursor.peek() != "}" else cursor.take("}")
    while going == ",":
        cursor.string(_MAX_NAME)
        cursor.take(":")
        shard = cursor.string(_MAX_NAME)
        if shard not in shards:
            _check_name(cursor, shard)
            shards.add(shard)
            if len(shards) > MAX_SHARDS:
                cursor.fail(f"names more than the {MAX_SHARDS} files that are read")
        going = cursor.take(",}")
    return shards


def _check_name(cursor: JsonCursor, shard: str) -> None:
    """Refuse what is not the plain name of a file in the index's own folder (CWE-22)."""
    unsafe = shard in {"", ".", ".."} or "/" in shard or "\\" in shard or not shard.isprintable()
    if unsafe or len(shard.encode()) > _MAX_FILE_NAME:
        cursor.fail(f"names {quote(shard)}, which is not the plain name of a file beside it")
