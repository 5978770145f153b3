"""Documents from strangers: what lies about itself is refused before anything that it names is asked for (S04 to S06)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from checker import check_store
from small_artifact import CONFIG, INDEX, MANIFEST, WEIGHTS, described, manifest

from lading import api
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError, LadingError, NoSpaceError

if TYPE_CHECKING:
    from conftest import CommandLine

    from .conftest import Registry

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
TYPES = (MANIFEST, INDEX, DOCKER, DOCKER_LIST, "application/json", "text/plain")
ENTRY = {"mediaType": MANIFEST, "digest": f"sha256:{'1' * 64}", "size": 500}


def asked_for_blobs(registry: Registry) -> bool:
    return any("/blobs/" in asked.path for asked in registry.server.asked)


def refused(session: api.Session, reference: str, kind: type[LadingError]) -> str:
    """Require that a pull is refused with nothing left in the store, and return what is said."""
    with pytest.raises(kind) as caught:
        api.pull(session, reference)
    assert check_store(session.config.store, swept=True) == {}
    return caught.value.message


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_digest_header_of_other_bytes_is_refused(session: api.Session, registry: Registry, algorithm: str) -> None:
    """S04: both are named: what was said, and what the bytes hash to. A digest that was asked for wins over both."""
    tree = manifest()
    own, lie = Digest.of(json.dumps(tree).encode(), algorithm), str(Digest.of(b"other", algorithm))
    told = refused(session, registry.serve(tree, **{"Docker-Content-Digest": lie}), IntegrityError)
    assert lie in told
    assert own in told
    assert not asked_for_blobs(registry)
    headers = {"Content-Type": MANIFEST, "Docker-Content-Digest": lie}
    answer = registry.reply(200, json.dumps(tree).encode(), headers)
    registry.server.on("GET", f"/v2/team/small/manifests/{lie}", answer)
    assert lie in refused(session, f"{registry.server.host}/team/small@{lie}", IntegrityError)
    assert not asked_for_blobs(registry)


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("said", [MANIFEST, INDEX, None])
@pytest.mark.parametrize("more", ["manifests", "Manifests"])
def test_a_document_with_two_readings_has_none(
    session: api.Session, registry: Registry, more: str, said: str | None, content_type: str
) -> None:
    """S05: a manifest that is an index, too, under whatever type it says it is or is sent as (CVE-2021-41190)."""
    tree = {**manifest(), "mediaType": said, more: [ENTRY]}
    if said is None:
        del tree["mediaType"]
    reference = registry.serve(tree, **{"Content-Type": content_type})
    refused(session, reference, FormatError)
    assert len(registry.server.asked) == 1, "nothing that it names is asked for"


@pytest.mark.parametrize("content_type", [INDEX, DOCKER, DOCKER_LIST])
def test_a_manifest_is_none_under_another_type(session: api.Session, registry: Registry, content_type: str) -> None:
    """S05: the type it says and the type it is sent as must be one."""
    assert "was sent as" in refused(session, registry.serve(manifest(), **{"Content-Type": content_type}), FormatError)
    assert not asked_for_blobs(registry)


@pytest.mark.parametrize("place", ["config", "layers"])
@pytest.mark.parametrize("size", [-1, -(2**63), 2**63, 2**80, 0.5, "7", None, True])
def test_a_size_that_no_file_has_is_refused(session: api.Session, registry: Registry, place: str, size: object) -> None:
    """S06: nothing is allocated or fetched for it."""
    bad = {**described(CONFIG if place == "config" else WEIGHTS, "application/x"), "size": size}
    tree: dict[str, Any] = {place: bad if place == "config" else [bad]}
    refused(session, registry.serve(manifest(**tree)), FormatError)
    assert not asked_for_blobs(registry)


@pytest.mark.parametrize("off", [-1, 1, -len(WEIGHTS), 10_000])
def test_a_size_that_is_not_the_blobs_is_refused(session: api.Session, registry: Registry, off: int) -> None:
    """S06: less or more than was promised, also where digest and bytes are right."""
    layer = manifest()["layers"][0]
    reference = registry.serve(manifest(layers=[{**layer, "size": len(WEIGHTS) + off}]))
    with pytest.raises(IntegrityError):
        api.pull(session, reference)
    assert check_store(session.config.store) == {}
    api.prune(session)
    assert check_store(session.config.store, swept=True) == {}


def test_a_size_that_no_disk_has_is_refused_before_a_byte_is_fetched(session: api.Session, registry: Registry) -> None:
    """S06: eight exabytes are said to have no room; nothing is reserved for them, and no memory."""
    layer = manifest()["layers"][0]
    reference = registry.serve(manifest(layers=[{**layer, "size": 2**63 - 1}]))
    with pytest.raises(NoSpaceError):
        api.pull(session, reference)
    assert not any(str(Digest.of(WEIGHTS)) in asked.path for asked in registry.server.asked)
    assert check_store(session.config.store) == {}


@pytest.mark.parametrize("name", ["../evil", "/bin/evil", "evil;id", "evil\nx", "", "evil --help", "e\u0301vil"])
def test_a_credential_helper_by_a_strange_name_is_not_started(
    lading: CommandLine, registry: Registry, name: str
) -> None:
    """S15: a name is letters, digits, `-` and `_`; one that would be a path or a command line is no helper's."""
    for place in ("bin/docker-credential-", "bin/evil", "evil"):
        program = lading.folder / place / "evil" if place.endswith("-") else lading.folder / place
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\ntouch {lading.folder}/started\n")
        program.chmod(0o700)
    folder = lading.folder / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"credHelpers": {registry.server.host: name}}))
    reference = registry.serve(manifest())
    registry.server.on(
        "GET", "/v2/team/small/manifests/1", registry.reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
    )
    told = lading("pull", reference, code=9 if name else 4, more={"PATH": f"{lading.folder}/bin:/usr/bin:/bin"})
    assert told.stderr.replace("\n", "").isprintable()
    assert not (lading.folder / "started").exists()


def test_a_credential_helper_hears_the_hosts_name_and_nothing_else(lading: CommandLine, registry: Registry) -> None:
    """S15: on its standard input, in one line; its answer is used and not shown."""
    heard = lading.folder / "heard"
    program = lading.folder / "bin/docker-credential-kept"
    program.parent.mkdir()
    answer = json.dumps({"ServerURL": "x", "Username": "sam", "Secret": "canary-7"})
    program.write_text(f"#!/bin/sh\nprintf '%s|' \"$@\" > {heard}\ncat >> {heard}\necho '{answer}'\n")
    program.chmod(0o700)
    folder = lading.folder / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"credHelpers": {registry.server.host: "kept"}}))
    reference = registry.serve(manifest())
    registry.server.on(
        "GET", "/v2/team/small/manifests/1", registry.reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
    )
    told = lading("pull", reference, code=4, more={"PATH": f"{program.parent}:/usr/bin:/bin"})
    assert heard.read_text().rstrip("\n") == f"get|{registry.server.host}"
    assert "Basic c2FtOmNhbmFyeS03" in {asked.headers.get("Authorization") for asked in registry.server.asked}
    assert "canary-7" not in told.stdout + told.stderr
