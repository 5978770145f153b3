"""Debian's docker-registry, started for tests on a loopback port of its own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
    deletes: bool = True,
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
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: {str(deletes).lower()}}}}}",
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
