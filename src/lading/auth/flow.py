"""The dance that answers a challenge, without I/O (distribution's token specification; RFC 7617).

`authorize` is a generator: it yields the requests to send to a token server, is sent the
answers, and returns what to put into the Authorization header. The rule of realms: a secret goes
only to the registry's own host, to a host under the same registrable domain over https, or, on
this machine, to another port of it. Without a secret any public https realm may be asked. Secrets
and the tokens made from them never travel over plain http beyond loopback.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from lading.errors import AccessDeniedError, FormatError, NetworkError, PolicyError, UsageError
from lading.http.origin import Origin, is_internal

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from lading.auth.challenge import Challenge
    from lading.auth.credentials import Credential

DEFAULT_EXPIRY = 60.0
"""Seconds that a token lives when its server does not say (token specification, "expires_in")."""

_OK = 200
_NO_POST = (404, 405)
_DENIED = (400, 401, 403)
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,65536}", re.ASCII)
# Second-level names under which strangers register: there a domain has three labels.
_SHARED = frozenset({"co", "com", "net", "org", "gov", "edu", "ac", "or", "ne", "go"})
_HOSTING = frozenset(
    {"amazonaws.com", "azurecr.io", "azure.com", "github.io", "gitlab.io", "googleusercontent.com", "run.app", "nip.io"}
)
_COUNTRY = 2


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to a token server; `form` is the body of a POST."""

    method: Literal["GET", "POST"]
    url: str
    authorization: str | None = field(default=None, repr=False)
    form: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What the token server answered."""

    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """A value for the Authorization header, and for how many seconds (None: without end)."""

    authorization: str = field(repr=False)
    expires_in: float | None = None


def authorize(
    challenges: Sequence[Challenge],
    *,
    registry: Origin,
    subject: str,
    credential: Credential | None,
    scopes: Sequence[str],
) -> Generator[TokenRequest, TokenAnswer, Grant]:
    """Answer a registry's challenges. `subject` is what messages call the thing asked for.

    Raises AccessDeniedError without a way in, PolicyError where a secret would go astray,
    FormatError and NetworkError for a token server that fails.
    """
    if credential is not None and not registry.keeps_secrets:
        msg = f"the credentials for {registry.host} are not sent over plain http"
        raise PolicyError(msg, hint="give the registry TLS, or log out of it")
    bearer = next((one for one in challenges if one.scheme == "bearer" and one.parameters.get("realm")), None)
    basic = any(one.scheme == "basic" for one in challenges)
    if credential is not None and credential.kind == "bearer":
        return Grant(f"Bearer {credential.secret}")
    if bearer is not None:
        return (yield from _fetch_token(bearer, registry, subject, credential, scopes))
    if basic and credential is not None:
        return Grant(_basic(credential))
    offered = ", ".join(sorted({one.scheme[:20] for one in challenges})) or "none"
    how = "401" if basic else f"401, offers: {offered}"
    raise _login_wanted(registry, subject, how)


def merge_scopes(*scopes: str) -> tuple[str, ...]:
    """Join scopes by resource: `repository:a:pull` and `repository:a:push` become one with both actions."""
    actions: dict[str, dict[str, None]] = {}
    for scope in scopes:
        resource, _colon, names = scope.rpartition(":")
        actions.setdefault(resource or scope, {}).update(dict.fromkeys(names.split(",") if resource else ()))
    return tuple(f"{resource}:{','.join(names)}" if names else resource for resource, names in actions.items())


def check_realm(realm: str, registry: Origin, *, secret: bool) -> Origin:
    """Return the realm's origin; raises PolicyError where the rule of realms forbids to go there."""
    try:
        there = Origin.of(realm)
    except UsageError as error:
        msg = f"{registry.authority} names the login server {realm[:200]!r}"
        raise PolicyError(msg, hint="only http and https addresses are asked for a token") from error
    local = registry.is_loopback and there.is_loopback
    same = there.host == registry.host
    if not local and (there.scheme == "http" and (secret or registry.scheme == "https")):
        msg = f"{registry.authority} wants the login sent to {there} over plain http"
        raise PolicyError(msg, hint="nothing was sent; plain http is used on this machine only")
    if not local and not same and is_internal(there.host):
        msg = f"{registry.authority} names a login server at the internal address {there.authority}"
        raise PolicyError(msg, hint="nothing was sent")
    if secret and not (local or same or _related(registry.host, there.host)):
        msg = f"{registry.authority} wants the login sent to another host, {there.authority}"
        raise PolicyError(msg, hint="nothing was sent; a login goes to its own registry's domain only")
    return there


def _related(registry: str, realm: str) -> bool:
    domain = _registrable(registry)
    return domain is not None and domain == _registrable(realm)


def _registrable(host: str) -> str | None:
    labels = host.lower().rstrip(".").split(".")
    if len(labels) < 2 or labels[-1].isdecimal() or ":" in host:  # noqa: PLR2004 - a bare name or an address has no domain
        return None
    shared = len(labels[-1]) == _COUNTRY and labels[-2] in _SHARED
    if ".".join(labels[-2:]) in _HOSTING:
        return None
    return ".".join(labels[-3:] if shared else labels[-2:])


def _fetch_token(
    challenge: Challenge, registry: Origin, subject: str, credential: Credential | None, scopes: Sequence[str]
) -> Generator[TokenRequest, TokenAnswer, Grant]:
    realm = challenge.parameters["realm"]
    there = check_realm(realm, registry, secret=credential is not None)
    service = challenge.parameters.get("service", "")
    if credential is not None and credential.kind == "identity":
        form = {"grant_type": "refresh_token", "service": service, "client_id": "lading", "scope": " ".join(scopes)}
        answer = yield TokenRequest(
            "POST", realm, form=urlencode({**form, "refresh_token": credential.secret}).encode()
        )
        if answer.status not in _NO_POST:
            return _grant(answer, there, registry, subject, credential)
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    joint = "&" if "?" in realm else "?"
    url = f"{realm}{joint}{urlencode(query, safe=':,/')}" if query else realm
    answer = yield TokenRequest("GET", url, authorization=_basic(credential) if credential else None)
    return _grant(answer, there, registry, subject, credential)


def _grant(answer: TokenAnswer, realm: Origin, registry: Origin, subject: str, credential: Credential | None) -> Grant:
    if answer.status in _DENIED:
        if credential is None:
            raise _login_wanted(registry, subject, f"{answer.status}, realm {realm.authority}")
        msg = (
            f"{realm.authority} refuses the login of `{credential.username}` for {registry.authority} ({answer.status})"
        )
        raise AccessDeniedError(msg, hint=f"lading login {registry.authority} with the right password or token")
    if answer.status != _OK:
        msg = f"{realm.authority} gave no token for {registry.authority} ({answer.status})"
        raise NetworkError(msg, hint="try again later")
    try:
        tree: Any = json.loads(answer.body)
        token = tree.get("token") or tree.get("access_token")
        expiry = tree.get("expires_in")
    except (ValueError, AttributeError, RecursionError) as error:
        msg = f"{realm.authority} sent something else than a token for {registry.authority}"
        raise FormatError(msg, hint="a login portal or a proxy may stand in between") from error
    if not isinstance(token, str) or _HEADER_SAFE.fullmatch(token) is None:
        msg = f"{realm.authority} sent no usable token for {registry.authority}"
        raise FormatError(msg)
    known = isinstance(expiry, int | float) and not isinstance(expiry, bool) and expiry > 0
    return Grant(f"Bearer {token}", float(expiry) if known else DEFAULT_EXPIRY)


def _basic(credential: Credential) -> str:
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.secret}".encode()).decode()


def _login_wanted(registry: Origin, subject: str, how: str) -> AccessDeniedError:
    host = "docker.io" if registry.host.endswith(".docker.io") else registry.authority
    return AccessDeniedError(
        f"{host} wants a login for {subject} ({how})",
        hint=f"lading login {host}, or docker login: the same credentials are read",
    )
