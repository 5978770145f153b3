"""A hub's repository as a list of files, and that list as a Source: what all hub transports share.

A file that the hub keeps outside of git has its sha256 in the listing, so it is known before its first byte.
A small one has only git's sha1 of it: it is read whole, held to that and to its size, and its sha256 is known then.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from lading import media
from lading.crew import Crew
from lading.digest import Digest, VerifyingReader
from lading.errors import FormatError, IntegrityError, NotFoundError, PolicyError, UsageError
from lading.http import Origin, RemoteFile
from lading.http.ranges import check_range
from lading.manifest import Descriptor, Manifest
from lading.model import Part, check_names
from lading.store.views import folded, safe_parts
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lading.content import ByteReader, RangeReader
    from lading.http import Client, Response
    from lading.manifest import Document
    from lading.model import Role

MAX_SMALL = 64 * 1024 * 1024
"""Bytes; a longer file that is listed without its sha256 is not read."""

MAX_FILES = 2048
"""Files taken from one repository; what a packed model may have, too."""

REVISION = media.REVISION
"""Where a manifest records the commit (image-spec, annotations.md)."""

_BLOB = "application/octet-stream"
_PARALLEL = 4
_MAX_SIZE = 2**63 - 1
_MAX_ANSWER = 8 * 1024 * 1024
_OK, _PARTIAL = 200, 206
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as its hub lists it. `path` is a stranger's word until `Listing.select` has passed it.

    `git_sha1` is the hex name of its git blob, "" where there is none; `xet` says that the hub keeps it in Xet.
    """

    path: str
    size: int
    digest: Digest | None = None
    git_sha1: str = ""
    xet: bool = False

    def __post_init__(self) -> None:
        """Refuse a size that no file can have."""
        if not 0 <= self.size <= _MAX_SIZE:
            msg = f"`{clean(self.path)[:200]}` is listed with the impossible size {self.size}"
            raise FormatError(msg)


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository at one commit. `source` is its reference pinned to that: hf://owner/name@commit."""

    source: str
    revision: str
    files: tuple[ListedFile, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The paths, as the hub gave them."""
        return tuple(file.path for file in self.files)

    def select(self, names: Iterable[str]) -> tuple[ListedFile, ...]:
        """Return the files of these names, in their order, once the names are safe to be files anywhere.

        Raises FormatError for a name that leads out of its folder or holds control characters, for two that differ
        only in case or in how Unicode composes them, for one that is listed twice, and for more than `MAX_FILES`.
        """
        wanted = tuple(names)
        if len(wanted) > MAX_FILES:
            msg = f"{self.source} would be a model of {len(wanted)} files; {MAX_FILES} are the most"
            raise FormatError(msg, hint="name a single file or a quantization")
        chosen = set(wanted)
        listed = [file.path for file in self.files if file.path in chosen]
        for name in listed:
            safe_parts(name)
        check_names(listed, self.source)
        seen: dict[str, str] = {}
        for name in listed:
            other = seen.setdefault(folded(name), name)
            if other != name:
                msg = f"{self.source} has {clean(other)} and {clean(name)}, which are one file on many disks"
                raise FormatError(msg, hint="names that differ only in case cannot be kept side by side everywhere")
        check_names(seen, self.source)
        by_name = {file.path: file for file in self.files}
        return tuple(by_name[name] for name in wanted)


class Repository(Protocol):
    """A hub's repository at one commit; each hub's own way to list and to fetch."""

    @property
    def host(self) -> str:
        """What messages call the hub."""

    def revision(self) -> str:
        """Return the commit that the reference stands for; asked once."""

    def listing(self) -> Listing:
        """Return the files at that commit."""

    def get(self, file: ListedFile, headers: Mapping[str, str], /) -> Response:
        """Ask for a file with Range headers or none; a refusal raises, naming the file."""


class Endpoint:
    """A hub's address, and the token that goes there and nowhere else.

    `cookie` names a cookie that carries the token, too. Raises UsageError for what is no address or no token,
    PolicyError for plain http beyond this machine unless `insecure`, which never gets the token.
    """

    def __init__(
        self, url: str, client: Client, *, token: str | None, cookie: str = "", insecure: bool = False
    ) -> None:
        self.base = url.rstrip("/")
        self.origin = Origin.of(self.base)
        if "@" in self.base or "?" in self.base or "#" in self.base:
            msg = f"the hub's address on {self.origin.authority} has more than a host and a path"
            raise UsageError(msg, hint="it looks like https://host; a token is set apart from it")
        if not (insecure or self.origin.keeps_secrets):
            msg = f"{self.origin.authority} is asked over plain http, where anybody on the way can change the files"
            raise PolicyError(msg, hint="use https, or --insecure")
        if token and not _is_token(token):
            msg = f"the token for {self.origin.authority} has a character that no token has"
            raise UsageError(msg, hint="it is printable ASCII without spaces; look at where it is set")
        self.token = token if self.origin.keeps_secrets else None
        self._cookie = cookie
        self._verify = not insecure
        self._client = client

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Ask for a path of the hub, or a URL that must be of its origin; PolicyError if it is not."""
        target = url if "://" in url else f"{self.base}/{url}"
        if Origin.of(target) != self.origin:
            msg = f"{self.origin} points elsewhere, to {Origin.of(target)}"
            raise PolicyError(msg, hint="requests stay with the hub that was named")
        sent = dict(headers or {})
        if self.token and self._cookie:
            sent["Cookie"] = f"{self._cookie}={self.token}"
        authorization = f"Bearer {self.token}" if self.token else None
        return self._client.request("GET", target, headers=sent, authorization=authorization, verify=self._verify)


def decoded(response: Response, decoder: msgspec.json.Decoder[_Answer]) -> _Answer:
    """Read a hub's JSON and close; raises NetworkError for a web page, FormatError for anything that is no such JSON."""
    if response.is_page:
        raise response.page()
    raw = response.read(_MAX_ANSWER)
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        msg = f"{response.host} sent something else than a hub's answer: {error}"
        raise FormatError(msg, hint="a proxy may have answered instead, or the address is that of no hub") from error


class ListedSource:
    """Files of a hub's repository as a Source: blobs by digest, no manifest.

    `names` are checked as `Listing.select` says. A file without a sha256 can be opened once `settle` has read it.
    """

    def __init__(self, hub: Repository, client: Client, listing: Listing, names: Iterable[str]) -> None:
        self.files = listing.select(names)
        self._hub = hub
        self._client = client
        self._listing = listing
        self.digests = {file.path: file.digest for file in self.files if file.digest}
        for file in self.files:
            if file.digest is None and file.size > MAX_SMALL:
                msg = f"{hub.host} lists `{file.path}` without its digest; it has {file.size} bytes"
                raise FormatError(msg, hint=f"without one at most {MAX_SMALL} bytes are read")

    @property
    def unsettled(self) -> tuple[ListedFile, ...]:
        """The files whose sha256 is not known yet."""
        return tuple(file for file in self.files if file.path not in self.digests)

    def settle(self, keep: Callable[[ListedFile, bytes], None], *, room: int | None = None) -> None:
        """Read the small files whose sha256 is not known, verified, and hand each to `keep`, in order.

        `keep` is called by this thread; a few files are read at a time, of `MAX_SMALL` bytes together at most. With
        `room` it gets no more bytes than that in all; other files come once more when they are opened. Raises
        IntegrityError, naming the file.
        """
        left = room
        with Crew(_PARALLEL) as crew:
            for few in _batches(self.unsettled):
                for file, data in zip(few, crew.map(self._read, few), strict=True):
                    if left is None or file.size <= left:
                        keep(file, data)
                        left = None if left is None else left - file.size
                    self.digests[file.path] = Digest.of(data)

    def blob(self, file: ListedFile) -> Descriptor:
        """Describe a file whose sha256 is known."""
        return Descriptor(media_type=_BLOB, digest=self.digests[file.path], size=file.size)

    def document(self, name: str, /) -> Document:
        """Raise NotFoundError: a hub keeps files, and no manifest of them."""
        msg = f"{self._listing.source} has no manifest {name[:140]!r}"
        raise NotFoundError(msg, hint="a manifest is written from its list of files")

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a file; read from 0 its end is verified, from elsewhere the caller verifies."""
        file = self._file(blob)
        if offset and offset >= blob.size:
            return io.BytesIO()
        response = self._hub.get(file, {"Range": f"bytes={offset}-"} if offset else {})
        try:
            body = self._body(response, file, offset)
        except BaseException:
            response.close()
            raise
        name = f"`{file.path}` from {self._hub.host}"
        return body if offset else VerifyingReader(body, name, size=blob.size, digest=blob.digest)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a file, without verification."""
        return self.look(self._file(blob))

    def look(self, file: ListedFile) -> RangeReader:
        """Return random access to a file whose digest need not be known."""
        name = f"`{file.path}` at {self._hub.host}"
        return RemoteFile(self._client, lambda headers: self._hub.get(file, headers), name, file.size)

    def _file(self, blob: Descriptor) -> ListedFile:
        for file in self.files:
            if self.digests.get(file.path) == blob.digest and file.size == blob.size:
                return file
        msg = f"{self._listing.source} has no blob {blob.digest.short}"
        raise NotFoundError(msg, hint="it may have been changed; pull it again")

    def _body(self, response: Response, file: ListedFile, offset: int) -> ByteReader:
        if offset and response.status == _PARTIAL:
            check_range(response, offset, file.size, file.size, f"`{file.path}`")
            return response.body()
        self._expect_whole(response, file)
        body = response.body()
        # Small files come without ranges: what the caller has is read past.
        body.skip(offset)
        return body

    def _expect_whole(self, response: Response, file: ListedFile) -> None:
        if response.status != _OK:
            subject = f"`{file.path}`"
            raise response.failure(subject)
        if response.is_page:
            raise response.page()
        if response.length not in (None, file.size):
            msg = f"`{file.path}` has {response.length} bytes at {response.host}, and is listed with {file.size}"
            raise IntegrityError(msg, hint="the hub does not hold what it lists, or it changed; try again")

    def _read(self, file: ListedFile) -> bytes:
        with self._hub.get(file, {}) as response:
            self._expect_whole(response, file)
            try:
                data = response.read(file.size)
            except FormatError as error:
                msg = f"`{file.path}` has more bytes at {response.host} than the {file.size} that are listed"
                raise IntegrityError(
                    msg, hint="the hub does not hold what it lists, or it changed; try again"
                ) from error
        check_small(file, data)
        return data


def _batches(files: Iterable[ListedFile]) -> Iterator[list[ListedFile]]:
    few: list[ListedFile] = []
    for file in files:
        if len(few) == _PARALLEL or sum(one.size for one in few) + file.size > MAX_SMALL:
            yield few
            few = []
        few.append(file)
    if few:
        yield few


def check_small(file: ListedFile, data: bytes) -> None:
    """Hold a whole file to its listed size and to the sha1 that git names it by; raises IntegrityError."""
    if len(data) != file.size:
        msg = f"`{file.path}` has {len(data)} bytes, and is listed with {file.size}"
        raise IntegrityError(msg, hint="the hub does not hold what it lists, or it changed; try again")
    if file.git_sha1 and git_sha1(data) != file.git_sha1:
        msg = f"`{file.path}` has git's sha1 {git_sha1(data)}, and is listed with {file.git_sha1}"
        raise IntegrityError(msg, hint="the hub or a proxy in between sent other bytes than it lists")


def git_sha1(data: bytes) -> str:
    """Return the name that git gives a blob: the sha1 of `blob <size>`, NUL and the bytes, in hex."""
    # SHA-1 finds accidents; against forgers stand TLS and, for weights, the sha256 of the listing.
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def parts_of(source: ListedSource, role: Callable[[str], Role]) -> tuple[Part, ...]:
    """Return the files as parts of a model, each with the role that its name has; every digest must be known."""
    return tuple(Part(role(file.path), file.path, source.blob(file)) for file in source.files)


def annotated(manifest: Manifest, listing: Listing) -> Manifest:
    """Return a manifest that says which repository and commit its files came from.

    No time, mirror, branch or selector is recorded, so the same files of one commit give one digest everywhere.
    """
    annotations = {**manifest.annotations, media.SOURCE: listing.source, REVISION: listing.revision}
    return Manifest.build(
        manifest.config, manifest.layers, artifact_type=manifest.artifact_type, annotations=annotations
    )


def _is_token(text: str) -> bool:
    return text.isascii() and text.isprintable() and not set(text) & set(' ";,\\')
