"""A model: files with roles, and the facts read from their headers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from lading.errors import FormatError
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lading.digest import Digest
    from lading.manifest import Descriptor

OPAQUE = "bin"
"""The format of a model of which nothing but checkpoints is there: files that are kept and never opened."""

_LICENCE = re.compile(r"licen[sc]e|copying|notice", re.IGNORECASE)
_UNITS = (("Q", 10**15), ("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3))
_COUNT = re.compile(r"([0-9]{1,18})(\.[0-9]{1,18})?[ ]?([KMBTQ]?)", re.IGNORECASE | re.ASCII)
_STEP = 1000
_MAX_NAME = 1024
_MAX_SEGMENT = 255  # bytes; the longest name on common file systems
_SHOWN = 80
_FURTHER = "additional_chat_templates"
_TOKENIZER_FILES = {
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
}
_DOC_SUFFIXES = {".md", ".txt", ".pdf", ".png", ".jpg", ".jpeg", ".svg", ".rst"}


class Role(StrEnum):
    """What a file is to its model. `bin` is a checkpoint that is kept as it is, and never opened or run."""

    WEIGHTS = "weights"
    PROJECTOR = "projector"
    ADAPTER = "adapter"
    DRAFTER = "drafter"
    TEMPLATE = "template"
    LICENCE = "licence"
    PARAMS = "params"
    SYSTEM = "system"
    TOKENIZER = "tokenizer"
    CONFIG = "config"
    DOC = "doc"
    BIN = "bin"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Member:
    """Where a file lies that is packed with others, or alone, in a layer that is a tar archive.

    `path` names it there; `offset`, from the start of the uncompressed archive, and `size` say where its bytes are.
    `compression` is the archive's, `diff_id` what the archive hashes to uncompressed, if the artifact says it. `digest` is
    what the artifact says that the file hashes to: a claim, until somebody has read it.
    """

    path: str
    offset: int
    size: int
    compression: str = "none"
    diff_id: Digest | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a model. `name` is its relative path with forward slashes.

    `blob` is the file itself, or, where there is a `member`, the layer that it is packed in.
    """

    role: Role
    name: str
    blob: Descriptor
    member: Member | None = None

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.member.size if self.member else self.blob.size

    @property
    def digest(self) -> Digest | None:
        """What the file hashes to; None where nobody has said it."""
        return self.member.digest if self.member else self.blob.digest


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's own headers, or an artifact's config, say of it. None means: not said.

    `format` is gguf or safetensors; `parameters` counts weights; `file_type` is llama.cpp's name
    (Q4_K_M) or a dtype (BF16); `context_length` is what it was trained for, in tokens; `metadata` are
    the header's scalars as text. `created` is the time (RFC 3339) that an artifact's config records, `settings` how
    its packager wants the model served, by the names of `runtime.settings` and unchecked, `command` the packager's
    arguments for llama-server, in which files go by the parts' names, `annotations` what is said of it beside. `outline` is what an estimate of its memory needs, as `outline.read_outline` takes it, "" if unknown.
    """

    format: str = ""
    architecture: str | None = None
    name: str | None = None
    parameters: int | None = None
    bits_per_weight: float | None = None
    file_type: str | None = None
    context_length: int | None = None
    vocabulary_size: int | None = None
    chat_template: str | None = field(default=None, repr=False)
    licence: str | None = None
    vendor: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    created: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)
    command: tuple[str, ...] = field(default=(), repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict, repr=False)
    outline: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Model:
    """The files of a model in their order, and its facts."""

    parts: tuple[Part, ...]
    facts: ModelFacts

    def of(self, role: Role) -> tuple[Part, ...]:
        """Return the parts with a role, in order."""
        return tuple(part for part in self.parts if part.role is role)

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)


def role_of(name: str) -> Role:
    """Guess a file's role from its name alone, as the field's packers do."""
    base = PurePosixPath(name).name.lower()
    suffix = PurePosixPath(base).suffix
    if suffix in (".gguf", ".safetensors"):
        return _weights_role(base)
    if suffix == ".jinja" or "chat_template" in base:
        return Role.TEMPLATE
    if _LICENCE.search(base):
        return Role.LICENCE
    if base.startswith("tokenizer") or base in _TOKENIZER_FILES or suffix == ".tiktoken":
        return Role.TOKENIZER
    if suffix == ".json":
        return Role.CONFIG
    return Role.BIN if suffix == ".bin" else Role.DOC if suffix in _DOC_SUFFIXES else Role.OTHER


def body(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return what makes files a model: the weights, or where there are none, the checkpoints that are only kept."""
    known = tuple(parts)
    weights = tuple(part for part in known if part.role is Role.WEIGHTS)
    return weights or tuple(part for part in known if part.role is Role.BIN)


def chat_templates(names: Iterable[str]) -> tuple[str, ...]:
    """Return which of the files that are named like chat templates could be the model's own, in their order.

    Transformers' old form, in JSON, and its folder of templates for other uses stand beside the one for chats.
    """
    found = tuple(names)
    texts = (name for name in found if not name.endswith(".json") and _FURTHER not in name.split("/")[:-1])
    return tuple(texts) or found


def _weights_role(base: str) -> Role:
    words = re.split(r"[-._]", base)
    if "mmproj" in words:
        return Role.PROJECTOR
    return Role.ADAPTER if base.startswith("adapter_model") or "lora" in words else Role.WEIGHTS


def human_count(number: int) -> str:
    """Write a count as the field does: 1.41M, 8.03B. What is read back from it is written the same again."""
    if number < _STEP:
        return str(number)
    # Compared as it will be shown: 999,999 is 1.00M, not 1000.00K.
    fitting = (entry for entry in reversed(_UNITS) if round(number / entry[1], 2) < _STEP)
    unit, value = next(fitting, _UNITS[0])
    return f"{number / value:.2f}{unit}"


def parse_count(text: str) -> int | None:
    """Read `361.82M`, `8b` or `1412352`; None for anything else."""
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        return None
    whole, fraction, unit = match.groups()
    scale = dict(_UNITS).get(unit.upper(), 1)
    return round(float(whole + fraction) * scale) if fraction else int(whole) * scale


def check_names(names: Iterable[str], thing: str) -> None:
    """Hold the names of the files in `thing` to what can be a file on every machine; raises FormatError.

    A name is a relative path with forward slashes that stays in its folder, and no two files have the same.
    """
    paths = sorted(_segments(name, thing) for name in names)
    # A folder sorts right before what it holds, so neighbours are all that must be compared.
    for one, other in pairwise(paths):
        if other[: len(one)] == one:
            name = clean("/".join(one))[:_SHOWN]
            msg = f"{thing} has {name} twice" if one == other else f"{thing} has {name} as a file and as a folder"
            raise FormatError(msg, hint="each file of a model has a path of its own")


def _segments(name: str, thing: str) -> tuple[str, ...]:
    segments = tuple(name.split("/"))
    if (
        len(name) > _MAX_NAME
        or "\\" in name
        or not {"", ".", ".."}.isdisjoint(segments)
        or any(ord(char) < ord(" ") or "\x7f" <= char < "\xa0" or "\ud800" <= char < "\ue000" for char in name)
        or any(len(segment.encode()) > _MAX_SEGMENT for segment in segments)
    ):
        msg = f"{thing} has a file with the impossible name `{clean(name)[:_SHOWN]}`"
        raise FormatError(
            msg, hint="a name is a relative path in UTF-8 without `..`, backslashes or control characters"
        )
    return segments
