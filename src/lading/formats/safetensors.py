"""The header of a safetensors file (huggingface/safetensors, format.md in its README; reference 0.8).

Eight bytes of length, then a JSON object of tensors and text. It is read token by token in windows and never
as a whole, so that a hostile header costs neither memory nor depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.errors import FormatError
from lading.formats.foreign import ENOUGH, hint_for
from lading.formats.json_cursor import JsonCursor
from lading.formats.quote import quote
from lading.formats.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.content import RangeReader

MAX_HEADER = 100_000_000
"""Bytes; the reference's limit."""

MAX_TENSORS = 40_000
"""In one file; models of many experts have tens of thousands over all their files."""

MAX_NAME = 4096
"""Characters of a tensor's name or a metadata key."""

MAX_TEXT = 4 * 1024 * 1024
"""Characters of names and metadata together; adapters' training notes reach a megabyte."""

MAX_DIMENSIONS = 8
"""Weights have up to five or six."""

_LENGTH_BYTES = 8
_MAX_ENTRY = 8192
_MAX_ELEMENTS = 2**63 - 1
_HINT = "the file is cut short or damaged, perhaps by an interrupted download: fetch it again"
_DTYPE_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
_SPACE = r"[ \t\n\r]*+"
_NUMBER = r"(?:0|[1-9][0-9]{0,19}+)"
# Three members of which none is missing: no member twice, none unknown, in any order.
_ENTRY = re.compile(
    r'\{(?:~(?:"dtype"~:~"(?P<dtype>\w{1,32}+)"'
    r'|"shape"~:~\[~(?P<shape>(?:#(?:~,~#)*+)?+)~\]'
    r'|"data_offsets"~:~\[~(?P<start>#)~,~(?P<end>#)~\])~(?:,(?!~\})|(?=\}))){3}\}'.replace("~", _SPACE).replace(
        "#", _NUMBER
    ),
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """What the header of the file called `name` says. Sizes and offsets in bytes; tensors in the file's order."""

    name: str
    metadata: Mapping[str, str]
    tensors: tuple[Tensor, ...]
    data_offset: int
    file_size: int

    @property
    def parameters(self) -> int:
        """The elements of all tensors together, packed ones counted as they are stored."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def dtypes(self) -> dict[str, int]:
        """Each element type with its number of elements, the most frequent first."""
        counts: dict[str, int] = {}
        for tensor in self.tensors:
            counts[tensor.type] = counts.get(tensor.type, 0) + tensor.elements
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def dtype(self) -> str | None:
        """The element type with the most elements; None without tensors."""
        return next(iter(self.dtypes), None)


def read_header(reader: RangeReader) -> SafetensorsHeader:
    """Read and check the header of a safetensors file.

    Raises FormatError, naming the file, if it is not safetensors, is cut short or has bytes that belong to no
    tensor, breaks a rule of the format or exceeds a limit of this module.
    """
    head = reader.read_at(0, ENOUGH)
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    data_offset = _LENGTH_BYTES + length
    _check_length(reader, head, length)
    cursor = JsonCursor(reader, _LENGTH_BYTES, data_offset, f"the header of {reader.name}")
    metadata: dict[str, str] | None = None
    tensors: dict[str, Tensor] = {}
    left = MAX_TEXT
    cursor.take("{")
    if cursor.peek() == "}":
        cursor.take("}")
    else:
        going = ","
        while going == ",":
            name = cursor.string(min(MAX_NAME, left))
            left -= len(name)
            cursor.take(":")
            if name == "__metadata__" and metadata is None:
                metadata = _read_metadata(cursor, left)
                left -= sum(len(key) + len(value) for key, value in metadata.items())
            elif name == "__metadata__" or name in tensors:
                cursor.fail(f"has {quote(name)} twice")
            elif len(tensors) == MAX_TENSORS:
                cursor.fail(f"has more than the {MAX_TENSORS} tensors that are read")
            else:
                tensors[name] = _read_tensor(cursor, name, data_offset)
            going = cursor.take(",}")
    cursor.finish()
    listed = tuple(tensors.values())
    _check_places(listed, reader, data_offset)
    return SafetensorsHeader(reader.name, metadata or {}, listed, data_offset, reader.size)


def _check_length(reader: RangeReader, head: bytes, length: int) -> None:
    name = reader.name
    if not head:
        msg = f"{name} is empty"
        raise FormatError(msg, hint="perhaps its download never began: fetch it again")
    # The first byte of the JSON tells a damaged file from one that was never safetensors.
    if len(head) > _LENGTH_BYTES and head[_LENGTH_BYTES:][:1] != b"{":
        msg = f"{name} is not a safetensors file"
        raise FormatError(msg, hint=hint_for(head))
    if len(head) <= _LENGTH_BYTES or _LENGTH_BYTES + length > reader.size:
        msg = f"{name} ends within its header, after {reader.size} bytes"
        raise FormatError(msg, hint=_HINT)
    if length > MAX_HEADER:
        msg = f"{name} claims to have a header of {length} bytes; {MAX_HEADER} are the most read"
        raise FormatError(msg, hint=_HINT)


def _read_metadata(cursor: JsonCursor, left: int) -> dict[str, str]:
    metadata: dict[str, str] = {}
    cursor.take("{")
    if cursor.peek() == "}":
        cursor.take("}")
        return metadata
    going = ","
    while going == ",":
        key = cursor.string(min(MAX_NAME, left))
        left -= len(key)
        cursor.take(":")
        value = cursor.string(left)
        left -= len(value)
        if key in metadata:
            cursor.fail(f"has {quote(key)} twice in its metadata")
        if len(metadata) == MAX_TENSORS:
            cursor.fail(f"has more than the {MAX_TENSORS} keys of metadata that are read")
        metadata[key] = value
        going = cursor.take(",}")
    return metadata


def _read_tensor(cursor: JsonCursor, name: str, data_offset: int) -> Tensor:
    entry = cursor.match(_ENTRY, _MAX_ENTRY)
    if entry is None:
        cursor.fail(f"has an entry for tensor {quote(name)} that is not dtype, shape and data_offsets")
    dtype, dimensions, first, last = entry.group("dtype", "shape", "start", "end")
    bits = _DTYPE_BITS.get(dtype)
    if bits is None:
        cursor.fail(f"has tensor {quote(name)} of the unknown type {quote(dtype)}")
    shape = tuple(int(number) for number in dimensions.split(",")) if dimensions else ()
    start, end = int(first), int(last)
    if len(shape) > MAX_DIMENSIONS:
        cursor.fail(f"has tensor {quote(name)} of {len(shape)} dimensions; {MAX_DIMENSIONS} are the most read")
    tensor = Tensor(name, shape, dtype, data_offset + start, end - start)
    # Checked for each dimension too: a zero in the shape would hide an absurd one from the product.
    if tensor.elements > _MAX_ELEMENTS or any(dimension > _MAX_ELEMENTS for dimension in shape):
        cursor.fail(f"has tensor {quote(name)} of the impossible shape {list(shape)}")
    if tensor.elements * bits != 8 * (end - start):
        words = f"{end - start} bytes from {start} to {end} for {tensor.elements} elements of {dtype}"
        cursor.fail(f"gives tensor {quote(name)} {words}")
    return tensor


def _check_places(tensors: tuple[Tensor, ...], reader: RangeReader, data_offset: int) -> None:
    end = data_offset
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset != end:
            words = (
                "overlaps the one before it" if tensor.offset < end else f"leaves a hole of {tensor.offset - end} bytes"
            )
            msg = f"tensor {quote(tensor.name)} of {reader.name} {words}"
            raise FormatError(msg, hint=_HINT)
        end += tensor.size
    if end != reader.size:
        msg = f"the tensors of {reader.name} end at byte {end}, the file at {reader.size}"
        raise FormatError(msg, hint=_HINT)
