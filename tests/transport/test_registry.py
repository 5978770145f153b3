"""Against Debian's docker-registry, and skopeo."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from lading.config import Network
from lading.digest import Digest
from lading.errors import AccessDeniedError, IntegrityError, LadingError, NetworkError, NotFoundError, PolicyError
from lading.http import Client, Patience
from lading.manifest import Descriptor, Manifest
from lading.store import stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lading.auth import Credential
    from lading.transport.registry import Registry

pytestmark = pytest.mark.integration

WEIGHTS = bytes(index * 7 % 256 for index in range(700_000)) * 4
CONFIG = b'{"config":{"format":"gguf"}}'
EMPTY = b""


def _ignore(_done: int) -> None:
    pass


def _name() -> str:
    return f"team/{uuid.uuid4().hex[:12]}"


def _manifest(*layers: bytes, config: bytes = CONFIG) -> Manifest:
    return Manifest.build(
        Descriptor.of(config, "application/vnd.docker.ai.model.config.v0.1+json"),
        tuple(Descriptor.of(layer, "application/vnd.docker.ai.gguf.v3") for layer in layers),
        annotations={"org.opencontainers.image.title": "story"},
    )


def _push(registry: Registry, memory: Any, manifest: Manifest, blobs: tuple[bytes, ...], tag: str | None) -> None:
    source = memory(*blobs)
    for blob in manifest.blobs:
        registry.put_blob(blob, source, _ignore)
    registry.put_document(manifest, tag)


def _read(registry: Registry, blob: Descriptor, offset: int = 0) -> bytes:
    reader = registry.open(blob, offset)
    try:
        return b"".join(iter(lambda: reader.read(65536) or b"", b""))
    finally:
        reader.close()


@pytest.fixture(params=["plain", "login", "tls"])
def repository(request: pytest.FixtureRequest, connect: Any, login: Credential) -> Iterator[Registry]:
    """A fresh repository of each kind of registry, with the login it wants."""
    process = request.getfixturevalue(f"{request.param}_registry")
    trusting = Client(Network(ca_bundle=process.ca_file), patience=Patience(tries=3), sleep=lambda _seconds: None)
    yield connect(process.host, _name(), login=None if request.param == "plain" else login, through=trusting)
    trusting.close()


def test_what_was_pushed_comes_back_byte_for_byte(repository: Registry, memory: Any) -> None:
    manifest = _manifest(WEIGHTS, b"licence", EMPTY)
    blobs = (CONFIG, WEIGHTS, b"licence", EMPTY)
    assert not any(repository.has(blob) for blob in manifest.blobs)
    _push(repository, memory, manifest, blobs, "1")
    assert all(repository.has(blob) for blob in manifest.blobs)
    assert repository.tags() == ["1"]
    assert repository.resolve("1") == manifest.digest
    for name in ("1", manifest.digest):
        assert repository.document(name) == manifest
    for blob, data in zip(manifest.blobs, blobs, strict=True):
        assert _read(repository, blob) == data
    assert _read(repository, manifest.layers[0], 1_000_000) == WEIGHTS[1_000_000:]
    assert _read(repository, manifest.layers[0], len(WEIGHTS)) == b""


def test_a_part_is_read_without_the_whole(repository: Registry, memory: Any) -> None:
    manifest = _manifest(WEIGHTS)
    _push(repository, memory, manifest, (CONFIG, WEIGHTS), None)
    file = repository.ranges(manifest.layers[0])
    assert file.size == len(WEIGHTS)
    assert file.read_at(100_000, 50) == WEIGHTS[100_000:100_050]
    assert file.read_at(len(WEIGHTS) - 5, 50) == WEIGHTS[-5:]
    assert (file.requests, file.bytes_read) == (2, 55)  # type: ignore[attr-defined] # RemoteFile counts


def test_a_blob_that_is_there_is_not_sent_again(repository: Registry, memory: Any) -> None:
    blob = Descriptor.of(WEIGHTS, "x/y")
    told: list[int] = []
    source = memory(WEIGHTS)
    assert repository.put_blob(blob, source, told.append) == ""
    assert told[-1] == len(WEIGHTS)
    assert told == sorted(told)
    assert repository.put_blob(blob, source, told.append) == "present"
    assert source.opened == [0]


def test_a_blob_of_another_repository_is_mounted(
    plain_registry: Any, login_registry: Any, connect: Any, memory: Any, login: Credential
) -> None:
    for process, who in ((plain_registry, None), (login_registry, login)):
        here, there = _name(), _name()
        blob = Descriptor.of(WEIGHTS, "x/y")
        connect(process.host, here, login=who).put_blob(blob, memory(WEIGHTS), _ignore)
        target = connect(process.host, there, login=who, mount_from=[_name(), here])
        assert target.put_blob(blob, memory(), _ignore) == "mounted"
        assert _read(target, blob) == WEIGHTS


def test_a_mount_that_fails_becomes_an_upload(plain_registry: Any, connect: Any, memory: Any) -> None:
    target = connect(plain_registry.host, _name(), mount_from=["team/nothing-here"])
    data = os.urandom(1000)
    assert target.put_blob(Descriptor.of(data, "x/y"), memory(data), _ignore) == ""


@pytest.mark.parametrize("chunk_size", [len(WEIGHTS) // 3, 1_000_000, len(WEIGHTS), len(WEIGHTS) * 2])
def test_a_blob_goes_in_chunks(plain_registry: Any, connect: Any, memory: Any, chunk_size: int) -> None:
    target = connect(plain_registry.host, _name(), chunk_size=chunk_size)
    blob = Descriptor.of(WEIGHTS, "x/y")
    source = memory(WEIGHTS)
    told: list[int] = []
    target.put_blob(blob, source, told.append)
    assert _read(target, blob) == WEIGHTS
    assert source.opened == [0]
    assert told == sorted(told)


@pytest.fixture
def brittle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source's break ends the request, as a break of the line to the registry does."""
    monkeypatch.setattr(stream, "ENDURANCE", stream.Endurance(tries=0))


def test_a_source_that_breaks_off_is_taken_up_while_the_registry_waits(
    plain_registry: Any, connect: Any, memory: Any, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ENDURANCE", stream.Endurance(first=0.01))
    target = connect(plain_registry.host, _name())
    source = memory(WEIGHTS)
    source.break_at = [1_600_000, 2_000_000]
    blob = Descriptor.of(WEIGHTS, "x/y")
    assert target.put_blob(blob, source, _ignore) == ""
    assert _read(target, blob) == WEIGHTS
    assert source.opened == [0, 1_600_000, 2_000_000]
    assert naps == []


@pytest.mark.usefixtures("brittle")
def test_a_broken_upload_is_resumed_where_the_registry_stands(
    plain_registry: Any, connect: Any, memory: Any, naps: list[float]
) -> None:
    target = connect(plain_registry.host, _name(), chunk_size=1_000_000)
    blob = Descriptor.of(WEIGHTS, "x/y")
    source = memory(WEIGHTS)
    source.break_at = [1_000_000]
    target.put_blob(blob, source, _ignore)
    assert _read(target, blob) == WEIGHTS
    assert source.opened == [0, 1_000_000]
    assert len(naps) == 1


@pytest.mark.usefixtures("brittle")
def test_an_upload_that_the_registry_dropped_starts_over(plain_registry: Any, connect: Any, memory: Any) -> None:
    target = connect(plain_registry.host, _name(), chunk_size=1_000_000)
    blob = Descriptor.of(WEIGHTS, "x/y")
    source = memory(WEIGHTS)
    source.break_at = [1_600_000]
    target.put_blob(blob, source, _ignore)
    assert _read(target, blob) == WEIGHTS
    # Asked at once, it may not have noticed the break yet, and drop the upload at the next chunk only.
    assert source.opened in ([0, 0], [0, 1_000_000, 0])


@pytest.mark.usefixtures("brittle")
def test_a_broken_upload_in_one_piece_starts_over(
    plain_registry: Any, connect: Any, memory: Any, naps: list[float]
) -> None:
    target = connect(plain_registry.host, _name())
    blob = Descriptor.of(WEIGHTS, "x/y")
    source = memory(WEIGHTS)
    source.break_at = [1_600_000, 100]
    target.put_blob(blob, source, _ignore)
    assert source.opened == [0, 0, 0]
    assert _read(target, blob) == WEIGHTS


@pytest.mark.usefixtures("brittle")
def test_an_upload_that_never_gets_on_is_given_up(plain_registry: Any, connect: Any, memory: Any) -> None:
    for chunk_size in (None, 1_000_000):
        target = connect(plain_registry.host, _name(), chunk_size=chunk_size)
        source = memory(WEIGHTS)
        source.break_at = [1000] * 50
        with pytest.raises(NetworkError, match="the source broke off"):
            target.put_blob(Descriptor.of(WEIGHTS, "x/y"), source, _ignore)
        assert len(source.opened) <= 9


@pytest.mark.parametrize("chunk_size", [None, 1_000_000])
def test_other_bytes_than_promised_never_become_a_blob(
    plain_registry: Any, connect: Any, memory: Any, chunk_size: int | None
) -> None:
    target = connect(plain_registry.host, _name(), chunk_size=chunk_size)
    blob = Descriptor.of(WEIGHTS, "x/y")
    source = memory()
    source.blobs[blob.digest] = WEIGHTS[:-1] + b"?"
    with pytest.raises(IntegrityError):
        target.put_blob(blob, source, _ignore)
    assert not target.has(blob)


def test_a_missing_tag_is_answered_with_those_that_are_there(repository: Registry, memory: Any) -> None:
    for tag in ("1", "2", "3", "4"):
        _push(repository, memory, _manifest(b"layer"), (CONFIG, b"layer"), tag)
    with pytest.raises(NotFoundError) as caught:
        repository.document("9")
    assert caught.value.message == (
        f"{repository.host} has no tag `9` for `{repository.repository}`; it has 1, 2, 3 and 1 more"
    )
    assert caught.value.hint == f"lading inspect {repository.host}/{repository.repository} lists them"
    digest = Digest.of(b"nothing")
    with pytest.raises(NotFoundError, match=f"has no manifest {digest} in `{repository.repository}`"):
        repository.document(digest)


def test_a_missing_repository_and_a_missing_blob_are_named(repository: Registry) -> None:
    with pytest.raises(NotFoundError, match=f"has no repository `{repository.repository}`"):
        repository.document("1")
    with pytest.raises(NotFoundError, match="has no blob sha256:"):
        repository.open(Descriptor.of(os.urandom(8), "x/y"))


def test_a_manifest_whose_blobs_are_missing_is_refused(plain_registry: Any, connect: Any) -> None:
    with pytest.raises(LadingError, match="MANIFEST_BLOB_UNKNOWN"):
        connect(plain_registry.host, _name()).put_document(_manifest(b"absent"), "1")


def test_a_registry_that_wants_a_login_says_so(login_registry: Any, connect: Any) -> None:
    stranger = connect(login_registry.host, "team/private")
    with pytest.raises(AccessDeniedError) as caught:
        stranger.document("1")
    assert caught.value.message == f"{login_registry.host} wants a login for `team/private` (401)"
    assert caught.value.hint.startswith(f"lading login {login_registry.host}")
    with pytest.raises(AccessDeniedError):
        stranger.check_login()


def test_a_wrong_password_is_denied_and_not_quoted(login_registry: Any, connect: Any, login: Credential) -> None:
    wrong = type(login)(login.username, "canary")
    for call in ("check_login", "tags"):
        with pytest.raises(AccessDeniedError) as caught:
            getattr(connect(login_registry.host, "team/x", login=wrong), call)()
        assert "canary" not in caught.value.message + caught.value.hint
        assert login.username in caught.value.message + caught.value.hint


def test_check_login_tells_open_registries_from_those_that_took_the_login(
    plain_registry: Any, login_registry: Any, connect: Any, login: Credential
) -> None:
    assert connect(plain_registry.host, "x").check_login() is False
    assert connect(login_registry.host, "x", login=login).check_login() is True


def test_an_unknown_authority_is_refused_and_named(
    tls_registry: Any, connect: Any, login: Credential, naps: list[float]
) -> None:
    with pytest.raises(NetworkError, match=f"the certificate of {tls_registry.host} is not trusted") as caught:
        connect(tls_registry.host, "team/x", login=login).tags()
    assert "certs.d" in caught.value.hint
    assert naps == []


def test_an_authority_in_certs_d_is_trusted_for_its_host_alone(
    tls_registry: Any, connect: Any, login: Credential, tmp_path: Path
) -> None:
    folder = tmp_path / tls_registry.host
    folder.mkdir()
    shutil.copy(tls_registry.ca_file, folder / "ca.crt")
    for host, trusted in ((tls_registry.host, True), (tls_registry.host.replace("localhost", "127.0.0.1"), False)):
        client = Client(Network(cert_folders=(tmp_path,)), patience=Patience(tries=1))
        registry = connect(host, _name(), login=login, through=client)
        if trusted:
            assert registry.check_login()
        else:
            with pytest.raises(NetworkError, match="not trusted"):
                registry.check_login()
        client.close()


def test_insecure_takes_any_certificate(tls_registry: Any, connect: Any, login: Credential) -> None:
    assert connect(tls_registry.host, "x", login=login, insecure=True).check_login()


def test_tokens_are_fetched_per_repository_and_renewed_when_refused(
    token_registry: Any, connect: Any, memory: Any, login: Credential
) -> None:
    name, other = _name(), _name()
    manifest = _manifest(WEIGHTS)
    registry = connect(token_registry.host, name, login=login)
    _push(registry, memory, manifest, (CONFIG, WEIGHTS), "1")
    asked = len(token_registry.tokens)
    assert asked == 1
    assert registry.document("1") == manifest
    assert token_registry.tokens[1:] == [(f"repository:{name}:pull",)]
    # Anybody may pull, nobody push without the login.
    assert connect(token_registry.host, name).document("1") == manifest
    with pytest.raises(AccessDeniedError, match=r"wants a login|refuses access"):
        connect(token_registry.host, name).put_document(manifest, "2")
    mounting = connect(token_registry.host, other, login=login, mount_from=[name])
    assert mounting.put_blob(manifest.layers[0], memory(), _ignore) == "mounted"
    assert token_registry.tokens[-1] == (f"repository:{other}:pull,push", f"repository:{name}:pull")


def test_a_token_that_ran_out_is_renewed_in_the_middle(
    token_registry: Any, connect: Any, memory: Any, login: Credential
) -> None:
    token_registry.life = 1
    registry = connect(token_registry.host, _name(), login=login)
    for data in (b"one", b"two"):
        registry.put_blob(Descriptor.of(data, "x/y"), memory(data), _ignore)
        time.sleep(1.1)
    assert len(token_registry.tokens) >= 2


def test_a_wrong_password_at_the_token_server_is_denied(token_registry: Any, connect: Any, login: Credential) -> None:
    wrong = type(login)(login.username, "canary")
    with pytest.raises(AccessDeniedError, match=f"refuses the login of `{login.username}`"):
        connect(token_registry.host, _name(), login=wrong).tags()


def test_plain_http_beyond_loopback_needs_a_word_and_never_gets_a_login(
    start: Any, connect: Any, memory: Any, login: Credential
) -> None:
    process = start(htpasswd=True, address="0.0.0.0")
    outside = process.host.replace("localhost", _own_address())
    with pytest.raises(NetworkError, match="no TLS"):
        connect(outside, "x").tags()
    with pytest.raises(PolicyError, match="plain http"):
        connect(outside, "x", insecure=True, login=login).tags()


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # No packet is sent: the kernel only chooses the address that it would use.
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def test_skopeo_copies_what_was_pushed_and_we_pull_what_skopeo_pushed(
    plain_registry: Any, connect: Any, memory: Any, tmp_path: Path
) -> None:
    skopeo = shutil.which("skopeo")
    assert skopeo is not None, "skopeo is missing: apt-get install skopeo"
    manifest = _manifest(WEIGHTS, b"licence")
    ours = connect(plain_registry.host, _name())
    _push(ours, memory, manifest, (CONFIG, WEIGHTS, b"licence"), "1")
    theirs = connect(plain_registry.host, _name())
    source = f"docker://{ours.host}/{ours.repository}:1"
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    for start, end in (
        (source, f"dir:{tmp_path / 'copy'}"),
        (f"dir:{tmp_path / 'copy'}", f"docker://{theirs.host}/{theirs.repository}:2"),
    ):
        command = [skopeo, "--policy", str(policy), "copy", "--preserve-digests", "--src-tls-verify=false"]
        command += ["--dest-tls-verify=false", start, end]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy/manifest.json").read_bytes() == manifest.raw
    assert theirs.document("2") == manifest
    assert _read(theirs, manifest.layers[0]) == WEIGHTS


SIZE = 256 * 1024 * 1024
PUSH_AND_PULL = """
import sys
from lading.auth import Authorizer
from lading.digest import Digest, VerifyingReader
from lading.http import Client
from lading.manifest import Descriptor
from lading.reference import Oci
from lading.transport.registry import Registry
host, path, digest, size = sys.argv[1:]
blob = Descriptor(media_type="x/y", digest=Digest(digest), size=int(size))
class Disk:
    def open(self, blob, offset=0):
        return VerifyingReader(open(path, "rb", buffering=0), "file", size=blob.size, digest=blob.digest)
client = Client()
registry = Registry(Oci(host, "team/large"), client, Authorizer(client, lambda *_: None))
registry.put_blob(blob, Disk(), lambda _done: None)
buffer = bytearray(1 << 20)
reader = registry.open(blob)
while reader.readinto(buffer):
    pass
reader.close()
# Not ru_maxrss, which begins with what the parent had.
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""


def test_memory_stays_small_however_large_the_blob(plain_registry: Any, tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as stream:
        stream.truncate(SIZE)
    with file.open("rb") as stream:
        digest = Digest.result("sha256", hashlib.file_digest(stream, "sha256"))
    command = [sys.executable, "-c", PUSH_AND_PULL, plain_registry.host, str(file), digest, str(SIZE)]
    environ = {"PYTHONPATH": ":".join(sys.path), "PATH": os.defpath}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert int(done.stdout) < 64 * 1024


def test_many_threads_push_and_pull_at_once(repository: Registry, memory: Any) -> None:
    layers = [os.urandom(200_000) for _ in range(8)]
    source = memory(*layers)
    failures: list[BaseException] = []

    def work(data: bytes) -> None:
        blob = Descriptor.of(data, "x/y")
        try:
            repository.put_blob(blob, source, _ignore)
            assert _read(repository, blob) == data
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(data,)) for data in layers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
