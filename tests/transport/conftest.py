from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from real_registry import PASSWORD, USER, RegistryProcess, TokenIssuer, start_registry

from lading.auth import Authorizer, Credential
from lading.digest import VerifyingReader
from lading.errors import NetworkError
from lading.manifest import Descriptor
from lading.reference import Oci
from lading.transport.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lading.content import ByteReader, RangeReader
    from lading.http import Client
    from lading.manifest import Document


class Memory:
    """A Source of blobs in memory that remembers where it was read from, and fails where told."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {Descriptor.of(data, "x/y").digest: data for data in blobs}
        self.opened: list[int] = []
        self.break_at: list[int] = []

    def document(self, name: str, /) -> Document:
        raise NotImplementedError(name)

    def open(self, blob: Descriptor, /, offset: int = 0) -> ByteReader:
        self.opened.append(offset)
        data = self.blobs[blob.digest]
        stop = self.break_at.pop(0) if self.break_at else None
        reader = Breaking(data[offset:], None if stop is None else stop - offset)
        return reader if offset else VerifyingReader(reader, "blob", size=blob.size, digest=blob.digest)

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        raise NotImplementedError(blob.digest)


class Breaking(io.BytesIO):
    """Bytes whose source breaks off after `left` of them."""

    def __init__(self, data: bytes, left: int | None) -> None:
        super().__init__(data)
        self._left = left

    def readinto(self, buffer: Any, /) -> int:
        if self._left is None:
            return super().readinto(buffer)
        if not self._left:
            msg = "the source broke off"
            raise NetworkError(msg)
        count = super().readinto(memoryview(buffer).cast("B")[: self._left])
        self._left -= count
        return count


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RegistryProcess]]:
    """Start a registry for one test alone."""
    running: list[RegistryProcess] = []

    def make(**options: Any) -> RegistryProcess:
        running.append(start_registry(tmp_path / f"registry{len(running)}", **options))
        return running[-1]

    yield make
    for registry in running:
        registry.stop()


class TokenRegistry:
    """A registry behind a token server: anybody may pull, USER with PASSWORD may push and delete."""

    def __init__(self, server: Any, reply: Any, folder: Path) -> None:
        self.tokens: list[tuple[str, ...]] = []
        self.life = 300
        self._reply = reply
        self._issuer = TokenIssuer(f"{server.url}/token", folder)
        server.on("GET", "/token", self._answer)
        self.process = start_registry(folder / "registry", token=self._issuer)
        self.host = self.process.host

    def _answer(self, asked: Any) -> Any:
        query = parse_qs(urlsplit(asked.target).query)
        login = asked.headers.get("Authorization")
        right = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if query["service"] != [self._issuer.service] or login not in (None, f"Basic {right}"):
            return self._reply(401)
        scopes = tuple(query.get("scope", ()))
        self.tokens.append(scopes)
        actions = frozenset({"pull", "push", "delete"} if login else {"pull"})
        token = self._issuer.issue(scopes, actions=actions, life=self.life)
        return self._reply(body=json.dumps({"token": token, "expires_in": self.life}).encode())


@pytest.fixture
def token_registry(hostile: Any, reply: Any, tmp_path: Path) -> Iterator[TokenRegistry]:
    registry = TokenRegistry(hostile, reply, tmp_path / "token")
    yield registry
    registry.process.stop()


@pytest.fixture
def memory() -> type[Memory]:
    return Memory


@pytest.fixture
def login() -> Credential:
    """The login of the registries that want one."""
    return Credential(USER, PASSWORD)


@pytest.fixture
def connect(client: Client) -> Callable[..., Registry]:
    """Return a repository of a registry, as a user with or without a login sees it."""

    def make(
        host: str, repository: str, *, login: Credential | None = None, through: Client | None = None, **options: Any
    ) -> Registry:
        authorizer = Authorizer(through or client, lambda _host, _repository: login)
        return Registry(Oci(host, repository), through or client, authorizer, **options)

    return make
