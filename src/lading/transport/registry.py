"""OCI registries (distribution-spec v1.1): one repository as a Source and a Target."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

from lading import media
from lading.digest import Digest, VerifyingReader
from lading.errors import (
    AccessDeniedError,
    FormatError,
    IntegrityError,
    LadingError,
    NetworkError,
    NotFoundError,
    PolicyError,
    UsageError,
)
from lading.http import Origin, RemoteFile, is_loopback
from lading.http.ranges import check_range
from lading.manifest import MAX_DOCUMENT, Descriptor, parse_document
from lading.reference import DOCKER_HUB, is_registry_tag
from lading.text import clean
from lading.transport.habits import habits_of, too_large
from lading.transport.referrers import Referrers
from lading.transport.tags import next_page, read_page, told
from lading.transport.upload import Session, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lading.auth import Authorizer
    from lading.content import ByteReader, Progress, RangeReader, Source, Unnamed
    from lading.http import Client, Payload, Response
    from lading.manifest import Document
    from lading.reference import Oci
    from lading.transport.habits import Habits

_HUB_ADDRESS = "registry-1.docker.io"
_OK, _CREATED, _ACCEPTED, _PARTIAL = 200, 201, 202, 206
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 400, 401, 403, 404
_UNSUPPORTED = (405, 501)
_DELETED = (200, 202, 204)
_BLOB = "application/octet-stream"
_MAX_LISTING = 4 * 1024 * 1024
_MAX_PAGES = 200
_WARNING = re.compile(r'299 - "([^"]*)"')
_LONGEST_WARNING = 500


class Registry:
    """One repository of a registry. Reads are held to their digests; layers' `urls` are never followed.

    `insecure` permits plain http and unverified certificates; a loopback host is always tried
    with https, then http. `mount_from` are repositories of the same registry that may already
    have a blob. `chunk_size` (bytes) sends blobs in chunks; None sends each in one request
    until the registry finds that too large. `tries` is how often to ask before giving up, None
    as often as the client does. `habits` is what is known of the registry, None what its name tells.
    """

    def __init__(
        self,
        reference: Oci,
        client: Client,
        authorizer: Authorizer,
        *,
        insecure: bool = False,
        mount_from: Sequence[str] = (),
        chunk_size: int | None = None,
        tries: int | None = None,
        habits: Habits | None = None,
    ) -> None:
        self.host = reference.host
        self.repository = reference.repository
        self._address = _HUB_ADDRESS if reference.host == DOCKER_HUB else reference.host
        self._client = client
        self._authorizer = authorizer
        self._verify = not insecure
        self._mount_from = tuple(name for name in mount_from if name != reference.repository)
        self._chunk_size = chunk_size
        self._tries = tries
        self._habits = habits or habits_of(self.host)
        # The size of chunks that the registry was found to take, where it did not take a blob in one.
        self._taken: int | None = None
        self._warned: set[str] = set()
        self._absent: set[Digest] = set()
        self._known_origin: Origin | None = None

    def document(self, name: str, /) -> Document:
        """Return the manifest or index under a tag or digest.

        Raises NotFoundError, naming tags that exist; IntegrityError where bytes, digest and the
        registry's own claim differ; FormatError for what is no manifest.
        """
        digest = _digest_of(name)
        subject = f"{self.host}/{self.repository}{'@' if digest else ':'}{name}"
        headers = {"Accept": ", ".join(media.MANIFEST_TYPES)}
        with self._send("GET", self._manifest_path(name), headers=headers) as response:
            if response.status == _NOT_FOUND:
                raise self._no_such(name, response)
            self._expect_data(response)
            raw = response.read(MAX_DOCUMENT)
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip() or None
            document = parse_document(raw, name=subject, media_type=kind, digest=digest)
            self._check_claim(response, raw, subject)
        return document

    def resolve(self, name: str) -> Digest | None:
        """Return the digest that the registry claims for a tag, unverified; None if it makes no claim.

        Raises NotFoundError where there is no such tag.
        """
        headers = {"Accept": ", ".join(media.MANIFEST_TYPES)}
        with self._send("HEAD", self._manifest_path(name), headers=headers) as response:
            if response.status == _NOT_FOUND:
                raise self._no_such(name, response)
            if response.status != _OK and response.status not in _UNSUPPORTED:
                raise self.refused(response)
            said = response.headers.get("Docker-Content-Digest") if response.status == _OK else None
        try:
            return Digest(said) if said else None
        except FormatError:
            return None

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream a blob; read from 0 its end is verified, from elsewhere the caller verifies."""
        if offset and offset >= blob.size:
            return io.BytesIO()
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._send("GET", self._blob_path(blob), headers=headers)
        try:
            if response.status not in (_OK, _PARTIAL):
                raise self.refused(response, f"blob {blob.digest.short}")
            if response.is_page:
                raise response.page()
            body = response.body()
            if response.status == _PARTIAL:
                check_range(response, offset, blob.size, blob.size, f"blob {blob.digest.short}")
            elif response.length is not None and response.length != blob.size:
                msg = f"blob {blob.digest.short} has {response.length} bytes at {self.host}, not {blob.size}"
                raise IntegrityError(msg, hint="the registry does not hold what the manifest says")
            else:
                # Ranges are a SHOULD of the specification: what the caller has is read past.
                body.skip(offset)
        except BaseException:
            response.close()
            raise
        name = f"blob {blob.digest.short} from {self.host}"
        return body if offset else VerifyingReader(body, name, size=blob.size, digest=blob.digest)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        """Return random access to a blob, without verification."""

        def fetch(headers: Mapping[str, str]) -> Response:
            response = self._send("GET", self._blob_path(blob), headers=headers)
            if response.status in (_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND):
                raise self.refused(response, f"blob {blob.digest.short}")
            return response

        return RemoteFile(self._client, fetch, f"blob {blob.digest.short} at {self.host}", blob.size)

    def tags(self) -> list[str]:
        """Return all tags, in the registry's order; raises NotFoundError without such a repository."""
        return [tag for page in self._tag_pages() for tag in page]

    def has(self, blob: Descriptor, /) -> bool:
        """Say whether the registry has the blob, with this size."""
        with self.send("HEAD", self._blob_path(blob)) as response:
            if response.status == _OK:
                return response.length in (None, blob.size)
            if response.status == _NOT_FOUND or response.status in _UNSUPPORTED:
                self._miss(blob)
                return False
            raise self.refused(response, f"blob {blob.digest.short}")

    def _miss(self, blob: Descriptor) -> None:
        # Whoever copies asks for all blobs before the first is sent: the time to tell what will not go well.
        if blob.digest not in self._absent and self._habits.largest is not None and blob.size > self._habits.largest:
            self._client.warn(too_large(blob, self._habits.largest, self.host))
        self._absent.add(blob.digest)

    def put_blob(self, blob: Descriptor, source: Source, progress: Progress, /) -> str:
        """Write a blob; return "present" or "mounted" where no byte was moved, else ""."""
        if blob.digest not in self._absent and self.has(blob):
            return "present"
        session = None
        for repository in self._mount_from:
            mounted, session = self._mount(blob, repository)
            if mounted:
                return "mounted"
        upload = Upload(self, self.repository, blob, source, progress, chunks=self._habits.chunks)
        chunk_size = self._chunk_size
        if chunk_size is None and self._taken is not None and blob.size > self._taken:
            chunk_size = self._taken
        taken = upload.run(session, chunk_size=chunk_size, tries=self._client.tries)
        self._taken = self._taken if taken is None else taken
        self._absent.discard(blob.digest)
        return ""

    def put_unnamed(self, stream: Unnamed, progress: Progress, /) -> Digest | None:
        """Write bytes whose digest follows from them; None for a registry that is known to take none in chunks."""
        if not self._habits.chunks:
            return None
        found: list[Digest] = []

        def finish() -> Digest:
            found[:] = [stream.finish()]
            return found[0]

        blob = Descriptor(media_type=_BLOB, digest=Digest.of(b""), size=stream.size)
        upload = Upload(self, self.repository, blob, _UnnamedSource(stream), progress, finish=finish)
        upload.run(None, chunk_size=self._chunk_size or stream.size, tries=self._client.tries)
        self._absent.discard(found[0])
        return found[0]

    def put_document(self, document: Document, tag: str | None, /) -> None:
        """Write a manifest or index, under a tag or only its digest; one with a subject is among its referrers then."""
        name = tag or document.digest
        headers = {"Content-Type": document.media_type}
        with self.send("PUT", self._manifest_path(name), headers=headers, body=document.raw, again=True) as response:
            # 201 is the specification's word; a 200 is some portal's, which has swallowed the manifest.
            if response.is_page:
                raise response.page()
            if response.status != _CREATED:
                raise self.refused(response, f"the manifest `{name}` for `{self.repository}`")
            self._check_claim(response, document.raw, f"`{name}` for `{self.repository}`")
            listed = "OCI-Subject" in response.headers
        if document.subject is not None and not listed:
            Referrers(self).add(document)

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """Return the manifests whose subject is `digest`, in the registry's order; of one type where that is given."""
        return Referrers(self).find(digest, artifact_type)

    def delete(self, name: str) -> None:
        """Delete a tag; or, by its digest, a manifest and with it all of its tags.

        Raises NotFoundError where there is none, PolicyError where the registry deletes nothing, or no tags.
        """
        digest = _digest_of(name)
        document = self.document(name) if digest else None
        with self.send("DELETE", self._manifest_path(name), actions="pull,push,delete") as response:
            if response.status == _NOT_FOUND:
                raise self._no_such(name, response)
            if response.status in _UNSUPPORTED or (response.status == _BAD_REQUEST and not digest):
                raise self._keeps(name, response)
            if response.status not in _DELETED:
                raise self.refused(response, f"the deletion of `{name}` from `{self.repository}`")
        if document is not None:
            Referrers(self).remove(document)

    def check_login(self) -> bool:
        """Say whether the registry asks for logins at all; raises AccessDeniedError if it refuses ours."""
        subject, url = "its API (/v2/)", f"{self._origin}/v2/"
        with self._client.request("GET", url, verify=self._verify) as response:
            if response.status == _NOT_FOUND:
                msg = f"{self.host} does not answer as a registry does (404 at /v2/)"
                raise NetworkError(msg, hint="check its name and port")
            if not self._wants_login(response):
                self._expect_data(response, subject)
                return False
            header = self._authorizer.answer(response, self._origin, self.host, "", (), verify=self._verify)
        with self._client.request("GET", url, authorization=header, verify=self._verify) as response:
            if response.status in (_UNAUTHORIZED, _FORBIDDEN):
                user = self._authorizer.user(self.host, "")
                msg = f"{self.host} refuses the login" + (f" of `{user}`" if user else "") + f" ({response.status})"
                raise AccessDeniedError(msg, hint="check the user name and the password or token")
            self._expect_data(response, subject)
        return True

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Payload | None = None,
        again: bool = False,
        actions: str = "pull,push",
    ) -> Response:
        """Send a request with the right to do `actions` (for `upload` and `referrers`)."""
        return self._send(method, url, headers=headers, body=body, again=again, actions=actions)

    def pause(self, failed: int, why: str, asked: float | None = None) -> None:
        """Wait after a failure (for `upload`)."""
        self._client.pause(failed, why, asked)

    @property
    def _origin(self) -> Origin:
        if self._known_origin is None:
            plain = is_loopback(self._address) or not self._verify
            scheme = self._client.scheme(self._address, verify=self._verify) if plain else "https"
            self._known_origin = Origin.of(f"{scheme}://{self._address}")
        return self._known_origin

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Payload | None = None,
        again: bool = False,
        actions: str = "pull",
        also: tuple[str, ...] = (),
    ) -> Response:
        origin = self._origin
        target = urljoin(f"{origin}/", url)
        if Origin.of(target) != origin:
            msg = f"{origin} points elsewhere, to {Origin.of(target)}"
            raise PolicyError(
                msg, hint="requests stay with the registry named; a proxy may hide its name or TLS from it"
            )
        scopes = (f"repository:{self.repository}:{actions}", *also)
        header = self._authorizer.header(origin, self.host, self.repository, scopes, verify=self._verify)

        def attempt(authorization: str | None) -> Response:
            return self._client.request(
                method,
                target,
                headers=headers,
                authorization=authorization,
                body=body,
                again=again,
                verify=self._verify,
                tries=self._tries,
            )

        response = attempt(header)
        if self._wants_login(response):
            response = attempt(
                self._authorizer.answer(response, origin, self.host, self.repository, scopes, verify=self._verify)
            )
        self._pass_on(response.all("Warning"))
        return response

    def _pass_on(self, warnings: list[str]) -> None:
        # distribution-spec, "Warnings": code 299, no agent, and a text that people are to see; here once.
        for match in filter(None, map(_WARNING.match, warnings)):
            said = clean(match[1][:_LONGEST_WARNING])
            if said not in self._warned:
                self._warned.add(said)
                self._client.warn(f"{self.host} says: {said}")

    def _wants_login(self, response: Response) -> bool:
        # A challenge from where a redirect led is not answered: it is not the registry's.
        return response.status == _UNAUTHORIZED and Origin.of(response.url) == self._origin

    def _expect_data(self, response: Response, subject: str = "") -> None:
        if response.status != _OK:
            raise self.refused(response, subject)
        if response.is_page:
            raise response.page()

    def _mount(self, blob: Descriptor, repository: str) -> tuple[bool, Session | None]:
        query = f"?mount={quote(blob.digest, safe='')}&from={quote(repository, safe='')}"
        scope = f"repository:{repository}:pull"
        path = f"/v2/{self.repository}/blobs/uploads/{query}"
        with self._send("POST", path, body=b"", again=True, actions="pull,push", also=(scope,)) as response:
            if response.status == _CREATED:
                return True, None
            if response.status == _ACCEPTED:
                return False, Session.of(response)
            if response.status in (_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND):
                # No right to read the other repository is no reason not to push.
                return False, None
            raise self.refused(response, f"an upload to `{self.repository}`")

    def _tag_pages(self) -> Iterator[list[str]]:
        url = f"/v2/{self.repository}/tags/list?n=1000"
        for _page in range(_MAX_PAGES):
            with self._send("GET", url) as response:
                if response.status == _NOT_FOUND:
                    msg = f"{self.host} has no repository `{self.repository}`"
                    raise NotFoundError(msg, hint="check its spelling; the registry does not tell what else it has")
                self._expect_data(response)
                yield read_page(response.read(_MAX_LISTING), self.host)
                following = next_page(response.all("Link"), response.url)
            if following is None:
                return
            url = following
        msg = f"{self.host} lists tags of `{self.repository}` without end"
        raise NetworkError(msg)

    def _no_such(self, name: str, response: Response) -> LadingError:
        if response.is_page:
            return response.page()
        response.close()
        if _digest_of(name):
            return NotFoundError(f"{self.host} has no manifest {name} in `{self.repository}`")
        try:
            tags = next(self._tag_pages())
        except NotFoundError as error:
            return error
        except LadingError:
            return NotFoundError(f"{self.host} has no tag `{name}` for `{self.repository}`")
        msg = f"{self.host} has no tag `{name}` for `{self.repository}`; it has {told(tags)}"
        return NotFoundError(msg, hint=f"lading inspect {self.host}/{self.repository} lists them" if tags else "")

    def refused(self, response: Response, subject: str = "") -> LadingError:
        """Return the error that an answer means for `subject`, with what to do about a missing login or right."""
        error = response.failure(subject or f"`{self.repository}`")
        if response.status not in (_UNAUTHORIZED, _FORBIDDEN):
            return error
        user = self._authorizer.user(self.host, self.repository)
        hint = f"`{user}` is logged in there, and may lack the right; or it does not exist"
        if not user:
            hint = f"lading login {self.host}, or docker login: the same credentials are read; or it does not exist"
        return AccessDeniedError(error.message, hint=hint)

    def _keeps(self, name: str, response: Response) -> PolicyError:
        status = response.status
        response.close()
        if status != _BAD_REQUEST:
            msg = f"{self.host} does not delete `{name}` of `{self.repository}` ({status})"
            return PolicyError(msg, hint="deletion is switched off there; its operator can permit it")
        claimed = self.resolve(name)
        msg = f"{self.host} deletes no tags, only manifests by their digest; `{name}` stays"
        return PolicyError(msg, hint=f"{claimed} is its digest; all of its tags would go with it" if claimed else "")

    def _check_claim(self, response: Response, raw: bytes, subject: str) -> None:
        said = response.headers.get("Docker-Content-Digest")
        algorithm = said.partition(":")[0] if said else ""
        if not said or algorithm not in ("sha256", "sha512"):
            return
        actual = Digest.of(raw, algorithm)
        if said != actual:
            msg = f"{self.host} claims digest {said[:140]} for {subject}, whose bytes have {actual}"
            raise IntegrityError(msg, hint="the registry or a proxy in between is not to be trusted")

    def _manifest_path(self, name: str) -> str:
        if not _digest_of(name) and not is_registry_tag(name):
            msg = f"{name[:140]!r} cannot be a tag in a registry"
            raise UsageError(msg, hint="a tag is up to 128 letters, digits, `_`, `.` or `-`")
        return f"/v2/{self.repository}/manifests/{name}"

    def _blob_path(self, blob: Descriptor) -> str:
        return f"/v2/{self.repository}/blobs/{blob.digest}"


class _UnnamedSource:
    """Bytes without a digest as the one blob of a source."""

    def __init__(self, stream: Unnamed) -> None:
        self._stream = stream

    def document(self, name: str, /) -> Document:
        """Raise NotFoundError."""
        raise NotFoundError(name)

    def open(self, _blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream the bytes from `offset` on."""
        return self._stream.open(offset)

    def ranges(self, _blob: Descriptor, /) -> RangeReader:
        """Raise NotFoundError: they are read once, in order."""
        raise NotFoundError(self._stream.name)


def _digest_of(name: str) -> Digest | None:
    return Digest(name) if ":" in name else None
