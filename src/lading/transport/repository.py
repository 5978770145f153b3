"""One repository of a registry, asked over HTTP: with the credentials it wants, and in words for what it refuses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from lading.errors import AccessDeniedError, LadingError, NetworkError, PolicyError
from lading.http import Origin, is_loopback
from lading.reference import DOCKER_HUB
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.auth import Authorizer
    from lading.http import Client, Payload, Response
    from lading.reference import Oci

PULL, PUSH, DELETE = "pull", "pull,push", "pull,push,delete"
"""What a request is to have the right to do (distribution's token scopes)."""

_HUB_ADDRESS = "registry-1.docker.io"
_OK = 200
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_WARNING = re.compile(r'299 - "([^"]*)"')
_LONGEST_WARNING = 500


class Repository:
    """One repository of a registry.

    `insecure` permits plain http and unverified certificates; a loopback host is always tried with https, then http.
    `tries` is how often to ask before giving up, None as often as the client does.
    """

    def __init__(
        self,
        reference: Oci,
        client: Client,
        authorizer: Authorizer,
        *,
        insecure: bool = False,
        tries: int | None = None,
    ) -> None:
        self.host = reference.host
        self.repository = reference.repository
        self._address = _HUB_ADDRESS if reference.host == DOCKER_HUB else reference.host
        self._client = client
        self._authorizer = authorizer
        self._verify = not insecure
        self._tries = tries
        self._warned: set[str] = set()
        self._known_origin: Origin | None = None

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Payload | None = None,
        again: bool = False,
        actions: str = PULL,
        also: tuple[str, ...] = (),
    ) -> Response:
        """Send a request with the right to do `actions`, and `also` further scopes; `again` says that it may be repeated.

        Raises PolicyError for a URL beyond the registry.
        """
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

    def pause(self, failed: int, why: str, asked: float | None = None) -> None:
        """Wait after the `failed`-th failure in a row, or the seconds that the registry `asked` for."""
        self._client.pause(failed, why, asked)

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

    def expect_data(self, response: Response, subject: str = "") -> None:
        """Raise what an answer means for `subject` unless it is a success, and no web page."""
        if response.status != _OK:
            raise self.refused(response, subject)
        if response.is_page:
            raise response.page()

    def check_login(self) -> bool:
        """Say whether the registry asks for logins at all; raises AccessDeniedError if it refuses ours."""
        subject, url = "its API (/v2/)", f"{self._origin}/v2/"
        with self._client.request("GET", url, verify=self._verify) as response:
            if response.status == _NOT_FOUND:
                msg = f"{self.host} does not answer as a registry does (404 at /v2/)"
                raise NetworkError(msg, hint="check its name and port")
            if not self._wants_login(response):
                self.expect_data(response, subject)
                return False
            header = self._authorizer.answer(response, self._origin, self.host, "", (), verify=self._verify)
        with self._client.request("GET", url, authorization=header, verify=self._verify) as response:
            if response.status in (_UNAUTHORIZED, _FORBIDDEN):
                user = self._authorizer.user(self.host, "")
                msg = f"{self.host} refuses the login" + (f" of `{user}`" if user else "") + f" ({response.status})"
                raise AccessDeniedError(msg, hint="check the user name and the password or token")
            self.expect_data(response, subject)
        return True

    @property
    def _origin(self) -> Origin:
        if self._known_origin is None:
            plain = is_loopback(self._address) or not self._verify
            scheme = self._client.scheme(self._address, verify=self._verify) if plain else "https"
            self._known_origin = Origin.of(f"{scheme}://{self._address}")
        return self._known_origin

    def _wants_login(self, response: Response) -> bool:
        # A challenge from where a redirect led is not answered: it is not the registry's.
        return response.status == _UNAUTHORIZED and Origin.of(response.url) == self._origin

    def _pass_on(self, warnings: list[str]) -> None:
        # distribution-spec, "Warnings": code 299, no agent, and a text that people are to see; here once.
        for match in filter(None, map(_WARNING.match, warnings)):
            said = clean(match[1][:_LONGEST_WARNING])
            if said not in self._warned:
                self._warned.add(said)
                self._client.warn(f"{self.host} says: {said}")
