"""A git repository for a step, by the git program: one commit's files, with nothing of the user's or the repository's run."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from lading import fs
from lading.build.bench import described
from lading.build.program import run
from lading.errors import FormatError, NetworkError, NotFoundError, UnfitError
from lading.recipe.sources import pinned
from lading.runtime.process import Command, tethered
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.build.bench import Bench
    from lading.build.outcome import Held
    from lading.build.program import Ended
    from lading.recipe.sources import Git

_PASSED_ON = ("PATH", "HOME", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_SET = {
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_ALLOW_PROTOCOL": "https:http:git:ssh",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
}
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=false",
    "core.autocrlf=false",
    "credential.helper=",
    "submodule.recurse=false",
    "advice.detachedHead=false",
    "gc.auto=0",
    "transfer.fsckObjects=true",
)
_COMMIT = re.compile(r"([0-9a-f]{40}(?:[0-9a-f]{24})?)\s+(\S+)")
_POINTER = b"version https://git-lfs.github.com/spec/"
_MOST_FILES = 100_000


def fetch_git(source: Git, bench: Bench, *, keep_git_dir: bool) -> tuple[dict[str, Held], bool]:
    """Return the files of a commit by their paths, and whether they were here.

    Raises UnfitError where there is no git, NotFoundError for a branch, tag or folder that is not there, NetworkError
    for a repository that cannot be read without a question, FormatError for files that git-lfs keeps elsewhere.
    """
    git = _Git(source, bench)
    if pinned(source) and source.ref:
        commit = source.ref
    else:
        commit = bench.resolved(f"git {source.url}#{source.ref or 'HEAD'}", git.ask)
    of = described("git", source.url, commit, source.folder, keep_git_dir)
    found = bench.recall(of)
    if found is not None:
        return found, True
    with bench.making(of) as (folder, made):
        if made is not None:
            return made, True
        git.fetch(folder, commit)
        root = folder / source.folder.strip("/") if source.folder else folder
        if not root.resolve().is_relative_to(folder.resolve()) or not root.is_dir():
            msg = f"{git.name} has no folder `{clean(source.folder or '')}` at {commit[:12]}"
            raise NotFoundError(msg, hint="it stands behind the colon: URL#ref:folder")
        files = {name: _held(root / name, name, bench) for name in _walk(root, keep_git_dir=keep_git_dir)}
    bench.keep(of, files)
    return files, False


class _Git:
    def __init__(self, source: Git, bench: Bench) -> None:
        self._source = source
        self._bench = bench
        self.name = clean(source.url)

    def ask(self) -> str:
        """Return the commit that the branch or tag stands for now."""
        wanted = self._source.ref or "HEAD"
        ended = self._run("ls-remote", "--", self._source.url, wanted, f"{wanted}^{{}}")
        found = {match[2]: match[1] for line in ended.lines if (match := _COMMIT.match(line))}
        for ref in (f"refs/tags/{wanted}^{{}}", f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted):
            if ref in found:
                return found[ref]
        msg = f"{self.name} has no branch or tag `{clean(wanted)}`"
        raise NotFoundError(msg, hint="a ref is a branch, a tag or a whole commit")

    def fetch(self, folder: Path, commit: str) -> None:
        """Lay a commit's files down in an empty folder."""
        self._run("init", "--quiet", "--template=", str(folder))
        self._run("-C", str(folder), "fetch", "--quiet", "--depth=1", "--no-tags", "--", self._source.url, commit)
        self._run("-C", str(folder), "checkout", "--quiet", "--detach", "FETCH_HEAD")

    def _run(self, *arguments: str) -> Ended:
        environment = self._bench.environment
        program = shutil.which("git", path=environment.get("PATH", ""))
        if program is None:
            msg = f"git is needed for {self.name}, and is not here"
            raise UnfitError(msg, hint="install git, or name the files by another source")
        seen = {name: environment[name] for name in _PASSED_ON if name in environment}
        seen |= {name: value for name, value in environment.items() if name.lower() in _PROXIES}
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        command = Command(tethered((program, *settings, *arguments)), {**seen, **_SET})
        ended = run(command, lambda _line: None, cancelled=self._bench.stop.is_set)
        if ended.code:
            fs.check_space(self._bench.store.work)
            msg = ended.failure(f"{self.name} cannot be fetched").message
            raise NetworkError(msg, hint="a login is never asked for; ssh uses its agent")
        return ended


def _walk(root: Path, *, keep_git_dir: bool) -> Iterator[str]:
    count = 0
    for folder, folders, files in os.walk(root):
        if not keep_git_dir:
            folders[:] = [name for name in folders if name != ".git"]
        for name in files:
            path = Path(folder, name)
            count += 1
            if count > _MOST_FILES:
                msg = f"the repository holds more than {_MOST_FILES:,} files"
                raise FormatError(msg, hint="name a folder of it: URL#ref:folder")
            if not path.is_symlink():
                yield path.relative_to(root).as_posix()


def _held(path: Path, name: str, bench: Bench) -> Held:
    with closing(fs.Origin.open(path)) as origin, fs.os_errors(path):
        head = os.pread(origin.descriptor, len(_POINTER), 0)
        size = origin.before.st_size
    if head == _POINTER:
        msg = f"`{clean(name)}` is kept by git-lfs, outside of the repository"
        raise FormatError(msg, hint="of Hugging Face and ModelScope such files are fetched: name it hf:// or ms://")
    with open(fs.open_regular(path), "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
        return bench.receive(name, size, file)
