"""The outline of a model: its hyperparameters as a line of JSON, short enough for a manifest's annotation.

Tensors that differ in their layer alone stand together, so that 400 of them take a kilobyte. Read back, the
hyperparameters give the estimate that the header gives.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from lading.errors import FormatError
from lading.formats.gguf_types import TENSOR_TYPES
from lading.formats.tensor import Tensor
from lading.hparams import MAX_LAYERS, MAX_TENSORS, Hparams

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lading.formats.gguf import Scalar

MAX_OUTLINE = 64 * 1024
"""Characters; models have one to three thousand."""

_MAX_DIMENSIONS = 8
_LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,3})\.")
_ANY_LAYER = "blk.*."
_BLOCKS = {name: (elements, size) for name, elements, size in TENSOR_TYPES.values()}
_ALIGNMENT = 32
_MOST = 2**50

_Kind = tuple[str, tuple[int, ...]]


class _Kinds(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Tensors of one name: their type and shape, and of which layers, as in 0-3,7; "" is all of them."""

    type: str
    shape: tuple[int, ...]
    layers: str = ""


class _Outline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    format: str
    architecture: str | None = None
    vocabulary: int = 0
    keys: dict[str, int | bool | tuple[int | bool, ...]] = {}
    tensors: dict[str, tuple[_Kinds, ...]] = {}
    bytes: dict[str, int] = {}


def outline_of(hparams: Hparams) -> str:
    """Return hyperparameters as a line of JSON, the same for the same model anywhere.

    Keys whose values are numbers with a fraction or text are left out: no estimate reads them. Of safetensors only the
    bytes of each element type are kept.
    """
    gguf = hparams.format == "gguf"
    said = _Outline(
        format=hparams.format,
        architecture=hparams.architecture,
        vocabulary=hparams.vocabulary,
        keys={key: value for key in sorted(hparams.said) if (value := _whole(hparams.said[key])) is not None},
        tensors=_grouped(hparams) if gguf else {},
        bytes={} if gguf else _by_type(hparams.tensors),
    )
    return msgspec.json.encode(said).decode()


def read_outline(text: str) -> Hparams:
    """Return the hyperparameters that `outline_of` wrote; raises FormatError for anything else."""
    try:
        if len(text) > MAX_OUTLINE:
            msg = f"it is longer than {MAX_OUTLINE} characters"
            raise ValueError(msg)
        said = msgspec.json.decode(text, type=_Outline)
        tensors = tuple(_tensors(said)) if said.format == "gguf" else tuple(_totals(said.bytes))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        msg = f"the outline of the model is malformed: {error}"
        raise FormatError(msg, hint="lading writes it into artifacts; the model's header says the same") from error
    return Hparams(said.format, said.architecture, said.keys, tensors, said.vocabulary)


def _whole(value: Scalar | tuple[Scalar, ...]) -> int | bool | tuple[int | bool, ...] | None:
    if isinstance(value, tuple):
        return tuple(int(one) for one in value) if all(isinstance(one, int) for one in value) else None
    return value if isinstance(value, int) and abs(value) < _MOST else None


def _grouped(hparams: Hparams) -> dict[str, tuple[_Kinds, ...]]:
    every = range(min(hparams.number("block_count"), MAX_LAYERS))
    found: dict[str, dict[_Kind, list[int]]] = {}
    for tensor in hparams.tensors:
        match = _LAYER.match(tensor.name)
        name = _ANY_LAYER + tensor.name[match.end() :] if match else tensor.name
        kinds = found.setdefault(name, {})
        kinds.setdefault((tensor.type, tensor.shape), []).append(int(match[1]) if match else 0)
    return {
        name: tuple(
            _Kinds(kind, shape, "" if not name.startswith(_ANY_LAYER) or layers == [*every] else _ranges(layers))
            for (kind, shape), unsorted in found[name].items()
            if (layers := sorted(unsorted))
        )
        for name in sorted(found)
    }


def _ranges(layers: Sequence[int]) -> str:
    words = []
    for _, run in groupby(enumerate(layers), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        words.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    return ",".join(words)


def _by_type(tensors: Iterable[Tensor]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for tensor in tensors:
        # As they are counted where they lie one by one.
        totals[tensor.type] = totals.get(tensor.type, 0) + -(-tensor.size // _ALIGNMENT) * _ALIGNMENT
    return dict(sorted(totals.items()))


def _tensors(said: _Outline) -> Iterator[Tensor]:
    blocks = said.keys.get("block_count", 0)
    every = range(min(blocks, MAX_LAYERS)) if isinstance(blocks, int) else range(0)
    left = MAX_TENSORS
    for name, kinds in said.tensors.items():
        layered = name.startswith(_ANY_LAYER)
        for kind in kinds:
            size = _size(kind)
            layers = (_numbers(kind.layers) if kind.layers else every) if layered else (0,)
            left -= len(layers)
            if left < 0:
                msg = f"it has more than {MAX_TENSORS} tensors"
                raise ValueError(msg)
            for layer in layers:
                own = f"blk.{layer}.{name.removeprefix(_ANY_LAYER)}" if layered else name
                yield Tensor(own, kind.shape, kind.type, 0, size)


def _size(kind: _Kinds) -> int:
    if kind.type not in _BLOCKS or len(kind.shape) > _MAX_DIMENSIONS:
        msg = f"there is no tensor of type {kind.type[:20]!r} and {len(kind.shape)} dimensions"
        raise ValueError(msg)
    elements = 1
    for dimension in kind.shape:
        elements *= dimension
        if not 0 <= elements < _MOST:
            msg = "it has a tensor of an impossible size"
            raise ValueError(msg)
    block, size = _BLOCKS[kind.type]
    return elements // block * size


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for word in text.split(","):
        first, dash, last = word.partition("-")
        start, end = int(first), int(last if dash else first)
        if not 0 <= start <= end < MAX_LAYERS or (numbers and start <= numbers[-1]):
            msg = f"{word[:20]!r} are no layers"
            raise ValueError(msg)
        numbers.extend(range(start, end + 1))
    return numbers


def _totals(sizes: Mapping[str, int]) -> Iterator[Tensor]:
    for kind, size in sizes.items():
        if not 0 <= size < _MOST:
            msg = f"its weights of type {kind[:20]!r} have an impossible size"
            raise ValueError(msg)
        yield Tensor(kind, (size,), kind, 0, size)
