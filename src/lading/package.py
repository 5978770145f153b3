"""Package: a user's file or folder becomes a model in the store, and the model a manifest."""

from __future__ import annotations

import os
import re
import stat
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lading import fs
from lading.digest import Digest
from lading.errors import FormatError, NotFoundError
from lading.events import Advanced, Finished, Noted, Skipped, Started
from lading.facts import HeaderFile, read_facts, role_in_header
from lading.formats import gguf, safetensors
from lading.formats.safetensors_index import read_index
from lading.formats.shards import check_safetensors, shard_of, shard_sets
from lading.manifest import Descriptor
from lading.model import Model, Part, Role, chat_templates, check_names, role_of
from lading.ranges import FileRanges
from lading.store.views import folded
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import ExitStack
    from typing import NoReturn

    from lading.artifact import Format, Written
    from lading.events import Reporter
    from lading.formats.gguf import GgufHeader
    from lading.model import ModelFacts
    from lading.store import Lease, Store

    _File = tuple[Role, str, fs.Origin]

MAX_FILES = 2048
"""In one model, as with modctl; a manifest of some thousand more would exceed what registries take."""

MAX_TEMPLATE = 1024 * 1024
"""Characters of a chat template; those of real models have some ten thousand."""

_BLOB = "application/octet-stream"
_GGUF = b"GGUF"
_INDEX = ".safetensors.index.json"
_CHECKPOINTS = {".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack"}


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed model: what was written, and how each file came into the store, by name."""

    model: Model
    written: Written
    how: dict[str, str]


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says of a model; it goes before what names and headers say.

    `files` are further files with their roles, `settings` how it is to be served, checked by whoever gives them.
    """

    files: tuple[tuple[Role, Path], ...] = ()
    name: str | None = None
    licence: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


NOTHING = Given()
"""Everything follows from the files."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A user's files that make a model, their headers read and checked, nothing hashed yet.

    `replaced` are the names of those that a given file stands for now.
    """

    files: tuple[tuple[Role, str, fs.Origin], ...]
    facts: ModelFacts
    replaced: tuple[str, ...] = ()

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


def open_draft(source: Path, stack: ExitStack, given: Given = NOTHING) -> Draft:
    """Open a model's files, read their headers and say what each is; `stack` closes them.

    Raises FormatError, naming the file, for what is no regular file, breaks its format's rules or contradicts another.
    """
    found = find_files(source)
    said = {path.resolve(): role for role, path in given.files}
    headers: dict[str, GgufHeader] = {}
    files = _opened(found, said, headers, stack)
    if len(found) == 1 and files[0][0] in (Role.OTHER, Role.DOC, *(() if source.is_dir() else (Role.BIN,))):
        files[0] = (Role.WEIGHTS, *files[0][1:])  # one file without a telling name: its header tells
    inside = {path.resolve() for _name, path in found}
    beside = tuple((path.name, path) for _role, path in given.files if path.resolve() not in inside)
    kept, replaced = _without_replaced(files, beside, given)
    files = sorted([*kept, *_opened(beside, said, headers, stack)], key=lambda file: file[1])
    names = [name for _role, name, _origin in files]
    shown = clean(str(source))
    check_names(names, shown)
    _check_alike(names, shown)
    files = _one_template(files, shown)
    if not any(role in (Role.WEIGHTS, Role.BIN) for role, _name, _origin in files):
        msg = f"{shown} holds no model weights"
        raise FormatError(msg, hint=_no_weights_hint([(role, name) for role, name, _origin in files]))
    _check_safetensors({name: origin for _role, name, origin in files})
    facts = read_facts(
        [HeaderFile(role, name, partial(_ranges, origin)) for role, name, origin in files], known=headers
    )
    facts = replace(
        facts,
        name=given.name or facts.name,
        licence=given.licence or facts.licence,
        settings=given.settings,
        annotations=given.annotations,
    )
    return Draft(tuple(files), facts, replaced)


def pack(
    draft: Draft, store: Store, lease: Lease, row: Format, reporter: Reporter, *, copy: bool, created: str | None = None
) -> Packed:
    """Bring a draft's files into the store and write its manifest and config there, leased but not named."""
    model, how = bring(draft, store, lease, reporter, copy=copy)
    written = row.write(model, created)
    made = (*written.blobs, written.config, written.manifest.raw)
    lease.add(map(Digest.of, made))
    for data in made:
        store.put_bytes(data)
    for sentence in written.left_out:
        reporter.emit(Noted(sentence, warning=True))
    return Packed(model, written, how)


def bring(draft: Draft, store: Store, lease: Lease, reporter: Reporter, *, copy: bool) -> tuple[Model, dict[str, str]]:
    """Bring a draft's files into the store, leased, and return the model with how each file came there, by name."""
    parts = []
    how = {}
    for role, name, origin in draft.files:
        size = origin.before.st_size
        reporter.emit(Started(name, role.value, name, size))
        adopted = store.adopt(origin, _progress(reporter, name), copy=copy, lease=lease)
        how[name] = adopted.how
        reporter.emit(Skipped(name, role.value, name, size, "present") if adopted.how == "present" else Finished(name))
        parts.append(Part(role, name, Descriptor(media_type=_BLOB, digest=adopted.digest, size=adopted.size)))
    return Model(tuple(parts), draft.facts), how


def _opened(
    files: Iterable[tuple[str, Path]], said: Mapping[Path, Role], headers: dict[str, GgufHeader], stack: ExitStack
) -> list[_File]:
    """Open files and say what each is; the headers of GGUF files are kept by name."""
    opened = []
    roles: dict[tuple[str, int], Role] = {}
    for name, path in files:
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
        if wanted := said.get(path.resolve()):
            _check_given(wanted, origin)
            role = wanted
        opened.append((role, name, origin))
    return opened


def _check_given(role: Role, origin: fs.Origin) -> None:
    """Raise FormatError, naming the file, unless its bytes can have the role that the user gives it."""
    with closing(_ranges(origin)) as reader:
        if role is Role.TEMPLATE:
            _check_text(reader)
        elif role is Role.PROJECTOR or (role is Role.ADAPTER and reader.read_at(0, 4) == _GGUF):
            says = role_in_header(gguf.read_header(reader))
            if says not in (None, role):
                msg = f"{reader.name} is no {role.value}: its header says that it is {says.value}"
                raise FormatError(msg, hint="check which file is which")
        elif role is Role.ADAPTER:
            safetensors.read_header(reader)


def _check_text(reader: FileRanges) -> None:
    try:
        text = reader.read_at(0, MAX_TEMPLATE + 1).decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or len(text) > MAX_TEMPLATE:
        msg = f"{reader.name} is no chat template: it is no text, or longer than {MAX_TEMPLATE // 1024} KiB"
        raise FormatError(msg, hint="a chat template is a text file in Jinja's language")


def _without_replaced(
    files: list[_File], beside: Sequence[tuple[str, Path]], given: Given
) -> tuple[list[_File], tuple[str, ...]]:
    """Part files into those that stay and the names of those for which a given one stands: by name, or alone in a role."""
    names = {name for name, _path in beside}
    said = {path.resolve() for _role, path in given.files}
    alone = {role for role, _path in given.files} & {Role.TEMPLATE, Role.PROJECTOR}
    kept = [file for file in files if file[1] not in names and (file[0] not in alone or file[2].path.resolve() in said)]
    stay = {name for _role, name, _origin in kept}
    return kept, tuple(name for _role, name, _origin in files if name not in stay)


def _check_alike(names: Iterable[str], thing: str) -> None:
    """Raise FormatError for two files or folders whose names are the same on disks that tell no case apart."""
    seen: dict[str, str] = {}
    for name in names:
        segments = name.split("/")
        for depth in range(1, len(segments) + 1):
            path = "/".join(segments[:depth])
            if (other := seen.setdefault(folded(path), path)) != path:
                msg = f"{thing} has {other} and {path}, which differ by case or accents only"
                raise FormatError(msg, hint="they would be one file on some disks; rename one of them")


def _one_template(files: list[_File], thing: str) -> list[_File]:
    """Return the files with one chat template at most; raises FormatError, naming them, where several could be it."""
    texts = chat_templates(name for role, name, _origin in files if role is Role.TEMPLATE)
    if len(texts) > 1:
        msg = f"{thing} has {len(texts)} chat templates: {', '.join(texts)}"
        raise FormatError(msg, hint="a model has one; --template FILE says which")
    return [
        (Role.CONFIG if role is Role.TEMPLATE and name not in texts else role, name, origin)
        for role, name, origin in files
    ]


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


def _check_safetensors(files: Mapping[str, fs.Origin]) -> None:
    """Raise FormatError, naming what is missing, for a model in several files that are not all there."""
    weights = [name for name in files if name.endswith(".safetensors")]
    for name, origin in files.items():
        if name.endswith(_INDEX) and weights:
            folder = name[: name.rfind("/") + 1]
            with closing(_ranges(origin)) as reader:
                read_index(reader, {other.removeprefix(folder) for other in files if other.startswith(folder)})
    check_safetensors(weights)


def _no_weights_hint(files: Sequence[tuple[Role, str]]) -> str:
    checkpoint = next((name for _role, name in files if PurePosixPath(name).suffix.lower() in _CHECKPOINTS), None)
    if checkpoint:
        return f"{checkpoint} is in a format that is not read; convert it to safetensors or GGUF first"
    if any(role in (Role.PROJECTOR, Role.ADAPTER) for role, _name in files):
        return "a projector or an adapter is packed beside the weights it belongs to, in one folder"
    return "weights are .gguf or .safetensors files"
