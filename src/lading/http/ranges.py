"""Random access to a file behind HTTP, by Range requests (RFC 9110, 14)."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from lading.errors import IntegrityError, LadingError, NetworkError
from lading.http.validator import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lading.http.client import Client
    from lading.http.response import Body, Response

SMALL = 4 * 1024 * 1024
"""Bytes; a file up to this long is read whole where the server knows no ranges."""

_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


class RemoteFile:
    """A Piecewise file over HTTP, for one thread or many.

    `fetch` sends a GET with the headers it is given, and credentials of its own. Where the
    answer came from another place in the end (a registry's storage), that place is asked
    directly from then on. `validator` is what tells the version that is wanted (what If-Range may hold), "" where
    nothing does. `requests` and `bytes_read` count what was spent; `undivided` says whether the server was found to
    send nothing but the whole file.
    """

    def __init__(
        self,
        client: Client,
        fetch: Callable[[Mapping[str, str]], Response],
        name: str,
        size: int,
        *,
        validator: str = "",
    ) -> None:
        self._client = client
        self._fetch = fetch
        self._name = name
        self._size = size
        self._validator = validator
        self._direct: tuple[str, bool] | None = None
        self._whole: bytes | None = None
        self._lock = threading.Lock()
        self.undivided = False
        self.requests = 0
        self.bytes_read = 0

    @property
    def name(self) -> str:
        """What messages call the file."""
        return self._name

    @property
    def size(self) -> int:
        """The size promised when the file was named."""
        return self._size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the file ends.

        Raises IntegrityError if the server holds another file than promised, NetworkError if it
        knows no ranges and the file is not small.
        """
        end = min(offset + length, self._size)
        if offset < 0 or offset >= end:
            return b""
        if self._whole is not None:
            return self._whole[offset:end]
        response = self._ask({"Range": f"bytes={offset}-{end - 1}"})
        with response:
            if response.status == _OK:
                self._whole = whole = self._read_whole(response)
                return whole[offset:end]
            if response.status != _PARTIAL:
                raise self._refused(response)
            self._check(response, offset, end)
            data = response.read(end - offset)
        if len(data) != end - offset:
            msg = f"{response.host} sent {len(data)} of {end - offset} bytes of {self._name}"
            raise NetworkError(msg, hint="try again")
        self._count(len(data))
        return data

    def stream(self, offset: int, length: int, /) -> Body:
        """Stream `length` bytes from `offset` on.

        Asked once, and given up after seconds of silence. Raises NetworkError if the server knows no ranges or has
        another version, IntegrityError as `read_at` does.
        """
        end = offset + length
        # A 206 may leave out a date of change, and then only this tells that it is of the same version.
        version = {"If-Range": self._validator} if self._validator else {}
        with self._client.impatiently():
            response = self._ask({"Range": f"bytes={offset}-{end - 1}", **version})
        try:
            if response.status == _OK:
                raise self._undivided(response)
            if response.status != _PARTIAL:
                raise self._refused(response)
            self._check(response, offset, end)
            body = response.body()
        except BaseException:
            response.close()
            raise
        self._count(length)
        return body

    def close(self) -> None:
        """Nothing is held between requests."""

    def _ask(self, headers: Mapping[str, str]) -> Response:
        if (direct := self._direct) is not None:
            try:
                response = self._client.request("GET", direct[0], headers=headers, verify=direct[1])
            except NetworkError:
                self._direct = None
                raise
            if response.status in (_OK, _PARTIAL, _UNSATISFIABLE):
                return response
            # A signed address lives for minutes; then the way leads through the registry again.
            response.close()
            self._count(0)
            self._direct = None
        response = self._fetch(headers)
        if response.redirected and response.status == _PARTIAL:
            self._direct = response.url, response.verified
        return response

    def _read_whole(self, response: Response) -> bytes:
        if self._size > SMALL:
            raise self._undivided(response)
        data = response.read(self._size)
        if len(data) != self._size:
            msg = f"{self._name} is {len(data)} bytes long, not {self._size}"
            raise IntegrityError(msg)
        self._count(len(data))
        return data

    def _check(self, response: Response, start: int, end: int) -> None:
        if self._validator and shown(response.headers, self._validator) not in ("", self._validator):
            msg = f"{self._name} changed while it was read"
            raise IntegrityError(msg, hint="try again")
        check_range(response, start, end, self._size, self._name)

    def _undivided(self, response: Response) -> NetworkError:
        self.undivided = True
        msg = f"{response.host} cannot send a part of {self._name}, only all of its {self._size} bytes"
        return NetworkError(msg, hint="pull it, then look at it here")

    def _refused(self, response: Response) -> LadingError:
        if response.status == _UNSATISFIABLE:
            return IntegrityError(f"{self._name} is shorter at {response.host} than the {self._size} bytes promised")
        return response.failure(self._name)

    def _count(self, size: int) -> None:
        with self._lock:
            self.requests += 1
            self.bytes_read += size


def check_range(response: Response, start: int, end: int, size: int | None, name: str) -> None:
    """Hold a 206 to the range that was asked for, [start, end) of `size`; raises IntegrityError if it is another."""
    said = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(said.strip())
    if match is None or int(match[1]) != start or int(match[2]) != end - 1:
        msg = f"{response.host} sent another part of {name} than bytes {start}-{end - 1}: {said[:60]!r}"
        raise IntegrityError(msg, hint="the server or a proxy in between handles ranges wrongly")
    if size is not None and match[3] not in ("*", str(size)):
        msg = f"{name} is {match[3]} bytes long at {response.host}, not {size}"
        raise IntegrityError(msg, hint="the source does not hold what its manifest says")


def total_size(response: Response) -> int | None:
    """Return the whole file's size that a 206 tells; None if it does not."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return int(match[3]) if match and match[3] != "*" else None
