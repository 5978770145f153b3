"""One file behind a plain http or https URL."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lading.errors import IntegrityError, NetworkError, NotFoundError, PolicyError
from lading.http import Client, Origin, RemoteFile
from lading.http.ranges import check_range, total_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.content import ByteReader, RangeReader
    from lading.http import Response

_OK, _PARTIAL, _NOT_FOUND = 200, 206, 404
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file as its server described it: name (the URL's last part), size in bytes, ETag ("" if weak or none)."""

    url: str
    name: str
    size: int
    etag: str
    _client: Client = field(repr=False, compare=False)

    def open(self, offset: int = 0) -> ByteReader:
        """Stream the file from `offset` on; unverified beyond its length. Raises IntegrityError if it has changed."""
        if offset and offset >= self.size:
            return io.BytesIO()
        headers = {"Range": f"bytes={offset}-", **({"If-Range": self.etag} if self.etag else {})} if offset else {}
        response = self._client.request("GET", self.url, headers=headers)
        try:
            if offset and response.status == _PARTIAL:
                check_range(response, offset, self.size, self.size, self.name)
                return response.body()
            _expect(response, _OK, self.url)
            self._check_unchanged(response)
            body = response.body()
            body.skip(offset)
        except BaseException:
            response.close()
            raise
        return body

    def ranges(self) -> RangeReader:
        """Return random access to the file; raises IntegrityError at a read if it has changed."""

        def fetch(headers: Mapping[str, str]) -> Response:
            return self._client.request("GET", self.url, headers=headers)

        return RemoteFile(self._client, fetch, self.name, self.size, etag=self.etag)

    def _check_unchanged(self, response: Response) -> None:
        if response.length not in (None, self.size) or (self.etag and _etag(response) not in ("", self.etag)):
            msg = f"{self.name} changed at {response.host} while it was read"
            raise IntegrityError(msg, hint="try again")


def look(url: str, client: Client, *, insecure: bool = False) -> WebFile:
    """Ask a server about a file: HEAD, else the first byte.

    Raises NotFoundError, NetworkError for a server that tells no size or answers with a web
    page, PolicyError for plain http beyond this machine unless `insecure`, UsageError for what is no URL.
    """
    origin = Origin.of(url)
    if not (insecure or origin.keeps_secrets):
        msg = f"{origin.host} is asked over plain http, where anybody on the way can change the file"
        raise PolicyError(msg, hint="use https, or --insecure")
    with client.request("HEAD", url) as response:
        if response.status == _OK and response.length is not None and not response.is_page:
            return WebFile(url, _name(url), response.length, _etag(response), client)
        if response.status == _NOT_FOUND:
            raise _missing(url, response)
    # Servers that sign addresses for GET alone refuse HEAD, and some tell no size there.
    with client.request("GET", url, headers={"Range": "bytes=0-0"}) as response:
        if response.status == _PARTIAL:
            size = total_size(response)
        else:
            _expect(response, _OK, url)
            size = response.length
        if size is None:
            msg = f"{response.host} does not tell the size of {_name(url)}"
            raise NetworkError(msg, hint="download it by hand, then use the file")
        return WebFile(url, _name(url), size, _etag(response), client)


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


def _etag(response: Response) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else ""


def _name(url: str) -> str:
    last = unquote(urlsplit(url).path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    clean = "".join(char if char.isprintable() else "_" for char in last)[:_LONGEST_NAME]
    return "file" if clean in ("", ".", "..") else clean
