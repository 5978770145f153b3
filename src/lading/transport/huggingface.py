"""Hugging Face's hub: a repository's files at one commit (Hub API: `revision`, `tree` and `resolve` endpoints).

The commit is asked for first and everything else is asked of that commit. Weights lie on other hosts, to which
`resolve` redirects with an address signed for minutes; the token is not sent there.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from lading.digest import Digest
from lading.errors import AccessDeniedError, FormatError, LadingError, NetworkError, NotFoundError
from lading.http import Origin
from lading.text import clean
from lading.transport.listing import Endpoint, ListedFile, Listing, decoded
from lading.transport.tags import next_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lading.http import Client, Response
    from lading.reference import Hub

ENDPOINT = "https://huggingface.co"
DEFAULT_REVISION = "main"

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_SHA1 = re.compile(r"[0-9a-f]{40}", re.ASCII)
_RATE = re.compile(r'"(?P<what>[\w. -]{1,40})"\s*;\s*r\s*=\s*\d+\s*;\s*t\s*=\s*(?P<seconds>\d{1,9})', re.ASCII)
_MAX_PAGES = 200
_MAX_LISTED = 100_000
_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TIMEOUT, _TOO_MANY = 401, 403, 404, 408, 429
_CLIENT_ERRORS = range(400, 500)
_ANSWERS = (_OK, _PARTIAL, _UNSATISFIABLE)


class _Lfs(msgspec.Struct, frozen=True):
    oid: str
    size: int


class _Entry(msgspec.Struct, frozen=True, rename={"xet_hash": "xetHash"}):
    type: str
    path: str
    size: int = 0
    oid: str = ""
    lfs: _Lfs | None = None
    xet_hash: str | None = None


class _Revision(msgspec.Struct, frozen=True):
    sha: str


class HuggingFace:
    """One repository. `endpoint` is the hub or a mirror of it; `token` goes there and nowhere else.

    Raises UsageError and PolicyError as `Endpoint` does. The methods raise AccessDeniedError for a repository that
    is gated, private or hidden, NotFoundError for a repository, revision or file that is not there.
    """

    def __init__(
        self,
        reference: Hub,
        client: Client,
        *,
        endpoint: str = ENDPOINT,
        token: str | None = None,
        insecure: bool = False,
    ) -> None:
        self._endpoint = Endpoint(endpoint, client, token=token, insecure=insecure)
        self._repository = f"{reference.owner}/{reference.repository}"
        self._asked = reference.revision or DEFAULT_REVISION

    @property
    def host(self) -> str:
        """What messages call the hub: its host."""
        return self._endpoint.origin.authority

    def revision(self) -> str:
        """Return the commit that the reference's branch or tag stands for now; one request, unless it is a commit."""
        return self._commit

    def listing(self) -> Listing:
        """Return all files at the commit; one request for each thousand entries."""
        files = []
        for entry in self._entries():
            if entry.type == "file":
                files.append(_listed(entry))
            if len(files) > _MAX_LISTED:
                raise self._endless()
        return Listing(f"hf://{self._repository}@{self._commit}", self._commit, tuple(files))

    def get(self, file: ListedFile, headers: Mapping[str, str], /) -> Response:
        """Ask for a file: an answer with 200, 206 or 416. Everything else raises, naming the file."""
        path = f"{self._repository}/resolve/{self._commit}/{quote(file.path)}"
        response = self._endpoint.get(path, headers)
        if self._is_xet_only(response, file):
            response.close()
            msg = f"`{clean(file.path)}` lies in Xet, and {self.host} does not send it over plain HTTP ({response.status})"
            hint = f"fetch it with `hf download {self._repository}` and its name, then `lading pack` it"
            raise LadingError(msg, hint=hint)
        if response.status not in _ANSWERS:
            raise self._refused(response, f"`{clean(file.path)}`")
        return response

    @cached_property
    def _commit(self) -> str:
        if _COMMIT.fullmatch(self._asked):
            return self._asked
        path = f"api/models/{self._repository}/revision/{quote(self._asked, safe='')}"
        with self._endpoint.get(path) as response:
            if response.status != _OK:
                raise self._refused(response, f"revision `{self._asked}`")
            sha = decoded(response, _REVISION).sha
        if not _COMMIT.fullmatch(sha):
            msg = f"{self.host} names no commit for `{self._asked}` of {self._repository}, but {sha[:80]!r}"
            raise FormatError(msg, hint="it may be no Hugging Face hub")
        return sha

    def _entries(self) -> Iterator[_Entry]:
        url = f"api/models/{self._repository}/tree/{self._commit}?recursive=true&expand=false"
        for _page in range(_MAX_PAGES):
            with self._endpoint.get(url) as response:
                if response.status != _OK:
                    raise self._refused(response, f"commit {self._commit[:12]}")
                yield from decoded(response, _TREE)
                following = next_page(response.all("Link"), response.url)
            if following is None:
                return
            url = following
        raise self._endless()

    def _endless(self) -> NetworkError:
        msg = f"{self.host} lists files of {self._repository} without end"
        return NetworkError(msg, hint=f"at most {_MAX_LISTED} are read")

    def _is_xet_only(self, response: Response, file: ListedFile) -> bool:
        """Say whether an answer is the hub's way to say that a file can only be put together from its chunks."""
        if Origin.of(response.url) == self._endpoint.origin:
            marked = "X-Xet-Hash" in response.headers or "xet-auth" in response.headers.get("Link", "")
            return marked and response.status == _OK and response.length == 0 and file.size > 0
        # What stands in for plain storage refuses files of some hundred gigabytes with 400.
        transient = (_UNAUTHORIZED, _FORBIDDEN, _TIMEOUT, _UNSATISFIABLE, _TOO_MANY)
        return file.xet and response.status in _CLIENT_ERRORS and response.status not in transient

    def _refused(self, response: Response, what: str) -> LadingError:
        """Close, and return the error that an answer means; the hub tells why in X-Error-Code."""
        if Origin.of(response.url) == self._endpoint.origin:
            if response.status in (_UNAUTHORIZED, _FORBIDDEN):
                response.close()
                return self._denied(response.status, response.headers)
            if response.status == _NOT_FOUND:
                response.close()
                return self._missing(response.headers.get("X-Error-Code", ""), what)
            if response.status == _TOO_MANY:
                return _limited(response, self.host)
        return response.failure(f"{what} of {self._repository}")

    def _denied(self, status: int, headers: Mapping[str, str]) -> LadingError:
        named, code = f"{self._repository} at {self.host}", headers.get("X-Error-Code", "")
        if code == "GatedRepo":
            msg = f"{named} is gated: its owner decides who may read it ({status})"
            place = f"{self._endpoint.base}/{self._repository}"
            return AccessDeniedError(msg, hint=f"ask for access at {place}; {self._login}")
        if status == _FORBIDDEN:
            said = clean(headers.get("X-Error-Message", ""))[:200]
            msg = f"{named} may not be read ({status}{f' {said}' if said else ''})"
            return AccessDeniedError(msg, hint=self._login)
        if self._endpoint.token and code != "RepoNotFound":
            msg = f"{self.host} refuses the token ({status})"
            return AccessDeniedError(msg, hint="it may have run out, or be mistyped")
        msg = f"{named} is private or gated, or does not exist; without access the hub does not say which ({status})"
        return AccessDeniedError(msg, hint=f"check its spelling; {self._login}")

    def _missing(self, code: str, what: str) -> LadingError:
        named = f"{self._repository} at {self.host}"
        if code == "RevisionNotFound":
            return NotFoundError(f"{named} has no {what}", hint="a revision is a branch, a tag or a whole commit")
        if code == "EntryNotFound":
            return NotFoundError(f"{named} has no {what} at commit {self._commit[:12]}")
        hint = "check its spelling, and what the token may read" if self._endpoint.token else "check its spelling"
        return NotFoundError(f"{self.host} has no model {self._repository}", hint=hint)

    @property
    def _login(self) -> str:
        if self._endpoint.token:
            return "the token that was sent does not suffice"
        return "set HF_TOKEN, or `hf auth login`: the same token is read"


def _listed(entry: _Entry) -> ListedFile:
    if entry.lfs is None:
        return ListedFile(
            entry.path, entry.size, None, entry.oid if _SHA1.fullmatch(entry.oid) else "", bool(entry.xet_hash)
        )
    # The entry's own sha1 is that of the pointer in git, which nobody fetches.
    return ListedFile(entry.path, entry.lfs.size, Digest(f"sha256:{entry.lfs.oid}"), "", bool(entry.xet_hash))


def _limited(response: Response, host: str) -> NetworkError:
    """Close, and return the error for a 429, with the wait that the hub's `ratelimit` header tells."""
    match = _RATE.search(response.headers.get("RateLimit", ""))
    asked = response.headers.get("Retry-After", "")
    response.close()
    wait = match["seconds"] if match else asked if asked.isdecimal() and len(asked) <= 9 else ""  # noqa: PLR2004 - years
    hint = f"try again in {int(wait) + 1} s" if wait else "try again later"
    what = f"its limit for `{match['what']}` is reached" if match else "there were too many requests"
    return NetworkError(
        f"{host} answers no more for now: {what} (429)", hint=f"{hint}; with a login the limit is higher"
    )


_REVISION = msgspec.json.Decoder(_Revision)
_TREE = msgspec.json.Decoder(list[_Entry])
