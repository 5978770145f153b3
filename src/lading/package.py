"""Package: a user's file or folder becomes a model in the store, and the model a manifest."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lading import fs
from lading.errors import FormatError, NotFoundError
from lading.events import Advanced, Finished, Skipped, Started
from lading.facts import HeaderFile, read_facts, role_in_header
from lading.formats import gguf
from lading.formats.shards import shard_of, shard_sets
from lading.manifest import Descriptor
from lading.model import Model, Part, Role, role_of
from lading.ranges import FileRanges

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.artifact import Format, Written
    from lading.events import Reporter
    from lading.model import ModelFacts
    from lading.store import Lease, Store

_BLOB = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed model: what was written, and how each file came into the store, by name."""

    model: Model
    written: Written
    how: dict[str, str]


@dataclass(frozen=True, slots=True)
class Draft:
    """A user's files that make a model, their headers read and checked, nothing hashed yet."""

    files: tuple[tuple[Role, str, fs.Origin], ...]
    facts: ModelFacts

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(origin.before.st_size for _role, _name, origin in self.files)


def find_files(source: Path) -> tuple[tuple[str, Path], ...]:
    """Return the files that a path stands for, as (name in the model, path), sorted.

    A GGUF shard stands for its whole set; a folder for all files in it, except hidden ones and links.
    Raises NotFoundError and FormatError, naming the path.
    """
    if source.is_dir():
        files = tuple(_walk(source))
        if not files:
            msg = f"{source} holds no files"
            raise NotFoundError(msg, hint="a model's folder has .gguf or .safetensors files")
        return files
    shard = shard_of(source.name)
    if shard is None:
        return ((source.name, source),)
    siblings = [entry.name for entry in source.parent.iterdir()] if source.parent.is_dir() else [source.name]
    family = next(names for names in shard_sets(_family(siblings, source.name)) if source.name in names)
    return tuple((name, source.with_name(name)) for name in family)


def open_draft(source: Path, stack: ExitStack) -> Draft:
    """Open a model's files, read their headers and say what each is; `stack` closes them.

    Raises FormatError, naming the file, for what is no regular file or breaks its format's rules.
    """
    files = []
    for name, path in find_files(source):
        origin = fs.Origin.open(path)
        stack.callback(origin.close)
        files.append((_role(name, origin), name, origin))
    if len(files) == 1 and files[0][0] in (Role.OTHER, Role.DOC):
        files = [(Role.WEIGHTS, files[0][1], files[0][2])]  # one file without a telling name: its header tells
    if not any(role is Role.WEIGHTS for role, _name, _origin in files):
        msg = f"{source} holds no model weights"
        raise FormatError(msg, hint="weights are .gguf or .safetensors files")
    shard_sets(name for role, name, _origin in files if role is Role.WEIGHTS and name.endswith(".gguf"))
    facts = read_facts([HeaderFile(role, name, partial(_ranges, origin)) for role, name, origin in files])
    if not facts.name:
        facts = replace(facts, name=source.resolve().name.removesuffix(".gguf"))
    return Draft(tuple(files), facts)


def pack(
    draft: Draft, store: Store, lease: Lease, row: Format, reporter: Reporter, *, copy: bool, created: str | None = None
) -> Packed:
    """Bring a draft's files into the store and write its manifest and config there, leased but not named."""
    parts = []
    how = {}
    for role, name, origin in draft.files:
        size = origin.before.st_size
        reporter.emit(Started(name, role.value, name, size))
        adopted = store.blobs.adopt(
            origin, _progress(reporter, name), copy=copy, keep=lambda digest: lease.add([digest])
        )
        how[name] = adopted.how
        reporter.emit(Skipped(name, role.value, name, size, "present") if adopted.how == "present" else Finished(name))
        parts.append(Part(role, name, Descriptor(media_type=_BLOB, digest=adopted.digest, size=adopted.size)))
    model = Model(tuple(parts), draft.facts)
    written = row.write(model, created)
    lease.add([written.manifest.config.digest, written.manifest.digest])
    store.put_bytes(written.config)
    store.put_bytes(written.manifest.raw)
    return Packed(model, written, how)


def _progress(reporter: Reporter, key: str) -> Callable[[int], None]:
    return lambda done: reporter.emit(Advanced(key, done))


def _ranges(origin: fs.Origin) -> FileRanges:
    return FileRanges(os.dup(origin.descriptor), str(origin.path))


def _walk(folder: Path) -> list[tuple[str, Path]]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and not path.is_symlink():
                found.append((path.relative_to(folder).as_posix(), path))
    return sorted(found)


def _family(names: list[str], member: str) -> list[str]:
    shard = shard_of(member)
    return [
        name
        for name in names
        if shard
        and name.startswith(shard.stem)
        and (other := shard_of(name))
        and (other.stem, other.count) == (shard.stem, shard.count)
    ]


def _role(name: str, origin: fs.Origin) -> Role:
    role = role_of(name)
    if role is Role.WEIGHTS and name.endswith(".gguf"):
        with closing(_ranges(origin)) as reader:
            return role_in_header(gguf.read_header(reader)) or role
    return role
