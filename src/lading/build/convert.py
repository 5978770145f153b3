"""Converting: a folder of safetensors made a GGUF file, by llama.cpp's own converter, locked up."""

from __future__ import annotations

import json
import os
import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lading import fs
from lading.build.isolation import Cell, isolation_level, locked
from lading.build.program import run
from lading.errors import FormatError, LadingError, NotFoundError, PolicyError, UnfitError, UsageError
from lading.events import Advanced, Finished, Noted, Silent, Started
from lading.formats.safetensors import read_header
from lading.formats.tool_types import CONVERT_TYPES, LORA_TYPES
from lading.ranges import FileRanges, open_regular, os_errors
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lading.build.converter import Converter
    from lading.build.program import Ended
    from lading.events import Reporter

Kind = Literal["model", "lora", "mmproj"]
KINDS: tuple[Kind, ...] = ("model", "lora", "mmproj")

_CHILD = Path(__file__).with_name("convert_child.py").resolve()
_WRITING = re.compile(r"Writing: +(\d+)%")
_UNKNOWN = re.compile(r"(Model \S+ is not supported|splits words in a way that llama.cpp does not know)")
_LOGGED = re.compile(r"^( *)(?:ERROR|WARNING|CRITICAL):[\w.-]+:", re.MULTILINE)
_DAMAGED = re.compile(r"SafetensorError|\.safetensors|JSONDecodeError|FileNotFoundError")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_MOST_LINKS = 10_000
_CPU_SECONDS, _BYTES_PER_CPU_SECOND = 1800, 5_000_000
_LARGEST_GROWTH, _SPARE_BYTES = 4, 2**30  # eight bits to F32, and the vocabulary


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What is made: `kind` a model, an adapter (`base` is the folder of what it was trained on) or a projector.

    `name` is what the file calls the model; None leaves that to the converter, which asks the model's card and the
    folder's name. Raises UsageError for a type that the converter does not write, or an adapter without a base.
    """

    type: str = "F16"
    kind: Kind = "model"
    base: Path | None = None
    allow_pickle: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        known = LORA_TYPES if self.kind == "lora" else CONVERT_TYPES
        if self.type not in known:
            msg = f"nothing of class {self.kind} is converted to `{clean(self.type)}`"
            hint = f"one of {', '.join(known)}; `lading quantize` makes the others of the result"
            raise UsageError(msg, hint=hint)
        if (self.kind == "lora") != (self.base is not None):
            msg = "a LoRA needs the folder of the model it was trained on, and nothing else does"
            raise UsageError(msg, hint="--class lora --base DIR")


def convert(
    source: Path,
    target: Path,
    options: ConvertOptions,
    converter: Converter,
    environment: Mapping[str, str],
    *,
    reporter: Reporter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Make `target` of the folder `source`, which is only read, and return it.

    `environment` is the user's; the converter sees none of it. Whatever has the target's name is replaced at the end.
    Raises NotFoundError for a folder without weights, FormatError for weights that are cut short, PolicyError for pickles
    that are not allowed or cannot be locked up, UnfitError for an architecture or tokenizer that llama.cpp does not know, NoSpaceError for a full disk,
    LadingError with the converter's last lines when it fails.
    """
    reporter = reporter or Silent()
    source, target = _folder(source), target.absolute()
    base = None if options.base is None else _folder(options.base)
    level = isolation_level(environment)
    total = _weigh(source, options, level)
    if level == "limits":
        note = "the converter runs without isolation: this system lets nobody make namespaces"
        reporter.emit(Noted(note, warning=True))
    heard = _Progress(reporter, target, total)
    with fs.scratch(target) as scratch:
        told = {
            "converter": str(converter.scripts),
            "source": str(source),
            "target": str(scratch / "made.gguf"),
            "base": str(base) if base else None,
            **{name: getattr(options, name) for name in ("type", "kind", "allow_pickle", "name")},
        }
        shown = (*converter.homes, converter.scripts, _CHILD, *_shown(source), *(_shown(base) if base else ()))
        cell = Cell(
            read=tuple(dict.fromkeys((*shown, converter.python))),
            write=(scratch.resolve(),),
            environment={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", "HF_HUB_OFFLINE": "1"},
            cpu_seconds=_CPU_SECONDS + total // _BYTES_PER_CPU_SECOND,
            memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            file_size=_LARGEST_GROWTH * total + _SPARE_BYTES,
        )
        argv = (str(converter.python), "-I", "-B", str(_CHILD), json.dumps(told))
        ended = run(locked(argv, cell, level, environment), heard, cancelled=cancelled)
        made = [path for path in scratch.glob("*.gguf") if path.is_file() and not path.is_symlink()]
        if ended.code or len(made) != 1:
            raise _failure(ended, source, scratch)
        # Named `mmproj-made.gguf` for a projector.
        fs.put(made[0], target)
    heard.finish()
    return target


class _Progress:
    """Turns the converter's lines into events."""

    def __init__(self, reporter: Reporter, target: Path, total: int) -> None:
        self._reporter = reporter
        self._key = str(target)
        self._total = total
        reporter.emit(Started(self._key, "convert", target.name, total))

    def __call__(self, line: str) -> None:
        found = _WRITING.match(line)
        if found:
            self._reporter.emit(Advanced(self._key, self._total * int(found[1]) // 100))

    def finish(self) -> None:
        self._reporter.emit(Finished(self._key))


def _folder(path: Path) -> Path:
    if not path.exists():
        msg = f"{path} does not exist"
        raise NotFoundError(msg, hint="check how it is written, and from which folder")
    if not path.is_dir():
        msg = f"{path} is no folder"
        raise UsageError(msg, hint="a checkpoint is a folder: config.json, the tokenizer and *.safetensors")
    return path.resolve()


def _weigh(source: Path, options: ConvertOptions, level: str) -> int:
    """Return the bytes of the weights in a folder; raises as `convert` tells."""
    with os_errors(source):
        files = {path.name: path.stat().st_size for path in source.iterdir() if path.is_file()}
    safe = {name: size for name, size in files.items() if name.endswith(".safetensors")}
    for name in sorted(safe):
        # Of a file that is cut short the converter would write a part before it notices.
        with closing(FileRanges(open_regular(source / name), str(source / name))) as reader:
            read_header(reader)
    if safe:
        return sum(safe.values())
    pickles = {name: size for name, size in files.items() if name.endswith(_PICKLES)}
    if not pickles:
        msg = f"{source} holds no weights"
        raise NotFoundError(msg, hint="*.safetensors are looked for")
    if not options.allow_pickle:
        msg = f"{source} holds its weights as pickles ({clean(min(pickles))}), which can run code"
        raise PolicyError(msg, hint="ask for safetensors, or --allow-pickle if you trust whoever made it")
    if level == "limits":
        msg = f"{source} holds pickles, and this system does not let them be locked up"
        raise PolicyError(msg, hint="convert them to safetensors elsewhere")
    return sum(pickles.values())


def _shown(folder: Path) -> tuple[Path, ...]:
    """Return a folder and what links in it point to: a hub's cache holds links only."""
    links = [path for path in folder.iterdir() if path.is_symlink() and path.is_file()]
    return (folder, *(path.resolve() for path in links[:_MOST_LINKS]))


def _failure(ended: Ended, source: Path, scratch: Path) -> LadingError:
    fs.check_space(scratch)
    what = f"{source} cannot be converted"
    text = "\n".join(ended.lines)
    unknown = _UNKNOWN.search(text)
    if unknown:
        msg = f"{what}: {clean(unknown[1])}"
        return UnfitError(msg, hint="a later version of lading may bring a converter that can")
    failure = ended.failure(what)
    message = _LOGGED.sub(r"\1", failure.message)
    if ended.code > 0 and _DAMAGED.search(message):
        return FormatError(message, hint="the folder lacks a file, or has a damaged one: fetch it again")
    return LadingError(message, hint=failure.hint)
