"""A build context: a folder of the user's, less what its ignore file leaves out, as files that steps may take."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from lading import fs
from lading.build.outcome import Held
from lading.build.tree import check_name, is_below
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError, NotFoundError
from lading.events import Advanced, Finished, Started
from lading.recipe.ignore import FILES, IgnoreRules, read_ignore
from lading.store.linked import stamp_of
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from lading.build.bench import Bench

_OWN_COPY = 16 * 1024 * 1024
"""Bytes up to which a file is copied: what people edit in place is small, and an image made of it must not notice."""

_LARGEST_IGNORE = 1024 * 1024


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    stamp: tuple[int, int, int, int, int]
    digest: str


class Context:
    """A folder as a shelf. What was hashed once is not read again as long as its times and size stay as they were."""

    def __init__(self, root: Path, bench: Bench, rules: IgnoreRules | None = None) -> None:
        self.root = root
        self._bench = bench
        self._rules = rules
        self._lock = threading.Lock()
        self.brought: set[str] = set()
        """The files that the store did not have before."""

    def names(self, root: str, /) -> Collection[str]:
        """Return the files at or below a path that the ignore file leaves in; links to folders are not followed."""
        return [name for name in self._names if is_below(name, root)]

    def take(self, names: Collection[str], /) -> Mapping[str, Held]:
        """Bring files into the store; raises IntegrityError for one that changes meanwhile."""
        with self._lock:
            known = len(self._seen)
            before = dict(self._seen)
            taken = {name: self._taken(name) for name in names}
            if known != len(self._seen) or before != self._seen:
                self._bench.remember_seen(str(self.root), msgspec.json.encode(self._seen))
        return taken

    @cached_property
    def _seen(self) -> dict[str, _Seen]:
        raw = self._bench.seen(str(self.root))
        try:
            return msgspec.json.decode(raw, type=dict[str, _Seen]) if raw else {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}  # damaged: the files are hashed again

    @cached_property
    def _names(self) -> tuple[str, ...]:
        rules = self._rules if self._rules is not None else _ignored(self.root)
        return tuple(sorted(_walk(self.root, rules)))

    def _taken(self, name: str) -> Held:
        check_name(name)
        path = self.root / name[1:]
        self._hold_inside(path)
        with fs.os_errors(path):
            status = path.stat()
        seen = None if self._bench.fresh else self._seen.get(name)
        if seen is not None and seen.stamp == stamp_of(status) and fs.settled(status):
            held = Held(Digest(seen.digest), status.st_size)
            self._bench.lease.add([held.digest])
            if self._bench.store.blobs.is_whole(held.digest, held.size):
                return held
        return self._adopted(name, path)

    def _adopted(self, name: str, path: Path) -> Held:
        bench = self._bench
        with closing(fs.Origin.open(path)) as origin:
            size = origin.before.st_size
            big = size > _OWN_COPY
            if big:
                bench.reporter.emit(Started(name, "context", name[1:], size))

            def tell(done: int) -> None:
                if big:
                    bench.reporter.emit(Advanced(name, done))

            try:
                adopted = bench.store.adopt(origin, bench.progress(tell), copy=not big, lease=bench.lease)
            except IntegrityError as error:
                msg = f"{clean(str(path))} was changed while it was read"
                raise IntegrityError(msg, hint="build again when nothing writes to it") from error
            if adopted.how != "present":
                self.brought.add(name)
            with fs.os_errors(path):
                after = stamp_of(path.stat())
            # A link that the store took of the file changes its ctime, and nothing else.
            if after[:4] == stamp_of(origin.before)[:4] and (
                adopted.how == "linked" or after == stamp_of(origin.before)
            ):
                self._seen[name] = _Seen(after, str(adopted.digest))
            if big:
                bench.reporter.emit(Finished(name))
        return Held(adopted.digest, adopted.size)

    def _hold_inside(self, path: Path) -> None:
        """Raise FormatError for a link that leads out of the context: a stranger's recipe takes nothing else."""
        with fs.os_errors(path):
            real = path.resolve(strict=True)
        if not real.is_relative_to(self._real_root):
            msg = f"{clean(str(path))} is a link that leads out of the context"
            raise FormatError(msg, hint="name its folder with --build-context NAME=DIR, and take it --from=NAME")

    @cached_property
    def _real_root(self) -> Path:
        with fs.os_errors(self.root):
            return self.root.resolve(strict=True)


def open_context(root: Path, bench: Bench, rules: IgnoreRules | None = None) -> Context:
    """Return a folder as a context; `rules` None reads its own ignore file. Raises NotFoundError for what is no folder."""
    if not root.is_dir():
        msg = f"the context {clean(str(root))} is no folder"
        raise NotFoundError(msg, hint="name the folder that the recipe takes its files from")
    return Context(root.absolute(), bench, rules)


def _walk(root: Path, rules: IgnoreRules) -> Iterator[str]:
    """Yield the files of a folder that its rules leave in, by their paths from `/`, in no order."""
    folders = [""]
    while folders:
        prefix = folders.pop()
        folder = root / prefix
        with fs.os_errors(folder), os.scandir(folder) as entries:
            for entry in entries:
                path = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders += [] if rules.prunes(path) else [f"{path}/"]
                elif not rules.ignores(path) and (entry.is_file(follow_symlinks=False) or _leads_to_file(entry)):
                    yield f"/{path}"


def _ignored(root: Path) -> IgnoreRules:
    for name in FILES:
        path = root / name
        if path.is_file():
            with open(fs.open_regular(path), "rb") as file:  # noqa: PTH123 - a descriptor, not a path
                return read_ignore(file.read(_LARGEST_IGNORE).decode("utf-8", "replace"), str(path))
    return IgnoreRules()


def _leads_to_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False  # a link to nothing
