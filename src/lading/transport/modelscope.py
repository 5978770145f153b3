"""ModelScope's hub: a repository's files at one commit (its API v1: `repo/files` and `repo`).

Its listing has the sha256 of every file, small ones too. It answers at most `LIMIT` entries, without saying so.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from lading.digest import Digest
from lading.errors import AccessDeniedError, LadingError, NotFoundError
from lading.http import Origin
from lading.text import clean
from lading.transport.listing import Endpoint, ListedFile, Listing, decoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.http import Client, Response
    from lading.reference import Hub

ENDPOINT = "https://modelscope.cn"
DEFAULT_REVISION = "master"
LIMIT = 3000
"""Entries after which the hub cuts its list off."""

_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_SHORT = re.compile(r"[0-9a-f]{7,40}", re.ASCII)
_SUCCESS = 200
_ANSWERS = (200, 206, 416)
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


class _File(msgspec.Struct, frozen=True, rename="pascal"):
    path: str
    type: str = "blob"
    size: int = 0
    sha256: str | None = None
    revision: str | None = None


class _Committer(msgspec.Struct, frozen=True, rename="pascal"):
    id: str | None = None
    short_id: str | None = None


class _Data(msgspec.Struct, frozen=True, rename="pascal"):
    files: list[_File] | None = None
    latest_committer: _Committer | None = None


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    code: int = _SUCCESS
    message: str | None = None
    data: _Data | None = None


class ModelScope:
    """One repository. `endpoint` is the hub or a mirror of it; `token` goes there and nowhere else.

    Raises UsageError and PolicyError as `Endpoint` does. The methods raise AccessDeniedError for a repository that
    needs a login, NotFoundError for a repository, revision or file that is not there.
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
        # Old parts of the hub know a login by its cookie, new ones by its header.
        self._endpoint = Endpoint(endpoint, client, token=token, cookie="m_session_id", insecure=insecure)
        self._repository = f"{reference.owner}/{reference.repository}"
        self._asked = reference.revision or DEFAULT_REVISION

    @property
    def host(self) -> str:
        """What messages call the hub: its host."""
        return self._endpoint.origin.authority

    def revision(self) -> str:
        """Return the commit that the reference stands for, as far as the hub tells it; asked with the listing.

        The hub may tell a commit's first digits only, or none: then the branch or tag that was asked for.
        """
        return self.listing().revision

    def listing(self) -> Listing:
        """Return all files at the commit; one request. Raises LadingError for a list that was cut off."""
        return self._listing

    def get(self, file: ListedFile, headers: Mapping[str, str], /) -> Response:
        """Ask for a file: an answer with 200, 206 or 416. Everything else raises, naming the file."""
        commit = self._listing.revision
        revision = commit if _COMMIT.fullmatch(commit) else self._asked
        query = f"Revision={quote(revision, safe='')}&FilePath={quote(file.path, safe='')}"
        response = self._endpoint.get(f"api/v1/models/{self._repository}/repo?{query}", headers)
        if response.status not in _ANSWERS:
            raise self._refused(response, f"`{clean(file.path)}`")
        return response

    @cached_property
    def _listing(self) -> Listing:
        query = f"Revision={quote(self._asked, safe='')}&Recursive=True"
        with self._endpoint.get(f"api/v1/models/{self._repository}/repo/files?{query}") as response:
            if response.status != _SUCCESS:
                raise self._refused(response, f"revision `{self._asked}`")
            answer = decoded(response, _DECODER)
        if answer.code != _SUCCESS or answer.data is None:
            msg = (
                f"{self.host} lists no files of {self._repository}: {clean(answer.message or '')[:200]} ({answer.code})"
            )
            raise NotFoundError(msg, hint="check its spelling, and the revision")
        entries = answer.data.files or []
        if len(entries) >= LIMIT:
            msg = f"{self.host} tells only the first {LIMIT} files of {self._repository}"
            raise LadingError(msg, hint="a repository of so many files cannot be read from there")
        commit = self._commit(answer.data, entries)
        files = tuple(_listed(entry) for entry in entries if entry.type == "blob")
        return Listing(f"ms://{self._repository}@{commit}", commit, files)

    def _commit(self, data: _Data, entries: list[_File]) -> str:
        if _COMMIT.fullmatch(self._asked):
            return self._asked
        latest = data.latest_committer or _Committer()
        if latest.id and _COMMIT.fullmatch(latest.id):
            return latest.id
        short = latest.short_id or ""
        if not _SHORT.fullmatch(short):
            return self._asked
        # A file that the latest commit changed tells the commit's whole name.
        whole = (entry.revision or "" for entry in entries)
        return next((name for name in whole if _COMMIT.fullmatch(name) and name.startswith(short)), short)

    def _refused(self, response: Response, what: str) -> LadingError:
        """Close, and return the error that an answer means."""
        status, named = response.status, f"{self._repository} at {self.host}"
        if Origin.of(response.url) != self._endpoint.origin:
            return response.failure(f"{what} of {self._repository}")
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            response.close()
            hint = "set MODELSCOPE_API_TOKEN to a token of yours"
            if self._endpoint.token:
                hint = "the token that was sent does not suffice, or has run out"
            return AccessDeniedError(f"{named} may not be read without a login that may ({status})", hint=hint)
        if status == _NOT_FOUND:
            response.close()
            return NotFoundError(f"{self.host} has no {what} of {self._repository}", hint="check its spelling")
        return response.failure(f"{what} of {self._repository}")


def _listed(entry: _File) -> ListedFile:
    digest = Digest(f"sha256:{entry.sha256}") if entry.sha256 else None
    return ListedFile(entry.path, entry.size, digest)


_DECODER = msgspec.json.Decoder(_Answer)
