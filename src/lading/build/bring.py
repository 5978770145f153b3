"""ADD, COPY and CAT: files from somewhere get their places in a stage."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lading.build.checksum import check_sum
from lading.build.context import Context
from lading.build.tree import Tree, choose, is_folder
from lading.build.unpack import unpack
from lading.digest import Digest
from lading.errors import IntegrityError, UsageError
from lading.events import Noted
from lading.recipe.contents import image_path
from lading.recipe.ignore import read_ignore
from lading.recipe.instructions import Add
from lading.recipe.sources import Artifact, Document, Git, Hub, Local, OllamaModel, Url
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lading.build.bench import Bench
    from lading.build.outcome import Held
    from lading.build.tree import Shelf
    from lading.manifest import Platform
    from lading.recipe.instructions import Cat, Copy, Ownership
    from lading.recipe.sources import Source
    from lading.reference import Oci, Ollama

_PIVOT = "/./"


@dataclass(slots=True)
class Bringing:
    """One ADD or COPY at work: what it takes from, into which stage, and whether everything was here already."""

    bench: Bench
    shelf: Shelf
    what: str
    stage: Tree
    platforms: Sequence[Platform]
    cached: bool = True

    def bring(self, told: Add | Copy) -> dict[str, Held]:
        """Return the files by the paths that they get; raises the errors of the sources, UsageError for bad owners."""
        target = image_path(told.destination)
        several = len(told.sources) > 1 or is_folder(told.destination) or self.stage.has_folder(target)
        placed: dict[str, Held] = {}
        for source in told.sources:
            placed |= self._placed(source, target, told, several=several)
        uid, gid = _owner(told.ownership)
        mode = told.ownership.mode
        return {
            path: replace(held, uid=uid, gid=gid, mode=held.mode if mode is None else mode)
            for path, held in placed.items()
        }

    def _placed(self, source: Source, target: str, told: Add | Copy, *, several: bool) -> dict[str, Held]:
        match source:
            case Local():
                return self._local(source, target, told, several=several)
            case Document(name=name, text=text):
                return {_below(target, name) if several else target: self.bench.hold(text.encode())}
            case Url():
                from lading.build.fetch_url import fetch_url  # noqa: PLC0415 - each kind of source loads its own needs

                held, cached = fetch_url(source, told.checksum, self.bench)
                self.cached &= cached
                return {_below(target, source.name) if several else target: held}
            case Hub():
                files, single = self._of_hub(source, told)
                return self._laid(files, target, told, single=single and not several)
            case Git():
                return self._laid(self._of_git(source, told), target, told, single=False)
            case Artifact(reference=reference) | OllamaModel(reference=reference):
                return self._laid(self._of_registry(reference, told), target, told, single=False)

    def _of_hub(self, source: Hub, told: Add | Copy) -> tuple[dict[str, Held], bool]:
        if isinstance(told, Add) and told.keep_git_dir:
            text = "a hub's repository is fetched without git, and has no .git to keep"
            self.bench.reporter.emit(Noted(text, warning=True))
        from lading.build.fetch_hub import fetch_hub, is_one_file  # noqa: PLC0415 - as above

        files, cached = fetch_hub(source, self.bench)
        self.cached &= cached
        single = is_one_file(source, files)
        if told.checksum is not None:
            if not single:
                msg = "a checksum is for one file, and this source is several"
                raise UsageError(msg, hint="name one file, or the commit: hf://owner/repository@commit")
            check_sum(next(iter(files.values())), told.checksum, source.pattern or "", self.bench)
        return files, single

    def _of_git(self, source: Git, told: Add | Copy) -> dict[str, Held]:
        if told.checksum is not None:
            msg = f"a checksum is for one file, and {clean(source.url)} is a repository"
            raise UsageError(msg, hint="name its commit behind a `#`, which pins it")
        from lading.build.fetch_git import fetch_git  # noqa: PLC0415 - as above

        files, cached = fetch_git(source, self.bench, keep_git_dir=isinstance(told, Add) and told.keep_git_dir)
        self.cached &= cached
        return files

    def _of_registry(self, reference: Oci | Ollama, told: Add | Copy) -> dict[str, Held]:
        from lading.build.fetch_model import fetch_model  # noqa: PLC0415 - as above

        fetched = fetch_model(reference, self.platforms, self.bench)
        if told.checksum is not None and told.checksum != fetched.document.digest:
            msg = f"{fetched.name} is not what its checksum says: its manifest is {fetched.document.digest}"
            raise IntegrityError(msg, hint="ask whoever published the checksum")
        self.cached &= fetched.present
        return fetched.files

    def _laid(self, files: Mapping[str, Held], target: str, told: Add | Copy, *, single: bool) -> dict[str, Held]:
        if single:
            return {target: next(iter(files.values()))}
        rules = read_ignore("\n".join(told.exclude), "--exclude")
        return {_below(target, name): held for name, held in files.items() if not rules.ignores(name)}

    def _local(self, source: Local, target: str, told: Add | Copy, *, several: bool) -> dict[str, Held]:
        parents = not isinstance(told, Add) and told.parents
        matches = choose(self.shelf, source.path, told.exclude, self.what)
        several = several or len(matches) > 1 or parents
        names = [name for match in matches for name in match.files.values()]
        taken = self.shelf.take(names)
        self.cached &= not (isinstance(self.shelf, Context) and self.shelf.brought.intersection(names))
        if told.checksum is not None:
            if len(names) != 1:
                msg = f"a checksum is for one file, and `{clean(source.path)}` is {len(names)}"
                raise UsageError(msg, hint="name one file")
            check_sum(taken[names[0]], told.checksum, source.path, self.bench)
        placed: dict[str, Held] = {}
        for match in matches:
            start = _kept(source.path, match.root) if parents else posixpath.basename(match.root)
            for relative, name in match.files.items():
                held = taken[name]
                if isinstance(told, Add) and match.is_file and (unpacked := unpack(held, self.bench)) is not None:
                    files, here = unpacked
                    self.cached &= here
                    placed |= {_below(target, path): one for path, one in files.items()}
                elif match.is_file:
                    placed[_below(target, start) if several else target] = held
                else:
                    placed[_below(_below(target, start) if parents else target, relative)] = held
        return placed


def cat(told: Cat, stage: Tree, bench: Bench) -> tuple[dict[str, Held], bool]:
    """Return CAT's documents by the paths that they get, and whether they were here: joined in a file, or each in a folder."""
    target = image_path(told.destination)
    if is_folder(told.destination) or stage.has_folder(target):
        texts = {_below(target, name): text for name, text in told.documents}
    else:
        texts = {target: "".join(text for _name, text in told.documents)}
    data = {path: text.encode() for path, text in texts.items()}
    present = all(bench.store.blobs.size(Digest.of(one)) is not None for one in data.values())
    return {path: bench.hold(one) for path, one in data.items()}, present


def _below(folder: str, name: str) -> str:
    return image_path(f"{folder}/{name}")


def _kept(path: str, root: str) -> str:
    """Return what `--parents` keeps of a path: what stands behind `/./`, else all of it."""
    before, pivot, _rest = path.partition(_PIVOT)
    depth = len([part for part in image_path(before).split("/") if part]) if pivot else 0
    return "/".join(root.strip("/").split("/")[depth:])


def _owner(ownership: Ownership) -> tuple[int, int]:
    if ownership.owner is None:
        return 0, 0
    user, colon, group = ownership.owner.partition(":")
    numbers = [
        0 if text == "root" else int(text) if text.isascii() and text.isdecimal() else None
        for text in (user, group if colon else user)
    ]
    if numbers[0] is None or numbers[1] is None:
        msg = f"`{clean(ownership.owner)}` is known to no file of the image"
        raise UsageError(msg, hint="write the owner and the group as numbers: --chown=1000:1000")
    return numbers[0], numbers[1]
