"""What the library's functions return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lading.api.documents import ModelDocument
    from lading.digest import Digest
    from lading.errors import LadingError
    from lading.model import ModelFacts, Role
    from lading.store.sweep import Fault


@dataclass(frozen=True, slots=True)
class Pulled:
    """A pulled model: its name in the store and digest; bytes of all and of what was fetched.

    `up_to_date` when nothing changed; `replaced` is the digest the name had before, if another.
    """

    name: str
    digest: Digest
    format: str
    total_bytes: int
    new_bytes: int
    up_to_date: bool
    replaced: Digest | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """A pushed model: where it is now, its digest, bytes of all and of what crossed, and its formats if some were asked for."""

    destination: str
    digest: Digest
    total_bytes: int
    new_bytes: int
    forms: tuple[DeliveredForm, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A model in an archive: its name there and digest."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Saved:
    """The models in an archive that was written, by name, and its size in bytes."""

    models: tuple[SavedModel, ...]
    size: int


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file of a packed model, size in bytes; `how` is cloned, linked, copied or present, "" in a dry run."""

    role: Role
    name: str
    size: int
    how: str


@dataclass(frozen=True, slots=True)
class DeliveredForm:
    """One format of a model that was written in several, or in another than it had: where it is by itself."""

    format: str
    destination: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class PackResult:
    """A packed model; `digest` is None in a dry run, which hashes nothing.

    `format` is what `--format` said, `forms` are the formats of several, each with a name of its own.
    """

    name: str
    digest: Digest | None
    format: str
    facts: ModelFacts
    files: tuple[PackedFile, ...]
    forms: tuple[DeliveredForm, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """A built model: its names and digest, bytes of all it reaches; steps of the recipe, and how many were cached.

    `digest` is None in a dry run, which makes nothing. `forms` are its formats; of several each has a name of its own.
    """

    names: tuple[str, ...]
    digest: Digest | None
    format: str
    size: int
    steps: int
    cached: int
    seconds: float
    forms: tuple[DeliveredForm, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """A model as `inspect` shows it; `requests` and `bytes_read` were spent on a remote one.

    `template` is the chat template that stands in a file of its own, the facts' one that inside the weights.
    """

    document: ModelDocument
    facts: ModelFacts
    template: str | None = None
    requests: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, slots=True)
class Mended:
    """A blob that was fetched anew: its size in bytes, and the source it came from."""

    digest: Digest
    size: int
    source: str


@dataclass(frozen=True, slots=True)
class Unmended:
    """A fault that is still there; `tried` are the sources that were asked, "" where there was none to ask, and why not."""

    fault: Fault
    tried: tuple[tuple[str, LadingError], ...]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did, and what it could not do."""

    mended: tuple[Mended, ...]
    left: tuple[Unmended, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A model that was copied: from where, where it is now, its digest, bytes of all and of what crossed.

    `forms` are the formats that were asked for, none where it was copied as it is.
    """

    source: str
    destination: str
    digest: Digest
    total_bytes: int
    new_bytes: int
    forms: tuple[DeliveredForm, ...] = ()
