"""Package: a user's file or folder becomes a model in the store, and the model a manifest."""

from __future__ import annotations

import os
import re
import stat
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lading import fs
from lading.errors import FormatError, NotFoundError
from lading.events import Advanced, Finished, Skipped, Started
from lading.facts import HeaderFile, read_facts, role_in_header
from lading.formats import gguf
from lading.formats.safetensors_index import read_index
from lading.formats.shards import shard_of, shard_sets
from lading.manifest import Descriptor
from lading.model import Model, Part, Role, check_names, role_of
from lading.ranges import FileRanges
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import ExitStack
    from typing import NoReturn

    from lading.artifact import Format, Written
    from lading.events import Reporter
    from lading.formats.gguf import GgufHeader
    from lading.model import ModelFacts
    from lading.store import Lease, Store

MAX_FILES = 2048
"""In one model, as with modctl; a manifest of some thousand more would exceed what registries take."""

_BLOB = "application/octet-stream"
_INDEX = ".safetensors.index.json"
_CHECKPOINTS = {".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack"}
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.safetensors", re.DOTALL)


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
    Raises NotFoundError, AccessDeniedError and FormatError, naming the path.
    """
    with fs.os_errors(clean(str(source))):
        is_folder = stat.S_ISDIR(source.stat().st_mode)
        files = sorted(_walk(source)) if is_folder else [(name, source.with_name(name)) for name in _family(source)]
    if not files:
        msg = f"{clean(str(source))} holds no files"
        raise NotFoundError(msg, hint="a model's folder has .gguf or .safetensors files; links in it are not followed")
    if len(files) > MAX_FILES:
        msg = f"{clean(str(source))} holds {len(files)} files; {MAX_FILES} are the most in a model"
        raise FormatError(msg, hint="name the folder of the model itself")
    check_names((name for name, _path in files), clean(str(source)))
    return tuple(files)


def open_draft(source: Path, stack: ExitStack) -> Draft:
    """Open a model's files, read their headers and say what each is; `stack` closes them.

    Raises FormatError, naming the file, for what is no regular file or breaks its format's rules.
    """
    files = []
    headers: dict[str, GgufHeader] = {}
    roles: dict[tuple[str, int], Role] = {}
    for name, path in find_files(source):
        origin = fs.Origin.open(path)
        stack.callback(origin.close)
        role = role_of(name)
        if name.lower().endswith(".gguf"):
            with closing(_ranges(origin)) as reader:
                headers[name] = gguf.read_header(reader)
            role = role_in_header(headers[name]) or role
            if shard := shard_of(name):
                # Only the first of a set, which comes first, says what they are.
                role = roles.setdefault((shard.stem, shard.count), role)
        files.append((role, name, origin))
    if len(files) == 1 and files[0][0] in (Role.OTHER, Role.DOC):
        files = [(Role.WEIGHTS, files[0][1], files[0][2])]  # one file without a telling name: its header tells
    if not any(role is Role.WEIGHTS for role, _name, _origin in files):
        msg = f"{source} holds no model weights"
        raise FormatError(msg, hint=_no_weights_hint([(role, name) for role, name, _origin in files]))
    _check_safetensors({name: origin for _role, name, origin in files}, source)
    facts = read_facts(
        [HeaderFile(role, name, partial(_ranges, origin)) for role, name, origin in files], known=headers
    )
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
        adopted = store.adopt(origin, _progress(reporter, name), copy=copy, lease=lease)
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
    return FileRanges(os.dup(origin.descriptor), str(origin.path), origin.before.st_size)


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            mode = path.lstat().st_mode
            if name.startswith(".") or stat.S_ISLNK(mode):
                continue
            if not stat.S_ISREG(mode):
                msg = f"{clean(str(path))} is not a regular file"
                raise FormatError(msg, hint="a model is made of files; pipes, sockets and devices cannot be packed")
            yield path.relative_to(folder).as_posix(), path


def _fail(error: OSError) -> NoReturn:
    # os.walk would leave out what it may not read, and the model would lack it.
    raise fs.as_lading_error(error, clean(str(error.filename)))


def _family(source: Path) -> Sequence[str]:
    """Return the names of all shards of the set that a file belongs to, or just its own."""
    shard = shard_of(source.name)
    if shard is None:
        return (source.name,)
    rest = source.name[len(shard.stem) + len("-00001") :]
    pattern = re.compile(re.escape(shard.stem) + "-[0-9]{5}" + re.escape(rest))
    siblings = [entry.name for entry in source.parent.iterdir() if pattern.fullmatch(entry.name)]
    return shard_sets(siblings)[0]


def _check_safetensors(files: Mapping[str, fs.Origin], source: Path) -> None:
    """Raise FormatError, naming what is missing, for a model in several files that are not all there."""
    weights = [name for name in files if name.endswith(".safetensors")]
    for name, origin in files.items():
        if name.endswith(_INDEX) and weights:
            folder = name[: name.rfind("/") + 1]
            with closing(_ranges(origin)) as reader:
                read_index(reader, {other.removeprefix(folder) for other in files if other.startswith(folder)})
    for match in filter(None, map(_SHARD.fullmatch, weights)):
        count = int(match["count"])
        parts = (f"{match['stem']}-{number:05d}-of-{match['count']}.safetensors" for number in range(1, count + 1))
        if missing := next((part for part in parts if part not in files), None):
            msg = f"{source} lacks {missing}, one of {count} files of a model"
            raise FormatError(msg, hint="a split model needs all its files; name the folder that holds them")


def _no_weights_hint(files: Sequence[tuple[Role, str]]) -> str:
    checkpoint = next((name for _role, name in files if PurePosixPath(name).suffix.lower() in _CHECKPOINTS), None)
    if checkpoint:
        return f"{checkpoint} is in a format that is not read; convert it to safetensors or GGUF first"
    if any(role in (Role.PROJECTOR, Role.ADAPTER) for role, _name in files):
        return "a projector or an adapter is packed beside the weights it belongs to, in one folder"
    return "weights are .gguf or .safetensors files"
