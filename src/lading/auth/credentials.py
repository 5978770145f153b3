"""Credentials: read from, and written to, the files and helpers that docker and podman use.

Formats: docker's `config.json`, and containers-auth.json(5). Helpers: the protocol of
docker-credential-helpers (host on stdin, JSON on stdout).
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from lading import fs
from lading.auth import helper
from lading.errors import AccessDeniedError, FormatError, LadingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

HUB_KEY = "https://index.docker.io/v1/"
"""The name that docker and its helpers know Docker Hub by."""

_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_IDENTITY_USER = "<token>"
_MAX_FILE = 1024 * 1024
_CONTROL = frozenset(map(chr, range(32))) | {"\x7f"}


@dataclass(frozen=True, slots=True)
class Credential:
    """A login. `kind` is what `secret` is: a password, an identity (refresh) token or a ready bearer token."""

    username: str
    secret: str = field(repr=False)
    kind: Literal["password", "identity", "bearer"] = "password"
    found_in: str = ""

    @classmethod
    def of(cls, username: str, secret: str, found_in: str = "") -> Self:
        """Make one of a user name and secret; the name `<token>` marks an identity token."""
        if _CONTROL & set(username + secret) or ":" in username:
            msg = f"the login in {found_in or 'hand'} has a character that no login can have"
            raise UsageError(msg, hint="control characters, and a colon in the user name, cannot be sent")
        return cls(username, secret, "identity" if username == _IDENTITY_USER else "password", found_in)


@dataclass(frozen=True, slots=True)
class Keychain:
    """The auth files in the order in which they win; none of them need exist."""

    files: tuple[Path, ...]

    def find(self, host: str, repository: str = "") -> Credential | None:
        """Return the login for a repository, or None.

        In each file a helper for the host wins over `credsStore`, that over `auths`; there the
        longest path wins. Raises FormatError for a broken file, LadingError for a broken helper.
        """
        for file in self.files:
            tree = _read(file)
            program = _helper(tree, host)
            if program is not None:
                found = helper.get(program, _server(host))
                if found is not None:
                    return Credential.of(*found, f"docker-credential-{program}")
            entry = _longest(_table(tree, "auths", file), host, repository)
            if entry is not None and (credential := _from_entry(entry, file)) is not None:
                return credential
        return None

    def save(self, host: str, credential: Credential) -> str:
        """Keep a login where docker and podman find it; return where that is.

        The first file that exists is written (its helper, if it names one), else the last in the list.
        """
        file = self._target()
        tree = _read(file)
        program = _helper(tree, host)
        if program is not None:
            helper.store(program, _server(host), credential.username, credential.secret)
            self._strip(file, tree, host)
            return f"docker-credential-{program}"
        pair = f"{credential.username}:{credential.secret}".encode()
        entry = {"auth": base64.b64encode(pair).decode()}
        if credential.kind == "identity":
            entry = {
                "auth": base64.b64encode(f"{credential.username}:".encode()).decode(),
                "identitytoken": credential.secret,
            }
        auths = {key: value for key, value in _table(tree, "auths", file).items() if _name(key) != _name(host)}
        _write(file, {**tree, "auths": {**auths, _server(host): entry}})
        return str(file)

    def erase(self, host: str) -> list[str]:
        """Forget a host's logins everywhere; return where there was one.

        A helper that fails is told of (LadingError) when all other places are done.
        """
        places: list[str] = []
        failure: LadingError | None = None
        for file in self.files:
            tree = _read(file)
            program = _helper(tree, host)
            try:
                if program is not None and helper.get(program, _server(host)) is not None:
                    helper.erase(program, _server(host))
                    places.append(f"docker-credential-{program}")
            except LadingError as error:
                failure = failure or error
            auths = _table(tree, "auths", file)
            left = {key: value for key, value in auths.items() if _name(key) != _name(host)}
            if len(left) < len(auths):
                _write(file, {**tree, "auths": left})
                places.append(str(file))
        if failure is not None:
            raise failure
        return places

    def _strip(self, file: Path, tree: dict[str, Any], host: str) -> None:
        """Leave no older secret in a file whose helper keeps the login now; an empty entry, as docker writes it, stays."""
        auths = _table(tree, "auths", file)
        left = {key: {} if _name(key) == _name(host) else value for key, value in auths.items()}
        if left != auths:
            _write(file, {**tree, "auths": left})

    def _target(self) -> Path:
        if not self.files:
            msg = "there is no file to keep a login in"
            raise UsageError(msg, hint="REGISTRY_AUTH_FILE can name one")
        return next((file for file in self.files if file.is_file()), self.files[-1])


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise AccessDeniedError(msg) from error
    tree: Any = {}
    if data.strip() or len(data) > _MAX_FILE:
        try:
            tree = json.loads(data) if len(data) <= _MAX_FILE else None
        except (ValueError, RecursionError):
            tree = None
    if not isinstance(tree, dict):
        msg = f"{file} is not an auth file: no JSON object"
        # Without the cause: it would quote what the file holds.
        raise FormatError(msg, hint="docker login and podman login write such files") from None
    return tree


def _write(file: Path, tree: dict[str, Any]) -> None:
    # The file may be a link into somebody's dotfiles: what it points at is replaced, not the link.
    target = Path(file).resolve()
    fs.make_folder(target.parent)
    fs.atomic_write(target, json.dumps(tree, indent="\t").encode() + b"\n", mode=0o600)


def _table(tree: dict[str, Any], key: str, file: Path) -> dict[str, Any]:
    table = tree.get(key) or {}
    if not isinstance(table, dict):
        msg = f"`{key}` in {file} is not a table"
        raise FormatError(msg)
    return table


def _name(key: str) -> str:
    """Return an auth key without scheme and API version; all of Docker Hub's names are `docker.io`."""
    name = key.partition("://")[2] or key
    for suffix in ("/", "/v1", "/v2"):
        name = name.removesuffix(suffix)
    host, slash, path = name.partition("/")
    return ("docker.io" if host in _HUB_NAMES else host) + slash + path


def _server(host: str) -> str:
    return HUB_KEY if host in _HUB_NAMES else host


def _helper(tree: dict[str, Any], host: str) -> str | None:
    helpers = tree.get("credHelpers")
    table = helpers if isinstance(helpers, dict) else {}
    own = next((program for key, program in table.items() if _name(key) == _name(host)), None)
    program = own or tree.get("credsStore")
    return program if isinstance(program, str) and program else None


def _prefixes(host: str, repository: str) -> Iterator[str]:
    path = f"{_name(host)}/{repository}".rstrip("/")
    while path:
        yield path
        path = path.rpartition("/")[0]


def _longest(auths: dict[str, Any], host: str, repository: str) -> Any:
    named = {_name(key): value for key, value in auths.items()}
    return next((named[prefix] for prefix in _prefixes(host, repository) if named.get(prefix)), None)


def _from_entry(entry: Any, file: Path) -> Credential | None:
    if not isinstance(entry, dict):
        msg = f"an entry of `auths` in {file} is not a table"
        raise FormatError(msg)
    username, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth"):
        try:
            username, _colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except (binascii.Error, ValueError, TypeError):
            msg = f"an entry of `auths` in {file} is not base64 of user:password"
            raise FormatError(msg, hint="log in again") from None
        password = password.rstrip("\0")
    if not all(isinstance(text, str) for text in (username, password)):
        msg = f"an entry of `auths` in {file} is malformed"
        raise FormatError(msg)
    for key, kind in (("registrytoken", "bearer"), ("identitytoken", "identity")):
        token = entry.get(key)
        if isinstance(token, str) and token:
            Credential.of(username, token, str(file))
            return Credential(
                username or _IDENTITY_USER, token, "bearer" if kind == "bearer" else "identity", str(file)
            )
    return Credential.of(username, password, str(file)) if username else None
