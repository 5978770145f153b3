"""Ollama's registry dialect: distribution-spec without its `/v2/` ping, with Docker manifests and no list of tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading.errors import AccessDeniedError, NotFoundError
from lading.reference import Oci
from lading.transport.registry import Registry

if TYPE_CHECKING:
    from lading.auth import Authorizer
    from lading.errors import LadingError
    from lading.http import Client, Response
    from lading.reference import Ollama

_OWN_HOST = "registry.ollama.ai"


class OllamaRegistry(Registry):
    """One model of a registry of Ollama's dialect, as a Source; what it holds is kept byte for byte.

    The registry of Ollama itself knows logins as signatures by a key of its own kind, which are not made here: what
    is public is read without one. Another host's login is used as any registry's.
    """

    def __init__(self, reference: Ollama, client: Client, authorizer: Authorizer, *, insecure: bool = False) -> None:
        repository = f"{reference.namespace}/{reference.name}"
        super().__init__(Oci(reference.host, repository, reference.tag), client, authorizer, insecure=insecure)
        self._name = str(reference)

    def _wants_login(self, response: Response) -> bool:
        return self.host != _OWN_HOST and super()._wants_login(response)

    def _no_such(self, name: str, response: Response) -> LadingError:
        if response.is_page:
            return response.page()
        response.close()
        if ":" in name:
            return NotFoundError(f"{self.host} has no manifest {name} in `{self.repository}`")
        msg = f"{self.host} has no {self._name}"
        return NotFoundError(msg, hint="check name and tag; the registry does not tell what else it has")

    def refused(self, response: Response, subject: str = "") -> LadingError:
        """Return the error that an answer means; the hub's own registry cannot be logged in to."""
        error = super().refused(response, subject)
        if self.host == _OWN_HOST and isinstance(error, AccessDeniedError):
            return AccessDeniedError(error.message, hint="only public models are read from there; check its spelling")
        return error
