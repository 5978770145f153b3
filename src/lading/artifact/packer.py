"""GGUF Packer's part of an image's config: the files that CMD names, each with its whole header, and what labels say.

With it a model is known from the config blob alone. Field names and order are those of its Go structures.
"""

from __future__ import annotations

import math
from struct import Struct
from struct import error as StructError  # noqa: N812 - a class that the standard library writes small
from typing import TYPE_CHECKING, Any

import msgspec

from lading.artifact.command import in_root
from lading.errors import FormatError
from lading.formats.gguf import ArrayRef, GgufHeader
from lading.formats.gguf_types import ARRAY, SCALARS, STRING, TENSOR_TYPES
from lading.formats.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lading.formats.gguf import Scalar

MAX_TEXT = 256 * 1024
"""Characters of a text of the header that a config carries; chat templates have some thousands."""

_MAGIC, _SWAPPED = 0x46554747, 0x47475546
_TYPE_NUMBERS = {name: number for number, (name, _block, _size) in TENSOR_TYPES.items()}
_KINDS = {name: number for number, (name, _code, _size) in SCALARS.items()} | {"STRING": STRING}
_BEFORE_ITEMS = 12
_SHORT = 50
_DAMAGED = "the image was not written by a packer of models"


class Items(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """An array of a header: `array` are its items, left out where there are many; `size` is theirs in bytes."""

    type: int
    len: int
    array: tuple[bool | int | float | str | None, ...] | None = None
    start_offset: int = -1
    size: int = -1


class KeyValue(msgspec.Struct, frozen=True, rename="camel"):
    """A key of a header, the number of its value's type, and the value."""

    key: str
    value_type: int
    value: bool | int | float | str | Items | None


class Header(msgspec.Struct, frozen=True):
    """What a GGUF file begins with."""

    magic: int
    version: int
    tensor_count: int = msgspec.field(name="tensorCount")
    metadata_kv_count: int = msgspec.field(name="metadataKVCount")
    metadata_kv: tuple[KeyValue, ...] = msgspec.field(name="metadataKV")


class TensorInfo(msgspec.Struct, frozen=True, rename="camel"):
    """A tensor; `offset` counts from the start of the data, `start_offset` is where it is described in the file."""

    name: str
    n_dimensions: int
    dimensions: tuple[int, ...]
    type: int
    offset: int
    start_offset: int = 0


class Gguf(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A GGUF file, or the files of a split one together; sizes in bytes."""

    header: Header
    tensor_infos: tuple[TensorInfo, ...]
    padding: int = 0
    split_paddings: tuple[int, ...] = ()
    tensor_data_start_offset: int = 0
    split_tensor_data_start_offsets: tuple[int, ...] = ()
    size: int = 0
    split_sizes: tuple[int, ...] = ()
    model_size: int = 0
    split_model_sizes: tuple[int, ...] = ()
    model_parameters: int = 0
    model_bits_per_weight: float = 0.0


class PackedFile(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True, kw_only=True):
    """A file that CMD names, as its argument at `cmd_parameter_index`, and what its header says."""

    gguf: Gguf | None = msgspec.field(default=None, name="GGUF")
    architecture: str = ""
    parameters: int | None = None
    bits_per_weight: float | None = None
    file_type: int | None = None
    cmd_parameter_value: str = ""
    cmd_parameter_index: int = 0

    @property
    def path(self) -> str:
        """Where the file lies, from the image's root."""
        return in_root(self.cmd_parameter_value) if self.cmd_parameter_value else ""


class Packing(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True, kw_only=True):
    """The keys that GGUF Packer adds to what a container would be started with; `size` is that of all files."""

    size: int = 0
    model: PackedFile | None = None
    drafter: PackedFile | None = None
    projector: PackedFile | None = None
    adapters: tuple[PackedFile, ...] | None = None

    @property
    def files(self) -> Iterator[PackedFile]:
        """Yield all files."""
        yield from (file for file in (self.model, self.drafter, self.projector) if file)
        yield from self.adapters or ()

    def without_headers(self) -> Packing:
        """Return the same without the headers, which may be larger than a config can be."""

        def bare(file: PackedFile | None) -> PackedFile | None:
            return file and msgspec.structs.replace(file, gguf=None)

        adapters = None if self.adapters is None else tuple(filter(None, map(bare, self.adapters)))
        return msgspec.structs.replace(
            self, model=bare(self.model), drafter=bare(self.drafter), projector=bare(self.projector), adapters=adapters
        )


def packed_file(headers: Sequence[GgufHeader], value: str, index: int) -> PackedFile:
    """Describe a file, or the shards of one in order, that CMD names by `value` as its argument at `index`."""
    first = headers[0].metadata
    gguf = _gguf(headers)
    architecture, number = first.get("general.architecture"), first.get("general.file_type")
    return PackedFile(
        gguf=gguf,
        architecture=architecture if isinstance(architecture, str) else "",
        parameters=gguf.model_parameters,
        bits_per_weight=gguf.model_bits_per_weight,
        file_type=number if isinstance(number, int) and number else None,
        cmd_parameter_value=value,
        cmd_parameter_index=index,
    )


def header_of(file: PackedFile) -> GgufHeader | None:
    """Return the header that was packed, of a split file that of all shards together; None where there is none.

    Arrays whose items were left out are missing, but for the tokenizer's, of which the length is known. Raises
    FormatError for what is no header.
    """
    gguf = file.gguf
    if gguf is None:
        return None
    header = gguf.header
    said: dict[str, Scalar | ArrayRef] = {}
    for one in header.metadata_kv:
        if isinstance(one.value, Items):
            array = _array(one.key, one.value)
            if array.raw is not None or (one.key.startswith("tokenizer.") and array.length > _SHORT):
                said[one.key] = array
        else:
            said[one.key] = math.nan if one.value is None else one.value
    start = gguf.tensor_data_start_offset
    return GgufHeader(
        name=file.path,
        version=header.version,
        little_endian=True,
        metadata=said,
        tensors=tuple(_tensor(one, start) for one in gguf.tensor_infos),
        alignment=1,
        data_offset=start,
        file_size=gguf.size,
        kinds={one.key: one.value_type for one in header.metadata_kv},
    )


def _gguf(headers: Sequence[GgufHeader]) -> Gguf:
    first = headers[0]
    split = len(headers) > 1
    parameters = sum(header.parameters for header in headers)
    sizes = tuple(header.file_size for header in headers)
    starts = tuple(header.data_offset for header in headers)
    data = tuple(max(0, size - start) for size, start in zip(sizes, starts, strict=True))
    infos = tuple(tuple(_infos(header)) for header in headers)
    paddings = tuple(_padding(header, one) for header, one in zip(headers, infos, strict=True))
    kept = tuple(_key_values(first, without=("split.no",) if split else ()))
    return Gguf(
        header=Header(
            magic=_MAGIC if first.little_endian else _SWAPPED,
            version=first.version,
            tensor_count=sum(len(header.tensors) for header in headers),
            metadata_kv_count=len(first.metadata) - split,
            metadata_kv=kept,
        ),
        tensor_infos=tuple(info for one in infos for info in one),
        padding=0 if split else paddings[0],
        split_paddings=paddings if split else (),
        tensor_data_start_offset=0 if split else starts[0],
        split_tensor_data_start_offsets=starts if split else (),
        size=sum(sizes),
        split_sizes=sizes if split else (),
        model_size=sum(data),
        split_model_sizes=data if split else (),
        model_parameters=parameters,
        model_bits_per_weight=8 * sum(data) / parameters if parameters else 0.0,
    )


def _key_values(header: GgufHeader, without: Iterable[str]) -> Iterator[KeyValue]:
    for key, value in header.metadata.items():
        # What is out of all proportion is counted, and left out.
        if key in without or (isinstance(value, str) and len(value) > MAX_TEXT):
            continue
        if isinstance(value, ArrayRef):
            items = Items(
                type=_KINDS[value.type],
                len=value.length,
                array=_items(header, value),
                start_offset=value.offset - _BEFORE_ITEMS,
                size=value.size,
            )
            yield KeyValue(key, ARRAY, items)
        else:
            finite = not isinstance(value, float) or math.isfinite(value)
            yield KeyValue(key, header.kinds[key], value if finite else None)


def _items(header: GgufHeader, array: ArrayRef) -> tuple[bool | int | float | str | None, ...] | None:
    """Return the items of an array that was kept when the header was read, which those of a few thousand bytes are."""
    if array.raw is None:
        return None
    order = "<" if header.little_endian else ">"
    if array.type == "STRING":
        length = Struct(order + "Q")
        texts: list[str] = []
        place = 0
        for _ in range(array.length):
            (size,) = length.unpack_from(array.raw, place)
            place += length.size
            texts.append(array.raw[place : place + size].decode("utf-8", "replace"))
            place += size
        return tuple(texts)
    code = next(code for name, code, _size in SCALARS.values() if name == array.type)
    values = Struct(f"{order}{array.length}{code}").unpack(array.raw)
    if array.type == "BOOL":
        return tuple(value != 0 for value in values)
    return tuple(value if math.isfinite(value) else None for value in values)


def _infos(header: GgufHeader) -> Iterator[TensorInfo]:
    place = header.tensors_at
    for tensor in header.tensors:
        offset = tensor.offset - header.data_offset
        yield TensorInfo(
            tensor.name, len(tensor.shape), tensor.shape, _TYPE_NUMBERS[tensor.type], offset, start_offset=place
        )
        place += _info_size(tensor.name, len(tensor.shape))


def _info_size(name: str, dimensions: int) -> int:
    return 8 + len(name.encode()) + 4 + 8 * dimensions + 4 + 8


def _padding(header: GgufHeader, infos: Sequence[TensorInfo]) -> int:
    last = infos[-1] if infos else None
    end = last.start_offset + _info_size(last.name, last.n_dimensions) if last else header.tensors_at
    return header.data_offset - end


def _tensor(info: TensorInfo, start: int) -> Tensor:
    if info.type not in TENSOR_TYPES or any(dimension < 0 for dimension in info.dimensions):
        msg = f"the image's config describes the impossible tensor {info.name[:80]!r}"
        raise FormatError(msg, hint=_DAMAGED)
    name, block, size = TENSOR_TYPES[info.type]
    elements = math.prod(info.dimensions)
    return Tensor(info.name, info.dimensions, name, start + info.offset, elements // block * size)


def _array(key: str, items: Items) -> ArrayRef:
    kind = next((name for name, number in _KINDS.items() if number == items.type), None)
    if kind is None or items.len < 0 or (items.array is not None and len(items.array) != items.len):
        msg = f"the image's config describes the impossible array {key[:80]!r}"
        raise FormatError(msg, hint=_DAMAGED)
    raw = None if items.array is None else _raw(key, kind, items.array)
    size = items.size if raw is None else len(raw)
    return ArrayRef(kind, items.len, items.start_offset + _BEFORE_ITEMS, max(0, size), raw)


def _raw(key: str, kind: str, values: Sequence[Any]) -> bytes:
    try:
        if kind == "STRING":
            texts = [str(value).encode("utf-8", "replace") for value in values]
            return b"".join(len(text).to_bytes(8, "little") + text for text in texts)
        code = SCALARS[_KINDS[kind]][1]
        numbers = [math.nan if value is None else value for value in values]
        return Struct(f"<{len(numbers)}{code}").pack(*numbers)
    except (StructError, TypeError, OverflowError) as error:
        msg = f"the image's config has an item in the array {key[:80]!r} that cannot be one"
        raise FormatError(msg, hint=_DAMAGED) from error
