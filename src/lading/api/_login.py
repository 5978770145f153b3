"""Login and logout: credentials checked against the registry and kept where docker and podman look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading import reference as refs
from lading.errors import UsageError

if TYPE_CHECKING:
    from lading.api.session import Session


def login(session: Session, host: str, username: str, secret: str) -> tuple[str, bool]:
    """Check a login against a registry and keep it; return where it is kept and whether the registry asks for logins.

    Nothing is kept when the registry refuses it (AccessDeniedError) or cannot be asked.
    """
    from lading.auth import Authorizer, Credential, Keychain  # noqa: PLC0415 - HTTP is loaded only by those who speak it
    from lading.transport.registry import Registry  # noqa: PLC0415 - as above

    credential = Credential.of(username, secret)
    reference = _anything_at(host)
    insecure = session.insecure or session.config.registries().find(reference).insecure
    authorizer = Authorizer(session.client, lambda _host, _repository: credential)
    asked = Registry(reference, session.client, authorizer, insecure=insecure).check_login()
    return Keychain(session.config.auth_files).save(reference.host, credential), asked


def logout(session: Session, host: str) -> list[str]:
    """Forget a registry's credentials and return where there were some."""
    from lading.auth import Keychain  # noqa: PLC0415 - as above

    return Keychain(session.config.auth_files).erase(_anything_at(host).host)


def _anything_at(host: str) -> refs.Oci:
    bare = host.removeprefix("https://").removeprefix("http://").rstrip("/")
    try:
        reference = refs.parse(f"oci://{bare}/login")
    except UsageError:
        reference = None
    if not isinstance(reference, refs.Oci) or reference.repository not in ("login", "library/login"):
        msg = f"{host!r} is no registry"
        raise UsageError(msg, hint="a registry is a host with an optional port, like localhost:5000")
    return reference
