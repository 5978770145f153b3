"""Where instructions take things from: the files of the context, documents, URLs, git, hubs, registries; stages."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import unquote, urlsplit

from lading import reference
from lading.digest import Digest
from lading.errors import FormatError, UsageError

_SCHEMED = re.compile(r"(?:hf|huggingface|ms|modelscope)://")
_GIT_SCHEMES = ("git://", "ssh://", "git+ssh://")
_SCP = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^/].*")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
_HUB_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)
_HUB_HOSTS: dict[str, Literal["hf", "ms"]] = {
    "huggingface.co": "hf",
    "www.huggingface.co": "hf",
    "hf.co": "hf",
    "modelscope.cn": "ms",
    "www.modelscope.cn": "ms",
}
_HUB_ADDRESS_PARTS = 2


@dataclass(frozen=True, slots=True)
class Local:
    """A path in the build context, or in what `--from` names; `*`, `?` and `[…]` may stand in it."""

    path: str

    @property
    def is_pattern(self) -> bool:
        """Say whether it may match several files."""
        return any(char in self.path for char in "*?[")


@dataclass(frozen=True, slots=True)
class Document:
    """A document that stands in the recipe: its name there, and its text with the variables replaced."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Url:
    """One file behind http or https; `name` is what it is called in a folder."""

    url: str

    @property
    def name(self) -> str:
        """The last part of the path; `__unnamed__` where there is none."""
        return posixpath.basename(unquote(urlsplit(self.url).path)) or "__unnamed__"


@dataclass(frozen=True, slots=True)
class Git:
    """A git repository: a branch, tag or commit of it, and a folder in it."""

    url: str
    ref: str | None = None
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of a hub: a branch, tag or commit, and which files (None: all; a pattern; or what is in a folder)."""

    hub: Literal["hf", "ms"]
    owner: str
    repository: str
    pattern: str | None = None
    revision: str | None = None
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model in a registry."""

    reference: reference.Oci


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model in a registry of Ollama's dialect."""

    reference: reference.Ollama


Source = Local | Document | Url | Git | Hub | Artifact | OllamaModel


@dataclass(frozen=True, slots=True)
class Scratch:
    """Nothing: an empty file system."""


@dataclass(frozen=True, slots=True)
class StageFiles:
    """What an earlier stage made; `index` counts the recipe's stages from 0."""

    index: int


@dataclass(frozen=True, slots=True)
class Context:
    """A build context: the main one, or one that `--build-context` named."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A container image, or a model image, of a registry.

    `bare` is the name as it was written where it tells no registry: one in the store goes before Docker Hub's.
    """

    reference: reference.Oci
    bare: str | None = None


@dataclass(frozen=True, slots=True)
class LayoutModel:
    """A model or image in an OCI image layout on disk: of a tag, of a digest, or the only one."""

    reference: reference.Layout
    digest: Digest | None = None


Origin = Scratch | StageFiles | Context | Image | Hub | Artifact | Git
Place = Scratch | Image | Hub | Artifact | Git | OllamaModel | LayoutModel | Url


def read_source(text: str) -> Source:
    """Read what ADD takes; raises UsageError, saying what is wrong with it."""
    if _SCHEMED.match(text):
        return _hub(text)
    if text.startswith(("oci://", "docker://", "ollama://")):
        read = reference.parse(text)
        return OllamaModel(read) if isinstance(read, reference.Ollama) else Artifact(_oci(text))
    if is_git(text):
        return _git(text)
    if text.startswith(("http://", "https://")):
        read = reference.parse(text)
        return Url(str(read))
    if "://" in text:
        return _unknown_scheme(text)
    return Local(text)


def read_origin(text: str) -> Origin:
    """Read what FROM or `--from` takes that is neither a stage nor a context; raises UsageError for a bad name."""
    if text == "scratch":
        return Scratch()
    if _SCHEMED.match(text):
        return _hub(text)
    if text.startswith(("oci://", "docker://")):
        return Artifact(_oci(text))
    first, slash, _rest = text.partition("/")
    # Docker's rule: what stands before the first `/` is a registry if it looks like a host.
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    try:
        return Image(_oci(f"oci://{text}")) if named else Image(_oci(f"oci://{reference.DOCKER_HUB}/{text}"), text)
    except UsageError as error:
        message = f"`{text}` is no stage before this one, and no name of an image"
        raise UsageError(message, hint=error.hint) from error


def read_place(text: str) -> Place | None:
    """Read what `--build-context` gives a name to; None for what is a folder, if anything. Raises UsageError."""
    scheme, separator, rest = text.partition("://")
    if text.startswith("oci-layout:"):
        return _layout(text)
    if is_git(text):
        return _git(text)
    if text.startswith(("http://", "https://", "ollama://")):
        return cast("Url | OllamaModel", read_source(text))
    if separator and scheme == "docker-image":
        try:
            return cast("Place", read_origin(rest))
        except UsageError as error:
            message = f"`{text}` names no image"
            raise UsageError(message, hint=error.hint) from None
    return (
        cast("Place", read_origin(text))
        if _SCHEMED.match(text) or (separator and scheme in {"oci", "docker"})
        else None
    )


def is_git(text: str) -> bool:
    """Say whether a source is a git repository, as Docker tells them apart: by scheme, or by `.git` at its end."""
    if text.startswith(_GIT_SCHEMES) or ("://" not in text and _SCP.fullmatch(text)):
        return True
    return text.startswith(("http://", "https://")) and text.partition("#")[0].endswith(".git")


def pinned(source: Source | Origin) -> bool:
    """Say whether a source names its bytes for good: by a commit, or a digest. A file at hand is; a URL is not."""
    match source:
        case Git():
            return _COMMIT.fullmatch(source.ref or "") is not None
        case Hub():
            return _COMMIT.fullmatch(source.revision or "") is not None
        case Artifact() | Image():
            return source.reference.digest is not None
        case Url() | OllamaModel():
            return False
        case _:
            return True


def _git(text: str) -> Git | Hub:
    url, _hash, fragment = text.partition("#")
    ref, _colon, folder = fragment.partition(":")
    host, _slash, path = url.partition("://")[2].partition("/")
    parts = path.removesuffix(".git").removeprefix("models/").split("/")
    if host in _HUB_HOSTS and len(parts) == _HUB_ADDRESS_PARTS and all(_HUB_PART.fullmatch(part) for part in parts):
        return Hub(_HUB_HOSTS[host], parts[0], parts[1], None, ref or None, folder or None)
    if url.startswith(("http://", "https://")):
        reference.parse(url)  # refuses a password, and what is no address
    return Git(url, ref or None, folder or None)


def _hub(text: str) -> Hub:
    """Read `hf://owner/repo@rev:pattern`, and with the two after the name in the other order."""
    head, at, tail = text.partition("@")
    revision, colon, pattern = tail.partition(":")
    if at and colon and head.count(":") == 1:
        read = cast("reference.Hub", reference.parse(f"{head}@{revision}"))
    else:
        read, pattern = cast("reference.Hub", reference.parse(text)), ""
    if colon and not pattern and at:
        message = f"`{text}` has no pattern after its colon"
        raise UsageError(message, hint="one is written hf://owner/repository@revision:pattern")
    return Hub(read.hub, read.owner, read.repository, pattern or read.select, read.revision)


def _layout(text: str) -> LayoutModel:
    """Read `oci-layout://DIR[:tag][@digest]` as buildx has it, and the same without `//`."""
    place = text.removeprefix("oci-layout:").removeprefix("//")
    folder, at, tail = place.rpartition("@")
    digest = None
    if at and tail.startswith(("sha256:", "sha512:")):
        try:
            place, digest = folder, Digest(tail)
        except FormatError as error:
            raise UsageError(error.message, hint=error.hint) from None
    return LayoutModel(cast("reference.Layout", reference.parse(f"oci-layout:{place}")), digest)


def _oci(text: str) -> reference.Oci:
    """Read what the caller has seen begin with oci:// or docker://."""
    return cast("reference.Oci", reference.parse(text))


def _unknown_scheme(text: str) -> Local:
    scheme = text.partition("://")[0]
    message = f"`{scheme}` is no scheme that sources have"
    raise UsageError(message, hint="http, https, git, ssh, hf, ms, oci, docker, ollama; or a path")
