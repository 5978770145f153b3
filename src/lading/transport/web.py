"""One file behind a plain http or https URL."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lading.digest import Digest
from lading.errors import IntegrityError, NetworkError, NotFoundError, PolicyError
from lading.http import Client, Origin, RemoteFile
from lading.http.ranges import check_range, total_size
from lading.http.validator import shown, validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.content import ByteReader, RangeReader
    from lading.http import Response
    from lading.manifest import Descriptor, Document

_OK, _PARTIAL, _NOT_FOUND = 200, 206, 404
_LONGEST_NAME = 255
_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):")


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file as its server described it: name (the URL's last part), size in bytes, what tells its version, its digest.

    `validator` is "" where nothing tells one version from another for certain, `digest` None where the server tells none.
    """

    url: str
    name: str
    size: int
    validator: str
    digest: Digest | None
    _client: Client = field(repr=False, compare=False)
    _verify: bool = field(default=True, repr=False, compare=False)

    def open(self, offset: int = 0) -> ByteReader:
        """Stream the file from `offset` on; unverified beyond its length. Raises IntegrityError if it has changed."""
        if offset and offset >= self.size:
            return io.BytesIO()
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and self.validator:
            headers["If-Range"] = self.validator
        response = self._client.request("GET", self.url, headers=headers, verify=self._verify)
        try:
            if offset and response.status == _PARTIAL:
                self._check_unchanged(response)
                check_range(response, offset, self.size, self.size, self.name)
                return response.body()
            _expect(response, _OK, self.url)
            # All of it, where a part of this version was asked for: then it is this one only if it says so.
            self._check_unchanged(response, says_so=bool(offset))
            if response.length not in (None, self.size):
                raise self._changed(response)
            body = response.body()
            body.skip(offset)
        except BaseException:
            response.close()
            raise
        return body

    def ranges(self) -> RemoteFile:
        """Return random access to the file; raises IntegrityError at a read if it has changed."""

        def fetch(headers: Mapping[str, str]) -> Response:
            return self._client.request("GET", self.url, headers=headers, verify=self._verify)

        return RemoteFile(self._client, fetch, self.name, self.size, validator=self.validator)

    def _check_unchanged(self, response: Response, *, says_so: bool = False) -> None:
        said = shown(response.headers, self.validator)
        if self.validator and said != self.validator and (said or says_so):
            raise self._changed(response)

    def _changed(self, response: Response) -> IntegrityError:
        msg = f"{self.name} changed at {response.host} while it was read"
        return IntegrityError(msg, hint="try again")


@dataclass(frozen=True, slots=True)
class WebSource:
    """A web file as a Source of one blob; its bytes are not verified, for not every server tells their digest."""

    file: WebFile

    def document(self, name: str, /) -> Document:
        """Raise NotFoundError: a file has no manifest."""
        msg = f"{self.file.name} is a file and has no manifest {name[:140]!r}"
        raise NotFoundError(msg, hint="a manifest is written when it is pulled")

    def open(self, _blob: Descriptor, /, offset: int = 0) -> ByteReader:
        """Stream the file from `offset` on; the caller verifies."""
        return self.file.open(offset)

    def ranges(self, _blob: Descriptor, /) -> RangeReader:
        """Return random access to the file."""
        return self.file.ranges()


def look(url: str, client: Client, *, insecure: bool = False) -> WebFile:
    """Ask a server about a file: HEAD, else the first byte.

    Raises NotFoundError, NetworkError for a server that tells no size or answers with a web
    page, PolicyError for plain http beyond this machine unless `insecure`, which takes any certificate of the URL's
    own origin, too; UsageError for what is no URL.
    """
    origin = Origin.of(url)
    if not (insecure or origin.keeps_secrets):
        msg = f"{origin.host} is asked over plain http, where anybody on the way can change the file"
        raise PolicyError(msg, hint="use https, or --insecure")
    with client.request("HEAD", url, verify=not insecure) as response:
        if response.status == _OK and response.length is not None and not response.is_page:
            return _described(response, url, response.length, client, verify=not insecure)
        if response.status == _NOT_FOUND:
            raise _missing(url, response)
    # Servers that sign addresses for GET alone refuse HEAD, and some tell no size there.
    with client.request("GET", url, headers={"Range": "bytes=0-0"}, verify=not insecure) as response:
        if response.status == _PARTIAL:
            size = total_size(response)
        else:
            _expect(response, _OK, url)
            size = response.length
        if size is None:
            msg = f"{response.host} does not tell the size of {_name(url)}"
            raise NetworkError(msg, hint="download it by hand, then use the file")
        return _described(response, url, size, client, verify=not insecure)


def _expect(response: Response, status: int, url: str) -> None:
    if response.status == _NOT_FOUND:
        raise _missing(url, response)
    if response.status != status:
        subject = f"`{_name(url)}`"
        raise response.failure(subject)
    if response.is_page:
        raise response.page()


def _missing(url: str, response: Response) -> NotFoundError:
    response.close()
    return NotFoundError(f"{response.host} has no file `{urlsplit(url).path[:200]}`", hint="check the URL")


def _described(response: Response, url: str, size: int, client: Client, *, verify: bool) -> WebFile:
    match = _SHA256.search(response.headers.get("Repr-Digest", ""))  # RFC 9530, 3
    digest = Digest(f"sha256:{base64.b64decode(match[1]).hex()}") if match else None
    return WebFile(url, _name(url), size, validator(response.headers), digest, client, verify)


def _name(url: str) -> str:
    last = unquote(urlsplit(url).path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    clean = "".join(char if char.isprintable() else "_" for char in last)[:_LONGEST_NAME]
    return "file" if clean in ("", ".", "..") else clean
