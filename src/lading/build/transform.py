"""CONVERT and QUANTIZE: the tools' files are links to blobs in a folder of the store, and what they make becomes blobs."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lading import fs
from lading.build.bench import described
from lading.build.tree import choose
from lading.errors import FormatError, LadingError, NotFoundError, UsageError
from lading.formats.shards import shard_of
from lading.recipe.contents import image_path
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lading.build.bench import Bench
    from lading.build.outcome import Held
    from lading.build.tree import Shelf, Tree
    from lading.recipe.instructions import Convert, Quantize

_UNNAMED = "model"
_NEVER_READ = ("**/*.gguf", "**/.git")
"""What a converter does not look at: a stage may hold what it made before."""


@dataclass(slots=True)
class Transforming:
    """One CONVERT or QUANTIZE at work: `shelf` has its source, `stage` what else it names."""

    bench: Bench
    shelf: Shelf
    what: str
    stage: Tree
    allow_pickle: bool
    cached: bool = True

    def convert(self, told: Convert) -> dict[str, Held]:
        """Return the GGUF that a folder of weights becomes; see `build.convert` for what it raises."""
        from lading.build.converter import IDENTITY  # noqa: PLC0415 - only recipes that convert need it

        allowed = told.allow_pickle or self.allow_pickle
        source = self._folder(self.shelf, told.source, self.what)
        base = self._folder(self.stage, told.base, "the stage") if told.base else {}
        name, base_name = _name(told.source), _name(told.base or "")
        target = image_path(told.destination)
        of = described(
            "convert", IDENTITY, told.type, told.kind, allowed, (name, _digests(source)), (base_name, _digests(base))
        )

        def make(folder: Path) -> dict[str, Held]:
            from lading.build.convert import ConvertOptions, convert  # noqa: PLC0415 - as above
            from lading.build.converter import prepare  # noqa: PLC0415 - as above

            bench = self.bench
            options = ConvertOptions(
                type=told.type,
                kind=told.kind,
                base=self._laid(folder / "base" / base_name, base) if told.base else None,
                allow_pickle=allowed,
            )
            tool = prepare(
                bench.config.converter(),
                bench.environment,
                bench.reporter,
                offline=bench.offline,
                cancelled=bench.stop.is_set,
            )
            weights = self._laid(folder / "source" / name, source)
            made = folder / _base(target)
            convert(
                weights, made, options, tool, bench.environment, reporter=bench.reporter, cancelled=bench.stop.is_set
            )
            return {"": bench.take_over(made)}

        return {target: self._made(of, make)[""]}

    def quantize(self, told: Quantize) -> dict[str, Held]:
        """Return the smaller GGUF that a GGUF becomes, shards where they are kept; see `build.quantize`."""
        from lading.build.quantize import QuantizeOptions, quantize  # noqa: PLC0415 - only recipes that quantize need it
        from lading.build.quantizers import choose as choose_tool  # noqa: PLC0415 - as above

        source = self._shards(told.source)
        first = min(source)
        matrix = self._one(self.stage, told.imatrix, "the stage") if told.imatrix else None
        options = QuantizeOptions(
            type=told.type,
            pure=told.pure,
            imatrix=Path(matrix[0]) if matrix else None,
            include_weights=told.include_weights,
            exclude_weights=told.exclude_weights,
            leave_output_tensor=told.leave_output_tensor,
            output_tensor_type=told.output_tensor_type,
            token_embedding_type=told.token_embedding_type,
            tensor_types=told.tensor_types,
            overrides=told.overrides,
            keep_split=told.keep_split,
            allow_requantize=told.allow_requantize,
            threads=told.threads,
        )
        tool = choose_tool(options, self.bench.environment)
        target = image_path(told.destination)
        # Any number of threads makes the same bytes.
        settings = replace(options, threads=None, imatrix=None)
        named = _base(target) if told.keep_split else ""
        of = described(
            "quantize",
            tool.identity,
            settings,
            named,
            _digests(source),
            (matrix[0], matrix[1].digest) if matrix else None,
        )

        def make(folder: Path) -> dict[str, Held]:
            bench = self.bench
            weights = self._laid(folder / "source", source) / first
            there = replace(
                options, imatrix=self._laid(folder / "imatrix", dict([matrix])) / matrix[0] if matrix else None
            )
            made = quantize(
                weights,
                folder / _base(target),
                there,
                bench.environment,
                reporter=bench.reporter,
                cancelled=bench.stop.is_set,
            )
            return {path.name if len(made) > 1 else "": bench.take_over(path) for path in made}

        files = self._made(of, make)
        folder = posixpath.dirname(target)
        return {image_path(f"{folder}/{name}") if name else target: held for name, held in files.items()}

    def _made(self, of: str, make: Callable[[Path], dict[str, Held]]) -> dict[str, Held]:
        found = self.bench.recall(of)
        if found is not None:
            return found
        with self.bench.making(of) as (folder, already):
            if already is not None:
                return already
            self.cached = False
            try:
                files = make(folder)
            except LadingError as error:
                # The folder is gone when this is read: what lay in it has the names that the recipe gives.
                for place in ("source/", "base/", "imatrix/", ""):
                    error.message = error.message.replace(f"{folder}/{place}", "")
                error.args = (error.message,)
                raise
            self.bench.keep(of, files)
        return files

    def _folder(self, shelf: Shelf, path: str, what: str) -> dict[str, Held]:
        """Return a folder's files by their paths in it, less what no converter looks at."""
        matches = choose(shelf, path, _NEVER_READ, what)
        if len(matches) > 1 or matches[0].is_file:
            msg = f"`{clean(path)}` is no folder of weights"
            raise UsageError(msg, hint="a checkpoint is a folder: config.json, the tokenizer and *.safetensors")
        files = matches[0].files
        if not files:
            msg = f"`{clean(path)}` has no weights that could be converted"
            raise UsageError(msg, hint="a checkpoint is a folder: config.json, the tokenizer and *.safetensors")
        taken = shelf.take(list(files.values()))
        return {relative: taken[name] for relative, name in files.items()}

    def _one(self, shelf: Shelf, path: str, what: str) -> tuple[str, Held]:
        matches = choose(shelf, path, (), what)
        if len(matches) > 1 or not matches[0].is_file:
            msg = f"`{clean(path)}` is no single file"
            raise UsageError(msg, hint="name one file")
        name = next(iter(matches[0].files.values()))
        return posixpath.basename(name), self.shelf_file(shelf, name)

    @staticmethod
    def shelf_file(shelf: Shelf, name: str) -> Held:
        """Return one file of a shelf."""
        return shelf.take([name])[name]

    def _shards(self, path: str) -> dict[str, Held]:
        """Return the file that is quantized, with all others of its set, by their names."""
        name, held = self._one(self.shelf, path, self.what)
        shard = shard_of(name)
        if shard is None:
            return {name: held}
        if shard.number != 1:
            msg = f"`{clean(path)}` is part {shard.number} of {shard.count} of a model"
            raise UsageError(msg, hint="name its first part; the others are found beside it")
        folder = posixpath.dirname(image_path(path))
        files = {name: held}
        for number in range(2, shard.count + 1):
            other = replace(shard, number=number).name
            found = self.shelf.names(image_path(f"{folder}/{other}"))
            if not found:
                msg = f"{self.what} has no `{clean(other)}`, a part of {clean(name)}"
                raise NotFoundError(msg, hint="all parts of a model lie in one folder")
            files[other] = self.shelf_file(self.shelf, next(iter(found)))
        return files

    def _laid(self, folder: Path, files: Mapping[str, Held]) -> Path:
        """Give blobs their names in a folder that a tool may read; links, never copies."""
        blobs = self.bench.store.blobs
        for relative, held in files.items():
            place = folder.joinpath(*relative.split("/"))
            if not place.is_relative_to(folder) or ".." in relative.split("/"):
                msg = f"`{clean(relative)}` leads out of its folder"
                raise FormatError(msg)
            fs.make_folder(place.parent)
            # A name that is given to a user's own file changes its times, by which it is known to be as it was.
            if blobs.linked.origin(held.digest) is not None or not blobs.give_name(held.digest, place):
                fs.symbolic_link(blobs.path(held.digest).absolute(), place)
        return folder


def _digests(files: Mapping[str, Held]) -> list[tuple[str, str]]:
    return [(name, held.digest) for name, held in sorted(files.items())]


def _name(path: str) -> str:
    """Return what a folder is called when it is converted, which models may be named after."""
    return _base(image_path(path)) or _UNNAMED


def _base(path: str) -> str:
    return posixpath.basename(path)
