from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection  # noqa: TID251 - waits for a server to come up
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lading.auth import Authorizer, Credential
from lading.digest import VerifyingReader
from lading.errors import NetworkError
from lading.manifest import Descriptor
from lading.reference import Oci
from lading.transport.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lading.content import ByteReader, RangeReader
    from lading.http import Client
    from lading.manifest import Document

_spec = importlib.util.spec_from_file_location("hostile_server", Path(__file__).parents[1] / "http/conftest.py")
assert _spec is not None
assert _spec.loader is not None
_hostile = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _hostile
_spec.loader.exec_module(_hostile)
hostile, canary, reply, naps, client = (
    getattr(_hostile, name) for name in ("hostile", "canary", "reply", "naps", "client")
)

USER, PASSWORD = "sam", "correct horse: battery"


@dataclass(frozen=True)
class RegistryProcess:
    """A real registry (Debian's docker-registry) on a loopback port of its own."""

    host: str
    folder: Path
    ca_file: Path | None
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class TokenIssuer:
    """Signs tokens as a registry with `auth: token` wants them: ES256 with the certificate in `x5c`."""

    service = "lading-tests"

    def __init__(self, realm: str, folder: Path) -> None:
        import trustme  # noqa: PLC0415 - only for registries with certificates
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - comes with trustme

        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        certificate = authority.issue_cert("issuer")
        self.realm = realm
        self.bundle = folder / "issuer.crt"
        authority.cert_pem.write_to_path(str(self.bundle))
        self._key: Any = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
        self._chain = "".join(certificate.cert_chain_pems[0].bytes().decode().strip().splitlines()[1:-1])

    def issue(self, scopes: Sequence[str], *, actions: frozenset[str], life: int = 300) -> str:
        """Return a token for the part of `scopes` that `actions` permits."""
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - comes with trustme
        from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415 - comes with trustme

        access = []
        for scope in scopes:
            kind, name, asked = scope.split(":")
            access.append({"type": kind, "name": name, "actions": sorted(set(asked.split(",")) & actions)})
        now = int(time.time())
        times = {"exp": now + life, "nbf": now - 10, "iat": now}
        claims = {"iss": "tests", "sub": "", "aud": self.service, "jti": "1", "access": access, **times}
        signed = ".".join(_jose(part) for part in ({"typ": "JWT", "alg": "ES256", "x5c": [self._chain]}, claims))
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _jose(part: object) -> str:
    return _base64url(json.dumps(part).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def start_registry(
    folder: Path,
    *,
    htpasswd: bool = False,
    tls: bool = False,
    token: TokenIssuer | None = None,
    address: str = "127.0.0.1",
) -> RegistryProcess:
    """Start a registry that keeps its data in `folder`; with a login (USER, PASSWORD), TLS or tokens where asked."""
    program = shutil.which("docker-registry")
    assert program is not None, "docker-registry is missing: apt-get install docker-registry"
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = [
        "version: 0.1",
        "log: {level: info}",
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: true}}}}",
        "http:",
        f"  addr: {address}:{port}",
    ]
    ca_file = None
    if tls:
        import trustme  # noqa: PLC0415 - only for registries with TLS

        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        ca_file = folder / "ca.crt"
        authority.cert_pem.write_to_path(str(ca_file))
        certificate.private_key_pem.write_to_path(str(folder / "server.key"))
        (folder / "server.crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        lines.append(f"  tls: {{certificate: {folder / 'server.crt'}, key: {folder / 'server.key'}}}")
    if htpasswd:
        tool = shutil.which("htpasswd")
        assert tool is not None, "htpasswd is missing: apt-get install apache2-utils"
        # Cost 4: a login is checked at every request.
        made = subprocess.run([tool, "-niBC", "4", USER], input=PASSWORD.encode(), capture_output=True, check=True)
        (folder / "htpasswd").write_bytes(made.stdout)
        lines.append(f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}")
    if token is not None:
        lines.append(
            f"auth: {{token: {{realm: '{token.realm}', service: {token.service}, issuer: tests,"
            f" rootcertbundle: {token.bundle}}}}}"
        )
    (folder / "config.yml").write_text("\n".join(lines) + "\n")
    with (folder / "log").open("wb") as log:
        environ = {"PATH": os.defpath, "HOME": str(folder), "OTEL_TRACES_EXPORTER": "none"}
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd=folder,
        )
    registry = RegistryProcess(f"localhost:{port}", folder, ca_file, process)
    deadline = time.monotonic() + 20
    while not _is_up(port, ca_file):
        if process.poll() is not None or time.monotonic() > deadline:
            registry.stop()
            pytest.fail(f"docker-registry did not start:\n{registry.log[-2000:]}")
        time.sleep(0.05)
    return registry


def _is_up(port: int, ca_file: Path | None) -> bool:
    if ca_file:
        context = ssl.create_default_context(cafile=str(ca_file))
        connection: HTTPConnection = HTTPSConnection("localhost", port, context=context, timeout=5)
    else:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@pytest.fixture(scope="session")
def plain_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    registry = start_registry(tmp_path_factory.mktemp("plain"))
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def login_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    registry = start_registry(tmp_path_factory.mktemp("login"), htpasswd=True)
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def tls_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    registry = start_registry(tmp_path_factory.mktemp("tls"), htpasswd=True, tls=True)
    yield registry
    registry.stop()


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
    """A registry behind a token server: anybody may pull, USER with PASSWORD may push."""

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
        actions = frozenset({"pull", "push"} if login else {"pull"})
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
