"""The header of a GGUF file, versions 2 and 3, of either byte order (ggml's gguf.md).

The walk is lazy: scalars, strings and tensors are decoded, arrays only located, so that a vocabulary costs a
pass over its lengths and no memory. Nested arrays are refused, as by every loader.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from lading.errors import FormatError, NotFoundError
from lading.formats.foreign import ENOUGH, hint_for
from lading.formats.gguf_cursor import HINT, GgufCursor
from lading.formats.gguf_tensors import MAX_TENSORS, TENSOR_AT_LEAST, place, read_tensors
from lading.formats.gguf_types import ARRAY, BOOL, FILE_TYPES, SCALARS, STRING
from lading.formats.quote import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.content import RangeReader
    from lading.formats.tensor import Tensor

MAX_HEADER = 64 * 1024 * 1024
"""Bytes; three times the largest headers seen (vocabularies of 260,000 tokens). Walked in less than a second."""

MAX_KEYS = 16_384
"""Models have some 30 to 60. The spec sets no limit."""

MAX_TEXT = 8 * 1024 * 1024
"""Bytes of keys, names and string values together, which are decoded at once and may take four times that."""

MAX_KEY = 65_535
"""Bytes; the spec's limit."""

MAX_DECODED = 1024 * 1024
"""Elements of an array decoded at once; vocabularies and their merges stay below it."""

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_KEY_AT_LEAST = 14
_DEFAULT_ALIGNMENT = 32

Scalar = int | float | bool | str


class ArrayRef(NamedTuple):
    """Where an array of `length` elements lies: the first at `offset`, all of them `size` bytes long.

    `type` is the spec's name of the element type. `read_array` decodes it, from `raw` if that was kept.
    """

    type: str
    length: int
    offset: int
    size: int
    raw: bytes | None = None


class Split(NamedTuple):
    """Which of `parts` files of a model this one is: `number` counts from 0, `tensors` is the whole model's or None."""

    number: int
    parts: int
    tensors: int | None


class GgufHeader(NamedTuple):
    """What the header of the file called `name` says. Sizes and offsets in bytes.

    `metadata` keeps the file's order; floats in it may be infinite or NaN, and what was not UTF-8 in a string value
    is U+FFFD. `data_offset` is where tensor data begins; it may lie beyond the end of a file without tensors.
    `kinds` are the numbers of the types that the values in `metadata` have, `tensors_at` is where the table of tensors
    begins.
    """

    name: str
    version: int
    little_endian: bool
    metadata: Mapping[str, Scalar | ArrayRef]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int
    file_size: int
    kinds: Mapping[str, int] = {}
    tensors_at: int = 0

    @property
    def parameters(self) -> int:
        """The elements of all tensors together."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def data_size(self) -> int:
        """The bytes of all tensors together, without padding."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of tensor data for each parameter; None without parameters."""
        return 8 * self.data_size / self.parameters if self.parameters else None

    @property
    def file_type(self) -> str | None:
        """The name of `general.file_type`, such as "Q4_K_M"; None if it is absent or unknown."""
        number = self.metadata.get("general.file_type")
        return FILE_TYPES.get(number) if isinstance(number, int) else None

    @property
    def split(self) -> Split | None:
        """Which part of a split model this is; None if it is whole."""
        number, count = self.metadata.get("split.no"), self.metadata.get("split.count")
        if not isinstance(number, int) or not isinstance(count, int) or count <= 1:
            return None
        tensors = self.metadata.get("split.tensors.count")
        return Split(number, count, tensors if isinstance(tensors, int) else None)


def read_header(reader: RangeReader) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Raises FormatError, naming the file, if it is not GGUF, is cut short anywhere (its tensor data included),
    breaks a rule of the format or exceeds a limit of this module.
    """
    cursor = GgufCursor(reader, 0, min(reader.size, MAX_HEADER), order="<", text=MAX_TEXT)
    version = _read_version(cursor, reader)
    n_tensors = _count(cursor, reader, "tensors", MAX_TENSORS)
    n_keys = _count(cursor, reader, "metadata keys", MAX_KEYS)
    if cursor.offset + n_keys * _KEY_AT_LEAST + n_tensors * TENSOR_AT_LEAST > reader.size:
        raise cursor.cut()
    metadata, kinds = _read_metadata(cursor, reader, n_keys)
    tensors_at = cursor.offset
    alignment = _alignment(metadata, reader)
    entries = read_tensors(cursor, reader.name, n_tensors)
    data_offset = -(-cursor.offset // alignment) * alignment
    _check_split(metadata, reader)
    return GgufHeader(
        name=reader.name,
        version=version,
        little_endian=cursor.order == "<",
        metadata=metadata,
        tensors=place(entries, reader, data_offset, alignment),
        alignment=alignment,
        data_offset=data_offset,
        file_size=reader.size,
        kinds=kinds,
        tensors_at=tensors_at,
    )


def read_array(reader: RangeReader, header: GgufHeader, key: str, *, limit: int | None = None) -> list[Scalar]:
    """Decode the array `key`, or its first `limit` elements. Small ones (4 KiB) are not read again.

    Raises NotFoundError if the header has no such array, FormatError if it is longer than MAX_DECODED and no `limit`
    is given, or if the file has changed.
    """
    ref = header.metadata.get(key)
    if not isinstance(ref, ArrayRef):
        msg = f"{header.name} has no array {quote(key)} in its metadata"
        raise NotFoundError(msg)
    count = ref.length if limit is None else max(0, min(limit, ref.length))
    if count > MAX_DECODED:
        msg = f"array {quote(key)} of {header.name} has {ref.length} elements; {MAX_DECODED} are the most decoded"
        raise FormatError(msg)
    order = "<" if header.little_endian else ">"
    cursor = GgufCursor(reader, ref.offset, ref.offset + ref.size, order=order, text=MAX_HEADER)
    if ref.raw is not None:
        cursor.preload(ref.raw)
    if ref.type == "STRING":
        return [cursor.string(MAX_TEXT, "a string").decode("utf-8", "replace") for _ in range(count)]
    code = next(code for name, code, _ in SCALARS.values() if name == ref.type)
    packed = Struct(f"{order}{count}{code}")
    values = packed.unpack(cursor.take(packed.size))
    return [value != 0 for value in values] if ref.type == "BOOL" else list(values)


def _read_version(cursor: GgufCursor, reader: RangeReader) -> int:
    if not reader.size:
        msg = f"{reader.name} is empty"
        raise FormatError(msg, hint="perhaps its download never began: fetch it again")
    head = reader.read_at(0, ENOUGH) if reader.size < len(_MAGIC) else cursor.peek(min(ENOUGH, reader.size))
    if not _MAGIC.startswith(head[: len(_MAGIC)]):
        msg = f"{reader.name} is not a GGUF file"
        raise FormatError(msg, hint=hint_for(head))
    cursor.take(len(_MAGIC))
    raw = cursor.take(4)
    version = int.from_bytes(raw, "little")
    swapped = int.from_bytes(raw, "big")
    if version not in _VERSIONS and 0 < swapped < version:
        cursor.use_order(">")
        version = swapped
    if version not in _VERSIONS:
        msg = f"{reader.name} has GGUF version {version}; 2 and 3 are read"
        old = "version 1 was in use for some days of August 2023; convert the original model again"
        raise FormatError(msg, hint=old if version == 1 else HINT)
    return version


def _count(cursor: GgufCursor, reader: RangeReader, what: str, limit: int) -> int:
    count = cursor.u64()
    if count > limit:
        msg = f"{reader.name} claims to have {count} {what}; {limit} are the most read"
        raise FormatError(msg, hint=HINT)
    return count


def _read_metadata(
    cursor: GgufCursor, reader: RangeReader, count: int
) -> tuple[dict[str, Scalar | ArrayRef], dict[str, int]]:
    u32 = Struct(cursor.order + "I")
    scalars = {number: Struct(cursor.order + code) for number, (_, code, _) in SCALARS.items()}
    metadata: dict[str, Scalar | ArrayRef] = {}
    kinds: dict[str, int] = {}
    for _ in range(count):
        key = cursor.text(MAX_KEY, "a metadata key")
        if not key or key in metadata:
            msg = f"{reader.name} has metadata key {quote(key)} twice" if key else f"{reader.name} has an empty key"
            raise FormatError(msg, hint=HINT)
        (kind,) = cursor.unpack(u32)
        kinds[key] = kind
        if kind == ARRAY:
            metadata[key] = _read_array_ref(cursor, reader, u32, key)
        elif kind == STRING:
            metadata[key] = cursor.string(MAX_TEXT, f"the value of {quote(key)}").decode("utf-8", "replace")
        elif kind in scalars:
            (value,) = cursor.unpack(scalars[kind])
            metadata[key] = _bool(value, reader, key) if kind == BOOL else value
        else:
            msg = f"metadata key {quote(key)} of {reader.name} has the unknown value type {kind}"
            raise FormatError(msg, hint=HINT)
    return metadata, kinds


def _bool(value: int, reader: RangeReader, key: str) -> bool:
    if value > 1:
        msg = f"metadata key {quote(key)} of {reader.name} is neither true nor false: {value}"
        raise FormatError(msg, hint=HINT)
    return value == 1


def _read_array_ref(cursor: GgufCursor, reader: RangeReader, u32: Struct, key: str) -> ArrayRef:
    (kind,) = cursor.unpack(u32)
    count = cursor.u64()
    start = cursor.offset
    if kind == STRING:
        cursor.skip_strings(count)
        size = cursor.offset - start
        raw = cursor.kept(start) if cursor.may_keep(size) else None
        return ArrayRef("STRING", count, start, size, raw)
    if kind not in SCALARS:
        words = "an array of arrays, which no loader reads" if kind == ARRAY else f"an array of unknown type {kind}"
        msg = f"metadata key {quote(key)} of {reader.name} is {words}"
        raise FormatError(msg, hint=HINT)
    name, _, width = SCALARS[kind]
    size = count * width
    if cursor.may_keep(size):
        return ArrayRef(name, count, start, size, cursor.take(size))
    cursor.skip(size)
    return ArrayRef(name, count, start, size)


def _alignment(metadata: Mapping[str, Scalar | ArrayRef], reader: RangeReader) -> int:
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(value) is not int or not 0 < value < 2**32 or value & (value - 1):
        shown = "an array" if isinstance(value, ArrayRef) else quote(value)
        msg = f"{reader.name} has general.alignment {shown}; it must be a power of two below 2**32"
        raise FormatError(msg, hint=HINT)
    return value


def _check_split(metadata: Mapping[str, Scalar | ArrayRef], reader: RangeReader) -> None:
    number, count = metadata.get("split.no"), metadata.get("split.count")
    if isinstance(number, int) and isinstance(count, int) and count and not 0 <= number < count:
        msg = f"{reader.name} says that it is part {number} (from 0) of {count}"
        raise FormatError(msg, hint=HINT)
