"""What a server answered: a status, headers, and a body that never ends silently."""

from __future__ import annotations

import io
import json
import socket
import time
from contextlib import contextmanager, suppress
from http.client import HTTPException  # noqa: TID251 - this room speaks HTTP; its errors surface while reading
from typing import TYPE_CHECKING, Any, Self

from lading.errors import AccessDeniedError, FormatError, IntegrityError, LadingError, NetworkError, NotFoundError
from lading.http.origin import Origin
from lading.http.patience import RETRIED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import urllib3  # noqa: TID251 - the type of what the client hands over
    from _typeshed import WriteableBuffer

_DRAINED = 64 * 1024
_SKIPPED = 256 * 1024
_QUOTED = 200
_NOT_ASKED_FOR = "what it sent is not what was asked for"
_ERROR_BODY = 16 * 1024
_WINDOW = 30.0
_LEAST = 32 * 1024
"""Bytes of an answer that is read whole that come in each window of so many seconds, or it counts as broken off."""
_NO_BODY = frozenset({204, 304})
_PARTIAL = 206
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_LARGE, _UNSATISFIABLE, _SERVER_FAILED = 401, 403, 404, 413, 416, 500


class Body(io.RawIOBase):
    """A ByteReader over an answer. Reads large buffers straight from the connection.

    Raises NetworkError when the body ends before its Content-Length or last chunk; `broke` says so from then on.
    """

    def __init__(self, response: Response, raw: urllib3.HTTPResponse, expected: int | None) -> None:
        self._response = response
        # urllib3's own read and stream copy every byte twice more (0.78 against 0.18 CPU-s/GB).
        self._stream: Any = raw._original_response  # noqa: SLF001 - see above
        self._left = expected
        self.broke = False

    @property
    def ended(self) -> bool:
        """Say whether all of it was read."""
        return self._left == 0

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer`; 0 only at the body's end, else NetworkError."""
        view = memoryview(buffer).cast("B")
        # Reading on at the end of a kept-alive body would block.
        if self._left == 0 or not len(view):
            return 0
        window = view if self._left is None else view[: self._left]
        with self._broken_off():
            count: int = self._stream.readinto(window) if self._left is None else self._receive(window)
        self._took(count)
        return count

    def _receive(self, window: memoryview) -> int:
        """Return what has come, as soon as anything has: what fills the window may break off and take all with it."""
        stream = self._stream
        count: int = stream.fp.readinto1(window) if stream.fp else 0
        stream.length -= count
        if not stream.length or not count:
            stream._close_conn()  # noqa: SLF001 - the connection is free for the next request
        return count

    def read1(self, size: int, /) -> bytes:
        """Return what has come so far, up to `size` bytes, waiting only for the first; b"" at the body's end.

        For streams that are to be shown as they come. Raises NetworkError as `readinto` does.
        """
        if self._left == 0 or size == 0:
            return b""
        with self._broken_off():
            data: bytes = self._stream.read1(size if self._left is None else min(size, self._left))
        self._took(len(data))
        return data

    def _took(self, count: int) -> None:
        self._response.count(count)
        if self._left is not None:
            if not count:
                self.broke = True
                msg = f"{self._response.host} broke off its answer {self._left} bytes before the end"
                raise NetworkError(msg, hint="try again")
            self._left -= count
        elif not count:
            self._left = 0

    @contextmanager
    def _broken_off(self) -> Iterator[None]:
        host = self._response.host
        try:
            yield
        except TimeoutError as error:
            self.broke = True
            msg = f"{host} went silent in the middle of its answer"
            raise NetworkError(msg, hint="try again") from error
        except (OSError, HTTPException, ValueError) as error:
            self.broke = True
            msg = f"{host} broke off in the middle of its answer"
            raise NetworkError(msg, hint="try again") from error

    def skip(self, count: int) -> None:
        """Read and drop `count` bytes."""
        buffer = memoryview(bytearray(min(count, _SKIPPED)))
        while count and (read := self.readinto(buffer[:count])):
            count -= read

    def abort(self) -> None:
        """End the stream from any thread: a read that waits raises NetworkError at once. It is still to be closed."""
        self._response.abort()

    def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        if not self.closed:
            self._response.release(whole=self.ended)
        super().close()


class Response:
    """One answer, after redirects. Close it, or use it in a `with`.

    `url` is where it came from in the end, `redirected` whether that is another place than was asked, `verified` whether
    a certificate had to be good there. `count` hears
    how many bytes of the body were read. `ask_again` sends the same request once more after a body broke off for the
    n-th time (from 1) for the reason given, or returns None; it is None itself where the request is not repeated.
    """

    def __init__(
        self, raw: urllib3.HTTPResponse, method: str, url: str, count: Callable[[int], None] = lambda _size: None
    ) -> None:
        self._raw = raw
        self.count = count
        self._method = method
        self.url = url
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self.redirected = False
        self.verified = True
        self.ask_again: Callable[[int, str], Response | None] | None = None
        self._released = False

    @property
    def host(self) -> str:
        """Host, and port where unusual, that answered."""
        return Origin.of(self.url).authority

    @property
    def length(self) -> int | None:
        """The Content-Length; None where absent. Raises NetworkError if it is no number."""
        text = self.headers.get("Content-Length")
        if text is None:
            return None
        # Several equal values may come joined (RFC 9110, 8.6).
        values = {value.strip() for value in text.split(",")}
        value = values.pop()
        if values or not (value.isascii() and value.isdecimal()) or len(value) > 18:  # noqa: PLR2004 - fits in 63 bits
            msg = f"{self.host} sent the senseless Content-Length {text[:40]!r}"
            raise NetworkError(msg)
        return int(value)

    def all(self, name: str) -> list[str]:
        """Return all values of a header that may come more than once."""
        return list(self._raw.headers.getlist(name))

    @property
    def is_page(self) -> bool:
        """Say whether the body is a web page."""
        return "html" in self.headers.get("Content-Type", "").partition(";")[0].lower()

    def body(self) -> Body:
        """Stream the body; raises IntegrityError if it is encoded (gzip and the like), for no digest would fit it."""
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            self.close()
            msg = f"{self.host} sent an encoded body ({encoding[:20]}) where plain bytes were asked for"
            raise IntegrityError(msg, hint="a proxy in between may have changed it")
        empty = self._method == "HEAD" or self.status in _NO_BODY
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        return Body(self, self._raw, 0 if empty else None if chunked else self.length)

    def read(self, cap: int) -> bytes:
        """Return the whole body and close; asks again where it breaks off, and then is the answer that came whole.

        Raises FormatError, unread, if it is longer than `cap` bytes; NetworkError where it breaks off each time.
        """
        failed = 0
        while True:
            body = self._entered()
            try:
                return self._read(body, cap)
            except NetworkError as error:
                if not body.broke:
                    raise
                failed += 1
                following = self.ask_again(failed, error.message) if self.ask_again else None
                if following is None:
                    raise
                self._become(following, error)

    def _entered(self) -> Body:
        try:
            return self.body()
        except BaseException:
            self.close()
            raise

    def _become(self, other: Response, broken: NetworkError) -> None:
        """Go on as a second answer to the same request; where it is of another kind, close it and raise `broken`."""
        alike = (self.status, self.is_page) == (other.status, other.is_page)
        if alike and self.status == _PARTIAL:
            # The caller has held the first one to the range and the version that it wants.
            alike = all(self.headers.get(name) == other.headers.get(name) for name in ("Content-Range", "ETag"))
        if not alike:
            other.close()
            raise broken
        self._raw, self.url, self.headers = other._raw, other.url, other.headers
        self.redirected, self.verified = other.redirected, other.verified
        self._released = False

    def _read(self, body: Body, cap: int) -> bytes:
        with self, body:
            expected = self.length
            if expected is not None and expected > cap and self._method != "HEAD":
                msg = f"{self.host} sent {expected} bytes where at most {cap} are read"
                raise FormatError(msg, hint=_NOT_ASKED_FOR)
            data = bytearray()
            since, before = time.monotonic(), 0
            while len(data) <= cap and (piece := body.read(min(cap + 1 - len(data), 256 * 1024))):
                data += piece
                if (now := time.monotonic()) - since >= _WINDOW:
                    if len(data) - before < _LEAST and not body.ended:
                        body.broke = True
                        msg = f"{self.host} sends too slowly: {len(data) - before} bytes in {now - since:.0f} s"
                        raise NetworkError(msg, hint="try again later")
                    since, before = now, len(data)
        if len(data) > cap:
            msg = f"{self.host} sent more than the {cap} bytes that are read"
            raise FormatError(msg, hint=_NOT_ASKED_FOR)
        return bytes(data)

    def failure(self, subject: str, *, hint: str = "") -> LadingError:
        """Close, and return the error that this answer means for `subject`, quoting the server in short."""
        why = f"({self.status}{self._quote()})"
        error: type[LadingError] = LadingError
        text = f"{self.host} refused {subject} {why}"
        if self.status == _UNAUTHORIZED:
            error, text = AccessDeniedError, f"{self.host} wants a login for {subject} {why}"
        elif self.status == _FORBIDDEN:
            error, text = AccessDeniedError, f"{self.host} refuses access to {subject} {why}"
        elif self.status == _NOT_FOUND:
            error, text = NotFoundError, f"{self.host} has no {subject} {why}"
        elif self.status == _TOO_LARGE:
            text, hint = (
                f"{subject} is too large for {self.host} {why}",
                hint or "a limit there, or in a proxy before it",
            )
        elif self.status == _UNSATISFIABLE:
            error, text = IntegrityError, f"{self.host} does not send the part of {subject} that was asked for {why}"
            hint = hint or "it may hold something else there; a proxy in between may be to blame"
        elif self.status in RETRIED or self.status >= _SERVER_FAILED:
            error, text = NetworkError, f"{self.host} failed on {subject} {why}"
            asked = self.headers.get("Retry-After")
            hint = hint or (f"it asks to wait (Retry-After: {asked[:40]})" if asked else "try again later")
        elif self.is_page:
            return self.page()
        return error(text, hint=hint)

    def page(self) -> NetworkError:
        """Close, and return the error for an answer that is a web page where data was asked for."""
        self.close()
        return NetworkError(
            f"{self.host} answered with a web page ({self.status})",
            hint="a login portal or a proxy may stand in between; or the host is no registry",
        )

    def _quote(self) -> str:
        # {"errors":[{"code","message"}]} (distribution-spec, "Error Codes"); anything else is not worth a line.
        try:
            tree = json.loads(self._read(self.body(), _ERROR_BODY))
            first = tree["errors"][0]
            said = ": ".join(str(first[key]) for key in ("code", "message") if first.get(key))
        except (LadingError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            self.close()
            return ""
        clean = "".join(char if char.isprintable() else " " for char in said[:_QUOTED])
        return f" {clean}" if clean else ""

    def release(self, *, whole: bool) -> None:
        """Give the connection back for reuse if the body was read to its end, else close it."""
        if self._released:
            return
        self._released = True
        if not whole:
            self._raw.close()
        elif (original := self._raw._original_response) is not None:  # noqa: SLF001 - as in Body
            # An empty body was never read: until its response is closed, its connection takes no further request.
            original.close()
        self._raw.release_conn()

    def abort(self) -> None:
        """Have every read of the body, one that waits too, find its end; for a body that is not read to its end yet."""
        sock = getattr(self._raw.connection, "sock", None)
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the connection, reading a short rest so that it can be used again; harmless when repeated."""
        if self._released:
            return
        try:
            short = self.length is not None and self.length <= _DRAINED
            if self._method == "HEAD" or self.status in _NO_BODY:
                self._raw.drain_conn()
            elif short:
                self._raw._original_response.read()  # type: ignore[union-attr] # noqa: SLF001 - as in Body
            self.release(whole=short or self._method == "HEAD" or self.status in _NO_BODY)
        except (OSError, HTTPException, ValueError, LadingError):
            self.release(whole=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
