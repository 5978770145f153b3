"""Quantizing: a GGUF file made smaller, by whichever of llama.cpp's builds is here and can do what is asked."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import fs, ranges
from lading.build import quantizers
from lading.build.program import run
from lading.errors import FormatError, LadingError, NotFoundError, UsageError
from lading.events import Advanced, Finished, Silent, Started
from lading.formats import gguf
from lading.formats.shards import shard_of
from lading.formats.tool_types import QUANTIZE_TYPES, TENSOR_TYPES
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from lading.build.program import Ended
    from lading.events import Reporter

_TENSOR = re.compile(r"\[ *\d+/ *\d+\] +(\S+)")
_OVERRIDE = re.compile(r"[^=]{1,127}=(int:-?\d+|float:.+|bool:(true|false)|str:.{0,127})", re.DOTALL)
_MATRIX_HINT = "--imatrix FILE names one; `lading imatrix` makes one"
_REASONS = (
    ("requires an imatrix", "it needs an importance matrix", _MATRIX_HINT),
    ("without an importance matrix", "it needs an importance matrix", _MATRIX_HINT),
    ("requantizing from type", "it is quantized already", "--allow-requantize does it all the same, at a loss"),
)
"""What the tools say, what that means, and what to do."""


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What llama-quantize is told, in its own words.

    `include_weights` and `exclude_weights` are parts of tensor names that the importance matrix is used for, or not;
    one of them at most. `tensor_types` are pairs of a pattern and a type. `overrides` are written KEY=TYPE:VALUE.
    `threads` None takes the usable cores; the result is the same with any number. Raises UsageError for what
    llama.cpp does not know.
    """

    type: str = "Q5_K_M"
    pure: bool = False
    imatrix: Path | None = None
    include_weights: tuple[str, ...] = ()
    exclude_weights: tuple[str, ...] = ()
    leave_output_tensor: bool = False
    output_tensor_type: str | None = None
    token_embedding_type: str | None = None
    tensor_types: tuple[tuple[str, str], ...] = ()
    overrides: tuple[str, ...] = ()
    keep_split: bool = False
    allow_requantize: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        _check_type(self.type, QUANTIZE_TYPES)
        singles = (self.output_tensor_type, self.token_embedding_type, *(name for _, name in self.tensor_types))
        for name in singles:
            if name is not None:
                _check_type(name, TENSOR_TYPES)
        if self.include_weights and self.exclude_weights:
            msg = "weights are either included or excluded, not both"
            raise UsageError(msg, hint="leave --include-weights or --exclude-weights away")
        if (self.include_weights or self.exclude_weights) and self.imatrix is None:
            msg = "including and excluding weights is about the importance matrix, and none is named"
            raise UsageError(msg, hint="--imatrix FILE")
        for text in self.overrides:
            if not _OVERRIDE.fullmatch(text):
                msg = f"{clean(text)!r} is no override"
                raise UsageError(msg, hint="KEY=TYPE:VALUE, where TYPE is int, float, bool or str")


def quantize(
    source: Path,
    target: Path,
    options: QuantizeOptions,
    environment: Mapping[str, str],
    *,
    reporter: Reporter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Path, ...]:
    """Make `target` of the GGUF file `source`, and return the files made: several where `keep_split` keeps shards.

    `environment` is the user's: its PATH is searched. Of a split model `source` is the first shard. Whatever has the
    target's name is replaced at the end, when the new file is whole. Raises NotFoundError and FormatError for a source
    that is none, UnfitError if nothing here can do what is asked, NoSpaceError for a full disk, LadingError with the
    tool's last lines when it fails.
    """
    reporter = reporter or Silent()
    source, target = source.absolute(), target.absolute()
    files = _shards(source)
    if target.exists() and any(file.samefile(target) for file in files):
        msg = f"{target} is the file to be quantized"
        raise UsageError(msg, hint="name another file for the result")
    sizes = _sizes(files)
    if options.imatrix is not None:
        ranges.FileRanges(ranges.open_regular(options.imatrix), str(options.imatrix)).close()
    tool = quantizers.choose(options, environment)
    heard = _Progress(reporter, target, sizes)
    with fs.scratch(target) as folder:
        made = folder / target.name
        matrix = _neutral(options.imatrix, folder)
        command = tool.command(source, made, options, matrix)
        # In the scratch folder, since the file keeps the path of the matrix as it was told.
        with fs.written_back(folder):
            ended = run(command, heard, folder=folder, cancelled=cancelled)
        if ended.code:
            raise _failure(ended, source, options, folder)
        if options.keep_split and len(files) > 1:
            places = [(path, target.with_name(path.name)) for path in sorted(folder.glob("*-of-*.gguf"))]
        else:
            places = [(made, target)]
        if not places or not all(path.is_file() for path, _ in places):
            what = f"{tool.name} ended without a result for {source}"
            raise ended.failure(what)
        # The first shard, by which a model is named, comes last: then all others are there.
        for path, place in reversed(places):
            fs.put(path, place)
    heard.finish()
    return tuple(place for _, place in places)


class _Progress:
    """Turns the tool's lines into events: a tensor that is announced has those before it done."""

    def __init__(self, reporter: Reporter, target: Path, sizes: Mapping[str, int]) -> None:
        self._reporter = reporter
        self._key = str(target)
        self._sizes = dict(sizes)
        self._done = self._current = 0
        reporter.emit(Started(self._key, "quantize", target.name, sum(sizes.values())))

    def __call__(self, line: str) -> None:
        found = _TENSOR.match(line)
        if found:
            self._done += self._current
            self._current = self._sizes.pop(found[1], 0)
            self._reporter.emit(Advanced(self._key, self._done))

    def finish(self) -> None:
        self._reporter.emit(Finished(self._key))


def _check_type(name: str, known: Iterable[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, 1)
        msg = f"unknown type `{clean(name)}`"
        raise UsageError(msg, hint=f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}")


def _shards(source: Path) -> tuple[Path, ...]:
    shard = shard_of(source.name)
    if shard is None:
        return (source,)
    if shard.number != 1:
        msg = f"{source} is part {shard.number} of {shard.count} of a model"
        raise UsageError(msg, hint="name its first part; the others are found beside it")
    files = tuple(
        source.with_name(f"{shard.stem}-{number:05d}-of-{shard.count:05d}.gguf") for number in range(1, shard.count + 1)
    )
    for file in files:
        if not file.is_file():
            msg = f"{file} does not exist, a part of {source.name}"
            raise NotFoundError(msg, hint="all parts of a model lie in one folder")
    return files


def _sizes(files: Iterable[Path]) -> dict[str, int]:
    """Return the bytes of each tensor, by name; raises FormatError for a file that is not GGUF."""
    sizes: dict[str, int] = {}
    for file in files:
        reader = ranges.FileRanges(ranges.open_regular(file), str(file))
        try:
            sizes.update((tensor.name, tensor.size) for tensor in gguf.read_header(reader).tensors)
        finally:
            reader.close()
    return sizes


def _neutral(imatrix: Path | None, folder: Path) -> str | None:
    """Give the matrix its bare name in the scratch folder: that name, and no path of this machine, is recorded."""
    if imatrix is None:
        return None
    fs.symbolic_link(imatrix.absolute(), folder / imatrix.name)
    return imatrix.name


def _failure(ended: Ended, source: Path, options: QuantizeOptions, folder: Path) -> LadingError:
    fs.check_space(folder)
    text = "\n".join(ended.lines)
    what = f"{source} cannot be quantized to {options.type}"
    for words, reason, hint in _REASONS:
        if words in text:
            return UsageError(f"{what}: {reason}", hint=hint)
    if "failed to load model" in text or "invalid" in text:
        return FormatError(ended.failure(what).message)
    return ended.failure(what)
