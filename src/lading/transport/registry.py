"""OCI registries (distribution-spec v1.1): one repository as a Source and a Target."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING
from urllib.parse import quote

from lading import media
from lading.digest import Digest, VerifyingReader
from lading.errors import (
    FormatError,
    IntegrityError,
    LadingError,
    NotFoundError,
    PolicyError,
    UsageError,
)
from lading.http import RemoteFile
from lading.http.ranges import check_range
from lading.manifest import MAX_DOCUMENT, Descriptor, parse_document
from lading.reference import is_registry_tag
from lading.transport.habits import habits_of, too_large
from lading.transport.referrers import Referrers
from lading.transport.repository import DELETE, PUSH, Repository
from lading.transport.tags import tag_pages, told
from lading.transport.upload import Session, Upload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lading.auth import Authorizer
    from lading.content import ByteReader, Progress, RangeReader, Source, Unnamed
    from lading.http import Client, Response
    from lading.manifest import Document
    from lading.reference import Oci
    from lading.transport.habits import Habits

_OK, _CREATED, _ACCEPTED, _PARTIAL = 200, 201, 202, 206
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 400, 401, 403, 404
_UNSUPPORTED = (405, 501)
_DELETED = (200, 202, 204)
_BLOB = "application/octet-stream"


class Registry(Repository):
    """One repository of a registry. Reads are held to their digests; layers' `urls` are never followed.

    `mount_from` are repositories of the same registry that may already have a blob. `chunk_size` (bytes) sends blobs in
    chunks; None sends each in one request until the registry finds that too large. `habits` is what is known of the
    registry, None what its name tells. The rest is said of `Repository`.
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
        super().__init__(reference, client, authorizer, insecure=insecure, tries=tries)
        self._mount_from = tuple(name for name in mount_from if name != reference.repository)
        self._chunk_size = chunk_size
        self._habits = habits or habits_of(self.host)
        # The size of chunks that the registry was found to take, where it did not take a blob in one.
        self._taken: int | None = None
        self._absent: set[Digest] = set()

    def document(self, name: str, /) -> Document:
        """Return the manifest or index under a tag or digest.

        Raises NotFoundError, naming tags that exist; IntegrityError where bytes, digest and the
        registry's own claim differ; FormatError for what is no manifest.
        """
        digest = _digest_of(name)
        subject = f"{self.host}/{self.repository}{'@' if digest else ':'}{name}"
        headers = {"Accept": ", ".join(media.MANIFEST_TYPES)}
        with self.send("GET", self._manifest_path(name), headers=headers) as response:
            if response.status == _NOT_FOUND:
                raise self._no_such(name, response)
            self.expect_data(response)
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
        with self.send("HEAD", self._manifest_path(name), headers=headers) as response:
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
        response = self.send("GET", self._blob_path(blob), headers=headers)
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
            response = self.send("GET", self._blob_path(blob), headers=headers)
            if response.status in (_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND):
                raise self.refused(response, f"blob {blob.digest.short}")
            return response

        return RemoteFile(self._client, fetch, f"blob {blob.digest.short} at {self.host}", blob.size)

    def tags(self) -> list[str]:
        """Return all tags, in the registry's order; raises NotFoundError without such a repository."""
        return [tag for page in tag_pages(self) for tag in page]

    def has(self, blob: Descriptor, /) -> bool:
        """Say whether the registry has the blob, with this size."""
        with self.send("HEAD", self._blob_path(blob), actions=PUSH) as response:
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
        upload = Upload(self, blob, source, progress, chunks=self._habits.chunks)
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
        upload = Upload(self, blob, _UnnamedSource(stream), progress, finish=finish)
        upload.run(None, chunk_size=self._chunk_size or stream.size, tries=self._client.tries)
        self._absent.discard(found[0])
        return found[0]

    def put_document(self, document: Document, tag: str | None, /) -> None:
        """Write a manifest or index, under a tag or only its digest; one with a subject is among its referrers then."""
        name = tag or document.digest
        headers = {"Content-Type": document.media_type}
        with self.send(
            "PUT", self._manifest_path(name), headers=headers, body=document.raw, again=True, actions=PUSH
        ) as response:
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
        with self.send("DELETE", self._manifest_path(name), actions=DELETE) as response:
            if response.status == _NOT_FOUND:
                raise self._no_such(name, response)
            if response.status in _UNSUPPORTED or (response.status == _BAD_REQUEST and not digest):
                raise self._keeps(name, response)
            if response.status not in _DELETED:
                raise self.refused(response, f"the deletion of `{name}` from `{self.repository}`")
        if document is not None:
            Referrers(self).remove(document)

    def _mount(self, blob: Descriptor, repository: str) -> tuple[bool, Session | None]:
        query = f"?mount={quote(blob.digest, safe='')}&from={quote(repository, safe='')}"
        scope = f"repository:{repository}:pull"
        path = f"/v2/{self.repository}/blobs/uploads/{query}"
        with self.send("POST", path, body=b"", again=True, actions=PUSH, also=(scope,)) as response:
            if response.status == _CREATED:
                return True, None
            if response.status == _ACCEPTED:
                return False, Session.of(response)
            if response.status in (_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND):
                # No right to read the other repository is no reason not to push.
                return False, None
            raise self.refused(response, f"an upload to `{self.repository}`")

    def _no_such(self, name: str, response: Response) -> LadingError:
        if response.is_page:
            return response.page()
        response.close()
        if _digest_of(name):
            msg = f"{self.host} has no manifest {name} in `{self.repository}`"
            return NotFoundError(msg, hint="it was deleted, or what names it was not pushed whole")
        try:
            tags = next(tag_pages(self))
        except NotFoundError as error:
            return error
        except LadingError:
            return NotFoundError(f"{self.host} has no tag `{name}` for `{self.repository}`")
        msg = f"{self.host} has no tag `{name}` for `{self.repository}`; it has {told(tags)}"
        return NotFoundError(msg, hint=f"lading inspect {self.host}/{self.repository} lists them" if tags else "")

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
