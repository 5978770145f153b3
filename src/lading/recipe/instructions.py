"""The nine instructions, typed: what a step is told once variables are replaced and every value is checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lading.digest import Digest
    from lading.recipe.command import Command
    from lading.recipe.sources import Origin, Source

ConvertClass = Literal["model", "lora", "mmproj"]


@dataclass(frozen=True, slots=True)
class Ownership:
    """What files get on their way: owner and group (numbers or names), and permission bits; None leaves them."""

    owner: str | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Add:
    """Bring files in: of the context, from the network, or documents."""

    sources: tuple[Source, ...]
    destination: str
    checksum: Digest | None = None
    ownership: Ownership = Ownership()
    exclude: tuple[str, ...] = ()
    keep_git_dir: bool = False
    link: bool = False


@dataclass(frozen=True, slots=True)
class Arg:
    """Name variables, with the values they have from here on; None for one that nobody gave a value."""

    values: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Cat:
    """Write documents: one after the other into one file, or each into a file of a folder."""

    documents: tuple[tuple[str, str], ...]
    destination: str


@dataclass(frozen=True, slots=True)
class Cmd:
    """What llama-server is told; `arguments` as given, without the file flags that were left empty."""

    arguments: tuple[str, ...]
    command: Command


@dataclass(frozen=True, slots=True)
class Convert:
    """Make a GGUF of a folder of weights; `origin` None is the stage itself, `base` what a LoRA was trained on."""

    source: str
    destination: str
    type: str = "F16"
    kind: ConvertClass = "model"
    base: str | None = None
    origin: Origin | None = None
    allow_pickle: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """Bring files in from the context (`origin` None), another stage, a named context or an image."""

    sources: tuple[Source, ...]
    destination: str
    origin: Origin | None = None
    checksum: Digest | None = None
    ownership: Ownership = Ownership()
    exclude: tuple[str, ...] = ()
    parents: bool = False
    link: bool = False


@dataclass(frozen=True, slots=True)
class From:
    """Begin a stage; `platform` is that of the base image, None for the build's target."""

    base: Origin
    platform: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """Describe the image."""

    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Quantize:
    """Make a smaller GGUF of a GGUF; `threads` None takes the usable cores."""

    source: str
    destination: str
    type: str = "Q5_K_M"
    origin: Origin | None = None
    imatrix: str | None = None
    include_weights: tuple[str, ...] = ()
    exclude_weights: tuple[str, ...] = ()
    leave_output_tensor: bool = False
    pure: bool = False
    output_tensor_type: str | None = None
    token_embedding_type: str | None = None
    tensor_types: tuple[tuple[str, str], ...] = ()
    overrides: tuple[str, ...] = ()
    keep_split: bool = False
    allow_requantize: bool = False
    threads: int | None = None


Instruction = Add | Arg | Cat | Cmd | Convert | Copy | From | Label | Quantize
