"""References: the names that models go by, on every hub, registry and disk.

    hf://owner/repo[:QUANT|:file.gguf][@revision]     ms://…      hub repositories
    ollama://[host:port/][namespace/]name[:tag]                   Ollama's registry dialect
    oci://host/repo[:tag|@digest]      (docker:// too)            OCI registries
    oci-layout:DIR[:tag]                                          an OCI image layout
    oci-archive:FILE[:tag]             docker-archive:…           a tar archive of one, of `docker save`
    file:///path, /path, ./path, ../path, ~/path                  a file or folder
    http(s)://…                                                   one file
    name                                                          looked up, see `Name`

Parsing is pure. Whether a bare word names a file on disk is asked through `is_file`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote, urlsplit

from lading.digest import Digest
from lading.errors import FormatError, UsageError

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
# image-spec's grammar of org.opencontainers.image.ref.name, as skopeo reads it.
_REF_NAME = re.compile(
    r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*", re.ASCII
)
_MAX_NAME = 255
_MAX_SHOWN = 200
_MAX_PORT = 65535
_USER = re.compile(r"[^/?#]*@")
_STORED = re.compile(r"(?:hf|ms|ollama|url):(?![0-9]+/)")  # begins a name as `stored` makes it
_PASSWORD = re.compile(r"[^/@]*:[^/]*@")

DOCKER_HUB = "docker.io"
_OLLAMA_HOST = "registry.ollama.ai"


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
        return _as_tag(self._bare)

    @property
    def _bare(self) -> str:
        return f"{self.host}/{self.repository}{'@' if self.digest else ':'}{self.target}"

    def __str__(self) -> str:
        return self._bare if _is_host(self.host) else f"oci://{self._bare}"


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
        return _as_tag(str(self).replace("://", ":", 1))

    def __str__(self) -> str:
        select = f":{self.select}" if self.select else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.hub}://{self.owner}/{self.repository}{select}{revision}"


@dataclass(frozen=True, slots=True)
class Ollama:
    """A model in a registry of Ollama's dialect."""

    name: str
    tag: str = "latest"
    namespace: str = "library"
    host: str = _OLLAMA_HOST

    @property
    def stored(self) -> str:
        """The tag it goes by in the store."""
        return _as_tag(str(self).replace("://", ":", 1))

    def __str__(self) -> str:
        # A namespace that looks like a host would be taken for one without its host before it.
        short = self.host == _OLLAMA_HOST and not _is_host(self.namespace)
        host = "" if short else f"{self.host}/"
        namespace = "" if self.namespace == "library" and short else f"{self.namespace}/"
        return f"ollama://{host}{namespace}{self.name}:{self.tag}"


@dataclass(frozen=True, slots=True)
class File:
    """A file or folder on this machine."""

    path: str

    def __str__(self) -> str:
        if self.path != self.path.strip() or _has_control(self.path):
            return f"file://{quote(self.path, errors='surrogateescape')}"
        return self.path


@dataclass(frozen=True, slots=True)
class Layout:
    """An OCI image layout in a folder, and a tag in it (None: the only one)."""

    path: str
    tag: str | None = None

    def __str__(self) -> str:
        return f"oci-layout:{self.path}" + (f":{self.tag}" if self.tag else "")


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar archive, of an OCI image layout or as `docker save` writes it, and a tag in it (None: the only one)."""

    kind: Literal["oci", "docker"]
    path: str
    tag: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}-archive:{self.path}" + (f":{self.tag}" if self.tag else "")


@dataclass(frozen=True, slots=True)
class Url:
    """One file behind a plain URL."""

    url: str

    @property
    def stored(self) -> str:
        """The tag it goes by in the store: the scheme dropped, a query, which may hold a token, only hashed."""
        rest = self.url.partition("://")[2]
        return _as_tag(f"url:{rest}", f"url:{unquote(re.split('[?#]', rest)[0])}")

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class Name:
    """A bare name: a local tag, a short name, or a model of the default transport; in that order."""

    name: str

    def __str__(self) -> str:
        return self.name


Reference = Oci | Hub | Ollama | File | Layout | Archive | Url | Name


def parse(text: str, *, is_file: Callable[[str], bool] = lambda _path: False) -> Reference:
    """Read a reference; raises UsageError, naming it, when no form fits.

    `is_file` says whether a bare word that ends like a weights file is one on disk.
    """
    if not text or text != text.strip() or _has_control(text):
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
            text,
            f"`{scheme}` is no scheme of lading's: hf, ms, ollama, oci, oci-layout, oci-archive, file, http, https",
        )
    first, slash, rest = text.partition("/")
    if slash and _is_host(first) and not _STORED.match(text):
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


def form_tag(tag: str, form: str) -> str:
    """Return the tag of one format of a model that is written in several."""
    return f"{tag}-{form}"


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
        tag = colon = ""
    if not _is_address(host):
        raise _malformed(text, "what stands before the first `/` is no host name")
    if host in ("index.docker.io", "registry-1.docker.io"):
        host = DOCKER_HUB
    if host == DOCKER_HUB and "/" not in name:
        name = f"library/{name}"
    if _REPOSITORY.fullmatch(name) is None or len(host) + len(name) > _MAX_NAME:
        raise _malformed(text, "a repository is lower-case letters and digits, joined by `.`, `_`, `-` or `/`")
    if colon and not is_registry_tag(tag):
        raise _malformed(text, "a tag is up to 128 letters, digits, `_`, `.` or `-`")
    try:
        digest = Digest(digest_text) if at else None
    except FormatError as error:
        raise _malformed(text, error.hint) from error
    return Oci(host, name, None if digest else (tag or None), digest)


def _hub(hub: Literal["hf", "ms"]) -> Callable[[str, str], Hub]:
    def read(rest: str, text: str) -> Hub:
        body, at, revision = rest.partition("@")
        path, colon, select = body.partition(":")
        owner, slash, repository = path.partition("/")
        if not slash or not _HUB_PART.fullmatch(owner) or not _HUB_PART.fullmatch(repository):
            raise _malformed(text, f"a hub reference looks like {hub}://owner/repository[:QUANT][@revision]")
        name, colon_in_revision, quant = revision.partition(":")
        if colon_in_revision and not colon and _REVISION.fullmatch(name):
            raise _malformed(text, f"the revision comes last: {hub}://{path}:{quant}@{name}")
        if at and not _REVISION.fullmatch(revision):
            raise _malformed(text, "a revision is a branch, a tag or a commit")
        if colon and (not select.isprintable() or any(part in ("", ".", "..") for part in select.split("/"))):
            raise _malformed(text, "after the colon comes a quantization such as Q4_K_M, or a file's name")
        return Hub(hub, owner, repository, select or None, revision or None)

    return read


def _ollama(rest: str, text: str) -> Ollama:
    host = _OLLAMA_HOST
    first, slash, path = rest.partition("/")
    if slash and _is_host(first):
        host, rest = first, path
    name, colon, tag = rest.partition(":")
    namespace, slash, model = name.rpartition("/")
    parts = (namespace if slash else "library", model, tag if colon else "latest")
    if not _is_address(host) or not all(_OLLAMA_PART.fullmatch(part) for part in parts):
        raise _malformed(text, "an Ollama reference looks like ollama://[host/][namespace/]name[:tag]")
    return Ollama(parts[1], parts[2], parts[0], host)


def _layout(rest: str, text: str) -> Layout:
    # The tag may hold colons itself (localhost:5000/team/story:1), so the folder ends at the first colon.
    path, colon, tag = rest.partition(":")
    if not path:
        raise _malformed(text, "a layout looks like oci-layout:DIR[:tag]")
    if colon and not is_tag_name(tag):
        raise _malformed(text, f"`{tag}` cannot be a tag of a layout")
    return Layout(path, tag or None)


def _archive(kind: Literal["oci", "docker"]) -> Callable[[str, str], Archive]:
    def read(rest: str, text: str) -> Archive:
        path, colon, tag = rest.partition(":")
        if not path:
            raise _malformed(text, f"an archive looks like {kind}-archive:FILE.tar[:tag]")
        if colon and not is_tag_name(tag):
            raise _malformed(text, f"`{tag}` cannot be a tag in an archive")
        return Archive(kind, path, tag or None)

    return read


def _file(rest: str, text: str) -> File:
    host, slash, path = rest.partition("/")
    path = unquote(f"/{path}", errors="surrogateescape")
    if host not in ("", "localhost") or not slash or path == "/" or "\0" in path or "?" in rest or "#" in rest:
        raise _malformed(text, "a file URL looks like file:///absolute/path, with %3F and %23 for `?` and `#`")
    return File(path)


def _url(rest: str, text: str) -> Url:
    if _USER.match(rest):
        raise _malformed(text, "put no password into a URL; use `lading login`")
    try:
        parts = urlsplit(text)
        if parts.hostname and parts.port != 0:
            return Url(text)
    except ValueError as error:
        raise _malformed(text, f"a URL looks like https://host/path: {error}") from error
    raise _malformed(text, "a URL looks like https://host/path")


def _is_host(first: str) -> bool:
    # The rule that tells a registry's host from a namespace, docker's own.
    return "." in first or ":" in first or first == "localhost"


def _is_address(host: str) -> bool:
    port = host.rpartition(":")[2] if ":" in host and not host.endswith("]") else "1"
    return _HOST.fullmatch(host) is not None and 0 < int(port) <= _MAX_PORT


def _has_control(text: str) -> bool:
    return any(ord(char) < ord(" ") or char == "\x7f" for char in text)


def _as_tag(text: str, shown: str = "") -> str:
    # What the tags' grammar forbids becomes `-`; a hash keeps apart what then looks the same.
    if is_tag_name(text):
        return text
    words = re.sub(r"[^A-Za-z0-9.:@_/]+", "-", shown or text)
    words = re.sub(r"[-.:@_]*([-.:@_/])[-.:@_/]*", r"\1", words)
    digest = Digest.of(text.encode("utf-8", "surrogatepass")).hex[:12]
    return f"{words[:_MAX_SHOWN].strip('-.:@_/')}+{digest}"


def _malformed(text: str, hint: str) -> UsageError:
    scheme, colon, rest = text.rpartition("://")
    if secret := (_USER if scheme in ("http", "https") else _PASSWORD).match(rest):
        text = f"{scheme}{colon}***@{rest[secret.end() :]}"
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
    "oci-archive:": _archive("oci"),
    "docker-archive:": _archive("docker"),
    "file://": _file,
    "http://": _url,
    "https://": _url,
}
