"""Drives the dance: sends what `flow` asks for, and keeps tokens as long as they live."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from lading.auth import challenge as challenges
from lading.auth.flow import Grant, TokenAnswer, TokenRequest, authorize, merge_scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from lading.auth.challenge import Challenge
    from lading.auth.credentials import Credential
    from lading.http import Client, Origin, Response

_MAX_TOKEN = 256 * 1024
_EARLY = 0.8


class Authorizer:
    """Headers for one or many registries, from any thread. `find` looks up a login by host and repository.

    Nothing is sent unasked: the first request to a registry goes without a login. From its
    challenge on, tokens are fetched ahead of the request that needs them, also when one has
    run out in the middle of a long push.
    """

    def __init__(self, client: Client, find: Callable[[str, str], Credential | None]) -> None:
        self._client = client
        self._find = find
        self._lock = threading.Lock()
        self._offers: dict[Origin, list[Challenge]] = {}
        self._logins: dict[tuple[str, str], Credential | None] = {}
        self._grants: dict[tuple[object, ...], tuple[Grant, float]] = {}

    def header(
        self, registry: Origin, host: str, repository: str, scopes: Sequence[str], *, verify: bool = True
    ) -> str | None:
        """Return the Authorization header for a request with these scopes; None before any challenge.

        `host` is the name that logins are kept under (docker.io for registry-1.docker.io).
        """
        with self._lock:
            offers = self._offers.get(registry)
            return self._grant(offers, registry, host, repository, scopes, verify=verify) if offers else None

    def answer(
        self,
        refused: Response,
        registry: Origin,
        host: str,
        repository: str,
        scopes: Sequence[str],
        *,
        verify: bool = True,
    ) -> str:
        """Return a header to repeat a request with that was refused with 401; raises as `flow.authorize` does."""
        offers = challenges.parse(refused.all("WWW-Authenticate"))
        refused.close()
        with self._lock:
            self._offers[registry] = offers
            # A token that was refused is worth nothing, however long it was to live.
            for key in [key for key in self._grants if key[0] == registry]:
                del self._grants[key]
            return self._grant(offers, registry, host, repository, scopes, verify=verify)

    def user(self, host: str, repository: str) -> str:
        """Return the user name that requests for a repository go under; "" when without a login."""
        credential = self._logins.get((host, repository))
        return credential.username if credential else ""

    def _grant(
        self,
        offers: list[Challenge],
        registry: Origin,
        host: str,
        repository: str,
        scopes: Sequence[str],
        *,
        verify: bool,
    ) -> str:
        asked = [one.parameters["scope"] for one in offers if one.scheme == "bearer" and one.parameters.get("scope")]
        wanted = merge_scopes(*scopes, *(scope for text in asked for scope in text.split() if _for(scope, repository)))
        realms = tuple((one.parameters.get("realm"), one.parameters.get("service")) for one in offers)
        key = (registry, realms, wanted, host, repository)
        kept, until = self._grants.get(key, (None, 0.0))
        if kept is not None and time.monotonic() < until:
            return kept.authorization
        if (host, repository) not in self._logins:
            self._logins[host, repository] = self._find(host, repository)
        login = self._logins[host, repository]
        subject = f"`{repository}`" if repository else "its API"
        dance = authorize(offers, registry=registry, subject=subject, credential=login, scopes=wanted)
        grant = self._drive(dance, registry, verify=verify)
        life = float("inf") if grant.expires_in is None else grant.expires_in * _EARLY
        self._grants[key] = (grant, time.monotonic() + life)
        return grant.authorization

    def _drive(self, dance: Generator[TokenRequest, TokenAnswer, Grant], registry: Origin, *, verify: bool) -> Grant:
        try:
            request = next(dance)
            while True:
                request = dance.send(self._ask(request, registry, verify=verify))
        except StopIteration as end:
            grant: Grant = end.value
            return grant

    def _ask(self, request: TokenRequest, registry: Origin, *, verify: bool) -> TokenAnswer:
        headers = {"Accept": "application/json"}
        if request.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        own = request.url.startswith(f"{registry}/")
        with self._client.request(
            request.method,
            request.url,
            headers=headers,
            authorization=request.authorization,
            body=request.form,
            again=True,
            verify=verify or not own,
        ) as response:
            return TokenAnswer(response.status, response.read(_MAX_TOKEN))


def _for(scope: str, repository: str) -> bool:
    """Say whether a scope that a registry asks for concerns this repository; no wider token is fetched."""
    return scope.startswith("repository:") and scope.split(":")[1:2] == [repository]
