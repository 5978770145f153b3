"""How a model was packed: kept beside its name in the store, since what was given besides its files is nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lading import artifact
from lading.model import Model, Role
from lading.package import Given

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lading.api.session import Session
    from lading.content import Source
    from lading.convert import Made, Press
    from lading.manifest import Descriptor


class Packing(msgspec.Struct, frozen=True, omit_defaults=True):
    """In which formats a model was packed, at which recorded time if any, and what was given besides its files."""

    formats: str
    created: str | None = None
    files: tuple[tuple[Role, str], ...] = ()
    name: str | None = None
    licence: str | None = None
    settings: dict[str, object] = {}
    annotations: dict[str, str] = {}

    @classmethod
    def of(cls, formats: str, created: str | None, given: Given) -> Packing:
        """Note what was asked for."""
        files = tuple((role, str(path.absolute())) for role, path in given.files)
        return cls(formats, created, files, given.name, given.licence, dict(given.settings), dict(given.annotations))

    @classmethod
    def read(cls, text: str | None) -> Packing | None:
        """Return what `text` notes; None where nothing was noted, or nothing that is understood."""
        try:
            return msgspec.json.decode(text, type=cls) if text else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    @property
    def text(self) -> str:
        """The note."""
        return msgspec.json.encode(self).decode()

    @property
    def given(self) -> Given:
        """What was given."""
        files = tuple((role, Path(path)) for role, path in self.files)
        return Given(files, self.name, self.licence, self.settings, self.annotations)


def is_plain(rows: Sequence[artifact.Format]) -> bool:
    """Say whether formats are one, whose layers are the files themselves: its manifest is all there is to write."""
    return len(rows) == 1 and rows[0].wrap is None


def formed(  # noqa: PLR0917 - what a model is written of, each once
    session: Session,
    files: Source,
    model: Model,
    rows: Sequence[artifact.Format],
    press: Press,
    has: Callable[[Descriptor], bool],
) -> tuple[Made, tuple[str, ...]]:
    """Write a model of files at a source in several formats; return also what the first of them leaves out of it."""
    from lading.convert import Found, Overlay, make  # noqa: PLC0415 - one plain format is written without

    created = model.facts.created
    first = next((row for row in rows if row.wrap is None), artifact.RAW[0])
    written = first.write(model, created)
    source = Overlay(files)
    for data in (written.config, *written.blobs):
        source.write(data)
    found = Found("the model", source, written.manifest, written.config, first, model)
    made = make(found, rows, press, session.reporter, has=has)
    return made, written.left_out if first in rows else ()
