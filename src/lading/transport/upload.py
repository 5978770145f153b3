"""Writing one blob to a registry (distribution-spec, "Pushing blobs"): monolithic or in chunks, resumed after a break."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

import msgspec

from lading.errors import IntegrityError, LadingError, NetworkError
from lading.http import join
from lading.http.patience import RETRIED, asked_wait
from lading.transport.pieces import Feed, Piece
from lading.transport.repository import PUSH

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.content import Progress, Source
    from lading.digest import Digest
    from lading.http import Response
    from lading.manifest import Descriptor
    from lading.transport.repository import Repository

# What is tried after a 413, in bytes: below Cloudflare's 100 MB, a usual proxy's 10 MB, nginx's 1 MiB.
_SMALLER = (64 * 1024 * 1024, 8 * 1024 * 1024, 1024 * 1024)
_CREATED, _ACCEPTED, _NO_CONTENT = 201, 202, 204
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_NOT_FOUND, _TOO_LARGE, _BAD_RANGE = 404, 413, 416
# What registries say to a PATCH that they cannot do.
_NO_CHUNKS = (400, 405, 501)
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Session:
    """An upload that a registry has opened: where to send to, and the least length of a chunk."""

    url: str
    least: int = 0

    @classmethod
    def of(cls, response: Response, least: int = 0) -> Self:
        """Read the session's next address from an answer; `Repository.send` refuses one beyond the registry's origin."""
        location = response.headers.get("Location")
        if not location:
            msg = f"{response.host} opened an upload but says not where"
            raise NetworkError(msg)
        url = join(response.url, location)
        told = response.headers.get("OCI-Chunk-Min-Length", "")
        return cls(url, max(least, int(told)) if told.isascii() and told.isdecimal() and len(told) < 16 else least)  # noqa: PLR2004 - a sane length

    def closing(self, blob: Descriptor) -> str:
        """Return the address that ends the upload: the digest joins whatever the registry put there."""
        joint = "&" if urlsplit(self.url).query else "?"
        return f"{self.url}{joint}digest={quote(blob.digest, safe='')}"


class _TooLargeError(LadingError):
    """The registry, or a proxy before it, answered 413 (never leaves this module)."""


class _LostError(LadingError):
    """The registry no longer knows the upload session (never leaves this module)."""


class _NoChunksError(LadingError):
    """The registry takes no chunks after all (never leaves this module)."""


class _BusyError(NetworkError):
    """The registry is busy, and may have said for how many seconds (never leaves this module)."""

    def __init__(self, message: str, *, hint: str, asked: float | None) -> None:
        super().__init__(message, hint=hint)
        self.asked = asked


class Upload:
    """One blob on its way from a source to a registry.

    A source is opened anew, where the registry's part ends, after every break; memory stays
    constant. A blob read from its start is verified before its last block leaves; after a
    resumed break the registry's own check of the digest decides. `chunks` is false for a
    registry that is known to take a blob in one request only. With `finish` the blob's digest
    is unknown before, and what that returns once all is sent; such a blob goes in chunks.
    """

    def __init__(
        self,
        repository: Repository,
        blob: Descriptor,
        source: Source,
        progress: Progress,
        *,
        chunks: bool = True,
        finish: Callable[[], Digest] | None = None,
    ) -> None:
        self._chunks = chunks
        self._finish = finish
        self._told = 0
        self._at = repository
        self._blob = blob
        self._source = source
        self._hear = progress
        self._feed = Feed(source, blob, lambda _done: self._hear(self._told), unnamed=finish is not None)
        self._name = f"blob {blob.digest.short}"

    def run(self, session: Session | None, *, chunk_size: int | None, tries: int) -> int | None:
        """Send the blob, and return the size of chunks that it was taken in.

        `chunk_size` None sends it in one request, until the registry finds that too large. Raises NetworkError after
        `tries` without progress.
        """
        sizes = list(_SMALLER)
        failed = 0
        too_large: LadingError | None = None
        try:
            while True:
                try:
                    opened = session or self._start()
                    session = None
                    if chunk_size is None:
                        self._send_whole(opened, tries)
                    else:
                        self._send_chunks(opened, max(chunk_size, opened.least), tries)
                except _TooLargeError as error:
                    too_large = error
                    sizes = [size for size in sizes if size < min(chunk_size or self._blob.size, self._blob.size)]
                    if not sizes or not self._chunks:
                        raise
                    chunk_size = sizes.pop(0)
                except _NoChunksError as error:
                    raise too_large or error from None
                except (NetworkError, _LostError) as error:
                    failed += 1
                    if failed >= tries:
                        raise NetworkError(error.message, hint=error.hint) from error
                    self._at.pause(failed, error.message, _asked(error))
                else:
                    return chunk_size
        finally:
            self._feed.close()

    def _progress(self, done: int) -> None:
        self._told = done
        self._hear(done)

    def _start(self) -> Session:
        # A registry must hash with what it is told from the first byte on; sha256 goes without saying.
        algorithm = self._blob.digest.algorithm
        query = "" if algorithm == "sha256" else f"?digest-algorithm={algorithm}"
        path = f"/v2/{self._at.repository}/blobs/uploads/{query}"
        with self._at.send(
            "POST", path, body=b"", headers={"Content-Length": "0"}, again=True, actions=PUSH
        ) as response:
            if response.status != _ACCEPTED:
                subject = f"an upload to `{self._at.repository}`"
                raise response.failure(subject)
            return Session.of(response)

    def _send_whole(self, session: Session, tries: int) -> None:
        piece = Piece(self._feed, 0, self._blob.size, self._progress)
        headers = {"Content-Type": "application/octet-stream"}
        try:
            with self._at.send(
                "PUT", session.closing(self._blob), headers=headers, body=piece, actions=PUSH
            ) as response:
                self._check_end(response)
        except NetworkError as error:
            if not self._chunks or isinstance(error, _BusyError):
                raise
            try:
                session, reached = self._ask(session)
            except (NetworkError, _LostError):
                reached = 0
            if not reached:
                raise error from None
            # What a registry kept is worth more than the habit of one request.
            try:
                self._send_chunks(session, self._blob.size, tries, done=reached)
            except _NoChunksError:
                self._chunks = False
                raise error from None

    def _send_chunks(self, session: Session, chunk_size: int, tries: int, *, done: int = 0) -> None:
        failed = 0
        while done < self._blob.size:
            size = min(chunk_size, self._blob.size - done)
            try:
                session, reached = self._send_chunk(session, done, size)
            except NetworkError as error:
                failed += 1
                if failed >= tries:
                    raise
                self._at.pause(failed, error.message, _asked(error))
                try:
                    session, reached = self._ask(session)
                except _LostError:
                    # distribution drops a session that got a part of a chunk: all starts over.
                    raise error from None
            if reached > done:
                failed = 0
            done = reached
        if self._finish is not None:
            # Nothing is there yet: bytes that prove wrong now never were.
            self._blob = msgspec.structs.replace(self._blob, digest=self._finish())
        with self._at.send("PUT", session.closing(self._blob), body=b"", again=True, actions=PUSH) as response:
            self._check_end(response)

    def _send_chunk(self, session: Session, done: int, size: int) -> tuple[Session, int]:
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{done}-{done + size - 1}"}
        piece = Piece(self._feed, done, size, self._progress)
        with self._at.send("PATCH", session.url, headers=headers, body=piece, actions=PUSH) as response:
            if response.status == _BAD_RANGE:
                msg = f"{response.host} has another part of {self._name} than was sent"
                raise NetworkError(msg)
            if response.status in _NO_CHUNKS:
                error = response.failure(self._name)
                raise _NoChunksError(error.message, hint=error.hint)
            if response.status not in (_ACCEPTED, _CREATED, _NO_CONTENT):
                raise self._refused(response)
            return Session.of(response, session.least), self._reached(response, done + size)

    def _ask(self, session: Session) -> tuple[Session, int]:
        # distribution-spec, "Pushing a blob in chunks": GET on the session tells how far it got.
        with self._at.send("GET", session.url, actions=PUSH) as response:
            if response.status in (_UNAUTHORIZED, _FORBIDDEN):
                raise self._refused(response)
            if response.status != _NO_CONTENT:
                msg = f"{response.host} does not know the upload of {self._name} any more"
                raise _LostError(msg, hint="try again")
            following = Session.of(response, session.least) if response.headers.get("Location") else session
            # "0-0" stands for nothing and for one byte; nothing is the likelier, and the digest tells.
            reached = self._reached(response, 0)
            return following, 0 if reached == 1 else reached

    def _reached(self, response: Response, otherwise: int) -> int:
        match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
        reached = int(match[1]) + 1 if match else otherwise
        if reached > self._blob.size:
            msg = f"{response.host} claims to have {reached} of the {self._blob.size} bytes of {self._name}"
            raise IntegrityError(msg)
        return reached

    def _refused(self, response: Response) -> LadingError:
        if response.status == _TOO_LARGE:
            error = response.failure(self._name)
            return _TooLargeError(error.message, hint=error.hint)
        if response.status == _NOT_FOUND:
            error = response.failure(f"upload of {self._name} any more")
            return _LostError(error.message, hint="try again")
        if response.status in RETRIED:
            asked = asked_wait(response.headers, time.time())
            error = response.failure(self._name)
            return _BusyError(error.message, hint=error.hint, asked=asked)
        return response.failure(self._name)

    def _check_end(self, response: Response) -> None:
        if response.status not in (_CREATED, _NO_CONTENT):
            raise self._refused(response)
        said = response.headers.get("Docker-Content-Digest")
        if said and said != self._blob.digest and said.startswith(f"{self._blob.digest.algorithm}:"):
            msg = f"{response.host} stored {said[:100]} where {self._blob.digest} was sent"
            raise IntegrityError(msg, hint="the registry is not to be trusted with this blob")


def _asked(error: LadingError) -> float | None:
    return error.asked if isinstance(error, _BusyError) else None
