"""Models split over several files: `stem-00001-of-00003.gguf` (llama.cpp's gguf-split), and so for safetensors (transformers)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.errors import FormatError
from lading.formats.quote import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lading.formats.gguf import GgufHeader

_SUFFIX = ".gguf"
_SAFETENSORS = re.compile(r"(?P<stem>.+)-[0-9]{5}-of-(?P<count>[0-9]{5})\.safetensors", re.DOTALL)
_DIGITS = 5
_TAIL = len("-00001-of-00003.gguf")
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Shard:
    """What a file's name says of its place in a split model; `number` counts from 1, `stem` keeps folders."""

    stem: str
    number: int
    count: int

    @property
    def name(self) -> str:
        """The file name it was read from."""
        return f"{self.stem}-{self.number:05d}-of-{self.count:05d}{_SUFFIX}"


def shard_of(name: str) -> Shard | None:
    """Read a file name as that of a shard; None if it is not one, FormatError if its numbers make no sense."""
    stem, tail = name[:-_TAIL], name[-_TAIL:]
    number, middle, count = tail[1:6], tail[6:10], tail[10:15]
    digits = number + count
    if not (stem and tail.startswith("-") and middle == "-of-" and tail.endswith(_SUFFIX)):
        return None
    if len(digits) != 2 * _DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    shard = Shard(stem, int(number), int(count))
    if not 1 <= shard.number <= shard.count:
        msg = f"{quote(name)} is named as part {shard.number} of {shard.count}"
        raise FormatError(msg, hint="parts count from 00001 up to the number after `of`")
    return shard


def shard_sets(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Put shards of one model together, in order; every other name is a set of its own.

    The sets come in the order of their first names. Raises FormatError naming the parts of a set that are not there.
    """
    sets: dict[str | tuple[str, int], dict[int, str]] = {}
    counts: dict[str | tuple[str, int], Shard] = {}
    for name in names:
        shard = shard_of(name)
        key: str | tuple[str, int] = (shard.stem, shard.count) if shard else name
        sets.setdefault(key, {})[shard.number if shard else 1] = name
        if shard:
            counts[key] = shard
    for key, shard in counts.items():
        _check_complete(shard, sets[key])
    return tuple(tuple(part for _, part in sorted(parts.items())) for parts in sets.values())


def check_safetensors(names: Iterable[str]) -> None:
    """Raise FormatError, naming what is missing, unless the safetensors files among `names` are whole sets of shards."""
    present = frozenset(names)
    sets = {match.group("stem", "count") for match in map(_SAFETENSORS.fullmatch, present) if match}
    for stem, count in sorted(sets):
        parts = (f"{stem}-{number:05d}-of-{count}.safetensors" for number in range(1, int(count) + 1))
        if missing := next((part for part in parts if part not in present), None):
            msg = f"the model {quote(stem)} has {int(count)} files, of which {quote(missing)} is missing"
            raise FormatError(msg, hint="a split model needs all its files in one folder; to pack it, name that folder")


def check_split(headers: Sequence[GgufHeader]) -> None:
    """Hold the headers of one model's shards, in order, against what they say of themselves; raises FormatError."""
    names: set[str] = set()
    for index, header in enumerate(headers):
        split = header.split
        if split is None and len(headers) > 1:
            msg = f"{header.name} does not say that it is part of a split model"
            raise FormatError(msg, hint="the file was named like a part or put among the parts by mistake")
        if split and (split.number, split.parts) != (index, len(headers)):
            msg = f"{header.name} is part {split.number + 1} of {split.parts}, and stands as {index + 1} of {len(headers)}"
            raise FormatError(msg, hint="a part was renamed, or comes from another model")
        for tensor in header.tensors:
            if tensor.name in names:
                msg = f"{header.name} has tensor {quote(tensor.name)}, which another part has too"
                raise FormatError(msg, hint="the parts come from different models")
            names.add(tensor.name)
    promised = headers[0].split.tensors if headers and headers[0].split else None
    if promised is not None and promised != len(names):
        msg = f"the {len(headers)} parts from {headers[0].name} on have {len(names)} of {promised} tensors"
        raise FormatError(msg, hint="the parts come from different models; fetch them again")


def _check_complete(shard: Shard, parts: dict[int, str]) -> None:
    missing = shard.count - len(parts)
    if not missing:
        return
    first: list[str] = []
    for number in range(1, shard.count + 1):
        if number not in parts:
            first.append(Shard(shard.stem, number, shard.count).name)
            if len(first) == _NAMED:
                break
    more = f" and {missing - len(first)} more" if missing > len(first) else ""
    verb = "is" if missing == 1 else "are"
    shown = ", ".join(quote(name) for name in first)
    msg = f"the model {quote(shard.stem)} has {shard.count} parts, of which {shown}{more} {verb} missing"
    raise FormatError(msg, hint="a split model needs all its parts in one place")
