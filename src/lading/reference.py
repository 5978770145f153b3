"""References: the names that models go by, on every hub, registry and disk.

    hf://owner/repo[:QUANT|:file.gguf][@revision]     ms://…      hub repositories
    ollama://[host:port/][namespace/]name[:tag]                   Ollama's registry dialect
    oci://host/repo[:tag|@digest]      (docker:// too)            OCI registries
    oci-layout:DIR[:tag]                                          an OCI image layout
    file:///path, /path, ./path, ../path, ~/path                  a file or folder
    http(s)://…                                                   one file
    name                                                          looked up, see `Name`

Parsing is pure. Whether a bare word names a file on disk is asked through `is_file`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from lading.digest import Digest
from lading.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
    re.ASCII,
)
_HUB_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}", re.ASCII)
_OLLAMA_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}", re.ASCII)
# What image-spec allows in org.opencontainers.image.ref.name, as skopeo reads it: alphanumerics
# joined by single separators, in components joined by slashes.
_REF_NAME = re.compile(
    r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*", re.ASCII
)
_MAX_NAME = 255

DOCKER_HUB = "docker.io"


@dataclass(frozen=True, slots=True)
class Oci:
    """A repository in an OCI registry, with a tag or a digest; neither means `latest`."""

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def target(self) -> str:
        """What is asked of the registry: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    @property
    def stored(self) -> str:
        """The tag it goes by in the store."""
        return f"{self.host}/{self.repository}{'@' if self.digest else ':'}{self.target}"

    def __str__(self) -> str:
        return self.stored


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub repository. `select` is a quantization or a file's name, `revision` a branch, tag or commit."""

    hub: Literal["hf", "ms"]
    owner: str
    repository: str
    select: str | None = None
    revision: str | None = None

    @property
    def stored(self) -> str:
        """The tag it goes by in the store."""
        select = f":{self.select}" if self.select else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.hub}:{self.owner}/{self.repository}{select}{revision}"

    def __str__(self) -> str:
        return self.stored.replace(":", "://", 1)


@dataclass(frozen=True, slots=True)
class Ollama:
    """A model in a registry of Ollama's dialect."""

    name: str
    tag: str = "latest"
    namespace: str = "library"
    host: str = "registry.ollama.ai"

    @property
    def stored(self) -> str:
        """The tag it goes by in the store."""
        host = "" if self.host == "registry.ollama.ai" else f"{self.host}/"
        namespace = "" if self.namespace == "library" and not host else f"{self.namespace}/"
        return f"ollama:{host}{namespace}{self.name}:{self.tag}"

    def __str__(self) -> str:
        return self.stored.replace(":", "://", 1)


@dataclass(frozen=True, slots=True)
class File:
    """A file or folder on this machine."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class Layout:
    """An OCI image layout in a folder, and a tag in it (None: the only one)."""

    path: str
    tag: str | None = None

    def __str__(self) -> str:
        return f"oci-layout:{self.path}" + (f":{self.tag}" if self.tag else "")


@dataclass(frozen=True, slots=True)
class Url:
    """One file behind a plain URL."""

    url: str

    @property
    def stored(self) -> str:
        """The tag it goes by in the store: scheme dropped, what the grammar forbids made `-`."""
        parts = urlsplit(self.url)
        raw = f"{parts.hostname}/{unquote(parts.path).strip('/')}"
        words = re.sub(r"[^A-Za-z0-9./]+", "-", raw)
        return "url:" + re.sub(r"[-.]*/+[-.]*", "/", words).strip("-./")

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class Name:
    """A bare name: a local tag, a short name, or a model of the default transport; in that order."""

    name: str

    def __str__(self) -> str:
        return self.name


Reference = Oci | Hub | Ollama | File | Layout | Url | Name


def parse(text: str, *, is_file: Callable[[str], bool] = lambda _path: False) -> Reference:
    """Read a reference; raises UsageError, naming it, when no form fits.

    `is_file` says whether a bare word that ends like a weights file is one on disk.
    """
    if not text or text != text.strip() or any(ord(char) < ord(" ") or char == "\x7f" for char in text):
        raise _malformed(text, "a reference has no spaces or control characters at its ends or inside")
    for prefix, reader in _SCHEMES.items():
        if text.startswith(prefix):
            return reader(text[len(prefix) :], text)
    if text.startswith(("/", "./", "../", "~/")) or text in (".", ".."):
        return File(text)
    if text.endswith((".gguf", ".safetensors")) and is_file(text):
        return File(text)
    if "://" in text:
        scheme = text.partition("://")[0]
        raise _malformed(
            text, f"`{scheme}` is no scheme of lading's: hf, ms, ollama, oci, oci-layout, file, http, https"
        )
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        if first in ("hf.co", "huggingface.co"):
            return _hub("hf")(rest, text)
        return _oci(text, text)
    if not is_tag_name(text):
        raise _malformed(text, "a name is letters and digits, joined by single `-`, `.`, `_`, `:`, `@`, `+` or `/`")
    return Name(text)


def is_tag_name(text: str) -> bool:
    """Say whether `text` can stand as a tag in the store (org.opencontainers.image.ref.name)."""
    return len(text) <= _MAX_NAME and _REF_NAME.fullmatch(text) is not None


def is_registry_tag(text: str) -> bool:
    """Say whether `text` can stand as a tag in a registry (distribution-spec, "Pulling manifests")."""
    return _TAG.fullmatch(text) is not None


def with_digest(reference: Oci, digest: Digest) -> Oci:
    """Return the reference pinned to a digest."""
    return replace(reference, tag=None, digest=digest)


def _oci(rest: str, text: str) -> Oci:
    host, slash, path = rest.partition("/")
    if not slash or not path:
        raise _malformed(text, "a registry reference looks like host/repository:tag")
    name, at, digest_text = path.partition("@")
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        name = head
    else:
        tag = ""
        colon = ""
    if _HOST.fullmatch(host) is None:
        raise _malformed(text, f"`{host}` is no host name")
    if host in ("index.docker.io", "registry-1.docker.io"):
        host = DOCKER_HUB
    if host == DOCKER_HUB and "/" not in name:
        name = f"library/{name}"
    if _REPOSITORY.fullmatch(name) is None or len(host) + len(name) > _MAX_NAME:
        raise _malformed(text, "a repository is lower-case letters and digits, joined by `.`, `_`, `-` or `/`")
    if colon and not is_registry_tag(tag):
        raise _malformed(text, "a tag is up to 128 letters, digits, `_`, `.` or `-`")
    digest = Digest(digest_text) if at else None
    return Oci(host, name, None if digest else (tag or None), digest)


def _hub(hub: Literal["hf", "ms"]) -> Callable[[str, str], Hub]:
    def read(rest: str, text: str) -> Hub:
        body, at, revision = rest.partition("@")
        path, colon, select = body.partition(":")
        owner, slash, repository = path.partition("/")
        if not slash or not _HUB_PART.fullmatch(owner) or not _HUB_PART.fullmatch(repository):
            raise _malformed(text, f"a hub reference looks like {hub}://owner/repository[:QUANT][@revision]")
        if at and not _REVISION.fullmatch(revision):
            raise _malformed(text, "a revision is a branch, a tag or a commit")
        if colon and (not select or ".." in select.split("/") or select.startswith("/")):
            raise _malformed(text, "after the colon comes a quantization such as Q4_K_M, or a file's name")
        return Hub(hub, owner, repository, select or None, revision or None)

    return read


def _ollama(rest: str, text: str) -> Ollama:
    host = "registry.ollama.ai"
    first, slash, path = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, rest = first, path
    name, _colon, tag = rest.partition(":")
    namespace, slash, model = name.rpartition("/")
    parts = (namespace or "library", model, tag or "latest")
    if _HOST.fullmatch(host) is None or not all(_OLLAMA_PART.fullmatch(part) for part in parts):
        raise _malformed(text, "an Ollama reference looks like ollama://[host/][namespace/]name[:tag]")
    return Ollama(model, tag or "latest", namespace or "library", host)


def _layout(rest: str, text: str) -> Layout:
    # The tag may hold colons itself (localhost:5000/team/story:1), so the folder ends at the first colon.
    path, _colon, tag = rest.partition(":")
    if not path:
        raise _malformed(text, "a layout looks like oci-layout:DIR[:tag]")
    if tag and not is_tag_name(tag):
        raise _malformed(text, f"`{tag}` cannot be a tag of a layout")
    return Layout(path, tag or None)


def _file(_rest: str, text: str) -> File:
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise _malformed(text, "a file URL looks like file:///absolute/path")
    return File(unquote(parts.path))


def _url(_rest: str, text: str) -> Url:
    parts = urlsplit(text)
    if not parts.hostname:
        raise _malformed(text, "the URL has no host")
    if parts.username is not None:
        raise _malformed(
            text.replace(f"{parts.netloc.rpartition('@')[0]}@", "***@"),
            "put no password into a URL; use `lading login`",
        )
    return Url(text)


def _malformed(text: str, hint: str) -> UsageError:
    shown = text if len(text) <= _MAX_NAME else text[:_MAX_NAME] + "…"
    return UsageError(f"{shown!r} is no reference", hint=hint)


_SCHEMES: dict[str, Callable[[str, str], Reference]] = {
    "hf://": _hub("hf"),
    "huggingface://": _hub("hf"),
    "ms://": _hub("ms"),
    "modelscope://": _hub("ms"),
    "ollama://": _ollama,
    "oci://": _oci,
    "docker://": _oci,
    "oci-layout:": _layout,
    "file://": _file,
    "http://": _url,
    "https://": _url,
}
