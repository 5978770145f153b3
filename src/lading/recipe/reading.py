"""Instructions as written become typed ones: variables are replaced, and every value is checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lading.digest import Digest
from lading.errors import FormatError, UsageError
from lading.formats import tool_types as types
from lading.recipe.command import read_command
from lading.recipe.expand import Quoting
from lading.recipe.flags import check_flags, rule_of, switched
from lading.recipe.instructions import Add, Arg, Cat, Cmd, Convert, ConvertClass, Copy, Label, Ownership, Quantize
from lading.recipe.nodes import Word
from lading.recipe.place import near
from lading.recipe.sources import Document, Local, is_git, read_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lading.errors import RecipeError
    from lading.recipe.instructions import Instruction
    from lading.recipe.nodes import Flag, Node
    from lading.recipe.scope import Scope
    from lading.recipe.sources import Origin, Source

_MODE = re.compile(r"[0-7]{3,4}", re.ASCII)
_OVERRIDE = re.compile(r"([^=]{1,127})=(int|float|bool|str):(.*)", re.DOTALL)
_CLASSES: dict[str, ConvertClass] = {"model": "model", "lora": "lora", "adapter": "lora", "mmproj": "mmproj"}
_LONGEST_STRING = 127
"""Bytes of a string that llama.cpp takes as an override."""
_MOST_THREADS = 1024
_NAME_OF_WORDS = "STDIN"
_BOTH_ENDS = 2
_MOST_SHOWN = 12


def read(node: Node, scope: Scope, find: Callable[[Flag], Origin]) -> Instruction:
    """Return the typed instruction of a node that is no FROM.

    `find` tells what a `--from` names. Raises RecipeError, with the place, for what cannot be meant.
    """
    return _READERS[node.keyword](_Reading(node, scope, find))


@dataclass(slots=True)
class _Reading:
    node: Node
    scope: Scope
    find: Callable[[Flag], Origin]
    flags: dict[str, list[Flag]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flags = check_flags(self.node, self.scope.script)

    def error(self, word: Word | Flag | Node, reason: str, note: str = "") -> RecipeError:
        where = word.keyword_where if not isinstance(word, Word) and hasattr(word, "keyword_where") else word.where
        return self.scope.script.error(where, reason, note=note)

    def value(self, name: str) -> str | None:
        """Return the value of a flag that is given once, expanded; None where it is not given or empty."""
        flag = self.flags.get(name, [None])[0]
        return self._expanded(flag) or None if flag else None

    def values(self, name: str) -> Iterable[tuple[Flag, str]]:
        """Yield the values of a flag that may be given several times."""
        return ((flag, self._expanded(flag)) for flag in self.flags.get(name, ()))

    def _expanded(self, flag: Flag) -> str:
        value = flag.value or ""
        if not rule_of(self.node.keyword, flag.name).expands:
            return value
        return self.scope.expand(Word(value, flag.where))

    def switch(self, name: str) -> bool:
        return switched(self.flags, name)

    def origin(self) -> Origin | None:
        return self.find(self.flags["from"][0]) if "from" in self.flags else None

    def choice(self, name: str, known: tuple[str, ...], what: str = "type") -> str | None:
        """Return one of the known values, in whatever case it was written."""
        value = self.value(name)
        if value is None:
            return None
        return self.one_of(self.flags[name][0], value, known, what)

    def one_of(self, flag: Flag, value: str, known: tuple[str, ...], what: str = "type") -> str:
        for one in known:
            if one.casefold() == value.casefold():
                return one
        if value.upper() in types.REMOVED_TYPES:
            raise self.error(flag, f"llama.cpp has no type `{value}` any more", "Q4_0 is as fast now")
        raise self.error(flag, f"unknown {what} `{value}`", near(value, known) or f"one of {_some(known)}")

    def ends(self) -> tuple[tuple[Word, ...], str]:
        """Return the words of the sources and the destination, expanded."""
        node = self.node
        if not node.words:
            raise self.error(node, f"{node.keyword} takes a source and a destination")
        if len(node.words) < _BOTH_ENDS:
            reason = f"{node.keyword} takes a source and a destination; only one of them is here"
            raise self.error(node.words[-1], reason)
        last = node.words[-1]
        if last.heredoc is not None:
            raise self.error(last, f"{node.keyword} cannot write into a heredoc", "the destination comes last")
        return node.words[:-1], self.nonempty(last, "destination")

    def nonempty(self, word: Word, what: str) -> str:
        value = self.scope.expand(word)
        if not value:
            raise self.error(word, f"the {what} is empty", "no variable in it has a value" if "$" in word.text else "")
        return value

    def document(self, word: Word) -> Document:
        heredoc = word.heredoc
        if heredoc is None:
            return Document(_NAME_OF_WORDS, self.scope.expand(word))
        if not heredoc.expands:
            return Document(heredoc.name, heredoc.content)
        return Document(heredoc.name, self.scope.expand(word, heredoc.content, quoting=Quoting.HEREDOC))

    def sources(self, words: tuple[Word, ...], read_one: Callable[[Word], Source]) -> tuple[Source, ...]:
        return tuple(self.document(word) if word.heredoc else read_one(word) for word in words)

    def checksum(self, sources: tuple[Source, ...]) -> Digest | None:
        text = self.value("checksum")
        if text is None:
            return None
        flag = self.flags["checksum"][0]
        if len(sources) > 1:
            raise self.error(flag, f"a checksum is for one source, and here are {len(sources)}")
        try:
            return Digest(text)
        except FormatError as error:
            raise self.error(flag, error.message, error.hint) from None

    def ownership(self) -> Ownership:
        mode = self.value("chmod")
        if mode is not None and _MODE.fullmatch(mode) is None:
            raise self.error(self.flags["chmod"][0], f"`{mode}` are no permissions", "three or four octal digits")
        return Ownership(self.value("chown"), None if mode is None else int(mode, 8))

    def one_file(self) -> tuple[str, str]:
        """Return the one source and the destination of CONVERT and QUANTIZE."""
        words, destination = self.ends()
        if len(words) > 1:
            raise self.error(words[1], f"{self.node.keyword} takes one source, and here are {len(words)}")
        if destination.endswith("/") or destination.rpartition("/")[2] in (".", ".."):
            reason = f"{self.node.keyword} writes a file, and `{destination}` is a folder"
            raise self.error(self.node.words[-1], reason)
        return self.nonempty(words[0], "source"), destination


def _some(known: tuple[str, ...]) -> str:
    shown = ", ".join(known[:_MOST_SHOWN])
    return f"{len(known)}: {shown}, …" if len(known) > _MOST_SHOWN else shown


def _add(reading: _Reading) -> Add:
    def one(word: Word) -> Source:
        try:
            return read_source(reading.nonempty(word, "source"))
        except UsageError as error:
            raise reading.error(word, error.message, error.hint) from None

    words, destination = reading.ends()
    sources = reading.sources(words, one)
    return Add(
        sources,
        destination,
        reading.checksum(sources),
        reading.ownership(),
        tuple(value for _flag, value in reading.values("exclude")),
        reading.switch("keep-git-dir"),
        reading.switch("link"),
    )


def _copy(reading: _Reading) -> Copy:
    def one(word: Word) -> Source:
        path = reading.nonempty(word, "source")
        if is_git(path) or "://" in path:
            raise reading.error(word, f"COPY takes files, and `{path}` is none", "ADD fetches it")
        return Local(path)

    words, destination = reading.ends()
    sources = reading.sources(words, one)
    return Copy(
        sources,
        destination,
        reading.origin(),
        reading.checksum(sources),
        reading.ownership(),
        tuple(value for _flag, value in reading.values("exclude")),
        reading.switch("parents"),
        reading.switch("link"),
    )


def _arg(reading: _Reading) -> Arg:
    if not reading.node.words:
        raise reading.error(reading.node, "ARG takes at least one name")
    values = []
    for word in reading.node.words:
        name, equals, default = word.text.partition("=")
        name = reading.scope.expand(word, name)
        if not name:
            raise reading.error(word, "the name of an ARG is empty")
        given = None
        if equals and name not in reading.scope.overrides:
            given = reading.scope.expand(word, default)
        values.append((name, reading.scope.declare(word, name, given)))
    return Arg(tuple(values))


def _cat(reading: _Reading) -> Cat:
    words, destination = reading.ends()
    documents: list[tuple[str, str]] = []
    spoken: list[str] = []
    for word in (*words, None):
        if word is not None and word.heredoc is None:
            spoken.append(reading.document(word).text)
            continue
        if spoken:
            documents.append((_NAME_OF_WORDS, " ".join(spoken) + "\n"))
            spoken = []
        if word is not None:
            made = reading.document(word)
            documents.append((made.name, made.text))
    return Cat(tuple(documents), destination)


def _cmd(reading: _Reading) -> Cmd:
    words = reading.node.words
    if not words:
        raise reading.error(reading.node, "CMD has no arguments", 'a JSON array, like ["-m", "model.gguf"]')
    values = [reading.scope.expand(word, quoting=Quoting.JSON) for word in words]
    arguments, command = read_command(values, lambda index, reason, note: reading.error(words[index], reason, note))
    return Cmd(arguments, command)


def _convert(reading: _Reading) -> Convert:
    source, destination = reading.one_file()
    kind = _CLASSES[reading.choice("class", tuple(_CLASSES), "class") or "model"]
    type_name = reading.choice("type", types.CONVERT_TYPES) or "F16"
    base = reading.value("base")
    if kind == "lora":
        if base is None:
            raise reading.error(reading.flags["class"][0], "a LoRA needs the model it was trained on", "--base=FOLDER")
        if type_name not in types.LORA_TYPES:
            reason = f"a LoRA cannot be written as {type_name}"
            raise reading.error(reading.flags["type"][0], reason, f"one of {', '.join(types.LORA_TYPES)}")
    return Convert(source, destination, type_name, kind, base, reading.origin(), reading.switch("allow-pickle"))


def _label(reading: _Reading) -> Label:
    node = reading.node
    if not node.words:
        raise reading.error(node, "LABEL takes at least one name=value")
    if node.is_legacy:
        if len(node.words) < _BOTH_ENDS:
            raise reading.error(node.words[0], "LABEL takes a name and a value", "written name=value")
        pairs = [(node.words[0], node.words[0].text, node.words[1].text)]
    else:
        pairs = []
        for word in node.words:
            name, equals, value = word.text.partition("=")
            if not equals:
                raise reading.error(word, f"`{word.text}` has no `=`", "written name=value")
            pairs.append((word, name, value))
    labels: dict[str, str] = {}
    for word, name, value in pairs:
        key = reading.scope.expand(word, name)
        if not key:
            raise reading.error(word, "the name of a LABEL is empty")
        labels[key] = reading.scope.expand(word, value)
    return Label(tuple(labels.items()))


def _quantize(reading: _Reading) -> Quantize:
    source, destination = reading.one_file()
    included = tuple(_tensors(reading, "include-weights"))
    excluded = tuple(_tensors(reading, "exclude-weights"))
    imatrix = reading.value("imatrix")
    if included and excluded:
        reason = "--include-weights and --exclude-weights do not go together"
        raise reading.error(reading.flags["exclude-weights"][0], reason)
    if (included or excluded) and imatrix is None:
        name = "include-weights" if included else "exclude-weights"
        raise reading.error(reading.flags[name][0], f"--{name} says how --imatrix is used, and there is none")
    return Quantize(
        source,
        destination,
        reading.choice("type", types.QUANTIZE_TYPES) or "Q5_K_M",
        reading.origin(),
        imatrix,
        included,
        excluded,
        reading.switch("leave-output-tensor"),
        reading.switch("pure"),
        reading.choice("output-tensor-type", types.TENSOR_TYPES),
        reading.choice("token-embedding-type", types.TENSOR_TYPES),
        tuple(_tensor_type(reading, flag, value) for flag, value in reading.values("tensor-type")),
        tuple(_override(reading, flag, value) for flag, value in reading.values("override-kv")),
        reading.switch("keep-split"),
        reading.switch("allow-requantize"),
        _threads(reading),
    )


def _tensors(reading: _Reading, name: str) -> Iterator[str]:
    for flag, value in reading.values(name):
        for tensor in value.split(","):
            if not tensor:
                raise reading.error(flag, f"`{value}` has an empty name in it", "names have commas between them")
            yield tensor


def _tensor_type(reading: _Reading, flag: Flag, value: str) -> tuple[str, str]:
    name, equals, kind = value.rpartition("=")
    if not equals or not name:
        raise reading.error(flag, f"`{value}` names no tensors", "written NAME=TYPE")
    return name, reading.one_of(flag, kind, types.TENSOR_TYPES)


def _override(reading: _Reading, flag: Flag, value: str) -> str:
    match = _OVERRIDE.fullmatch(value)
    if match is None:
        raise reading.error(flag, f"`{value}` sets no key", "written KEY=TYPE:VALUE with int, float, bool or str")
    kind, text = match[2], match[3]
    try:
        fits = {
            "int": lambda: -(2**63) <= int(text) < 2**63,
            "float": lambda: float(text) == float(text),
            "bool": lambda: text in ("true", "false"),
            "str": lambda: len(text.encode()) <= _LONGEST_STRING,
        }[kind]()
    except ValueError:
        fits = False
    if not fits:
        raise reading.error(flag, f"`{text}` is no {kind} that llama.cpp takes")
    return value


def _threads(reading: _Reading) -> int | None:
    value = reading.value("threads")
    if value is None:
        return None
    if not value.isdecimal() or not value.isascii() or not 1 <= int(value[:9]) <= _MOST_THREADS:
        raise reading.error(reading.flags["threads"][0], f"`{value}` is no number of threads", "1 to 1024")
    return int(value)


_READERS: dict[str, Callable[[_Reading], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CAT": _cat,
    "CMD": _cmd,
    "CONVERT": _convert,
    "COPY": _copy,
    "LABEL": _label,
    "QUANTIZE": _quantize,
}
