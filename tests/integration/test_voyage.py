"""The voyage of a model through a real registry, and what skopeo makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

CONFIG_V01 = "application/vnd.docker.ai.model.config.v0.1+json"


def skopeo(*arguments: str | Path) -> str:
    program = shutil.which("skopeo")
    assert program is not None, "skopeo is missing: apt-get install skopeo"
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def digest_of(lading: CommandLine, name: str) -> str:
    return str(json.loads(lading("inspect", name, "--json").stdout)["digest"])


@pytest.mark.parametrize("format_name", ["docker", "modelpack"])
def test_a_model_survives_the_whole_voyage_with_its_digest(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess, format_name: str
) -> None:
    reference = f"{plain_registry.host}/voyage/{format_name}:1"
    lading("pack", story, "-t", reference, "--format", format_name)
    packed = digest_of(lading, reference)
    lading("push", reference)
    lading("rm", reference)
    freed = lading("prune").stdout
    assert "3 blobs" in freed
    remote = lading("inspect", reference).stdout
    assert "not in the store" in remote
    assert "Storyteller, llama, 1.4 M parameters, F16" in remote
    lading("pull", reference)
    assert digest_of(lading, reference) == packed
    assert lading("pull", reference).stdout.startswith("up to date")
    lading("verify")
    answer = lading("run", reference, "Once upon a time", "--seed", "3", "-n", "40").stdout
    assert len(answer.split()) > 10


def test_inspect_of_a_remote_model_reads_its_header_only(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess
) -> None:
    reference = f"{plain_registry.host}/ranges/story:1"
    with story.open("r+b") as file:
        file.truncate(story.stat().st_size)
    lading("pack", story, "-t", reference)
    lading("push", reference)
    page = lading("inspect", reference, more={"LADING_STORE": str(lading.folder / "other")}).stdout
    requests, read = page.split("(")[1].split(" requests, ")
    assert int(requests) <= 4
    assert float(read.split(" kB")[0]) < 600
    assert not (lading.folder / "other").exists()


def test_skopeo_copies_what_was_pushed_and_back_with_unchanged_digests(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess, tmp_path: Path
) -> None:
    reference = f"{plain_registry.host}/skopeo/story:1"
    lading("pack", story, "-t", reference)
    packed = digest_of(lading, reference)
    lading("push", reference)
    raw = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}"))
    assert raw["config"]["mediaType"] == CONFIG_V01
    skopeo("copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{tmp_path}/layout:story")
    lading("rm", reference)
    lading("prune")
    lading("pull", f"oci-layout:{tmp_path}/layout:story", "-t", "story:back")
    assert digest_of(lading, "story:back") == packed
    again = f"{plain_registry.host}/skopeo/again:1"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/layout:story", f"docker://{again}")
    assert f"{packed[:19]}" in lading("pull", again).stdout


def test_skopeo_reads_every_tag_of_our_store_as_a_layout(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess, tmp_path: Path
) -> None:
    for name in ("story:1", "story", f"{plain_registry.host}/team/story:2"):
        lading("pack", story, "-t", name)
        manifest = skopeo("inspect", "--raw", f"oci:{lading.store}:{name}")
        assert json.loads(manifest)["layers"][0]["mediaType"] == "application/vnd.docker.ai.gguf.v3"
    target = f"{plain_registry.host}/from/store:1"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{lading.store}:story:1", f"docker://{target}")
    assert digest_of(lading, "story:1")[:19] in lading("pull", target).stdout


def test_a_second_repository_gets_its_blobs_by_mount(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess
) -> None:
    first, second = (f"{plain_registry.host}/mount/{name}:1" for name in ("one", "two"))
    lading("pack", story, "-t", first)
    lading("push", first)
    pushed = lading("push", first, second)
    assert "0 B sent" in pushed.stdout
    assert pushed.stderr.count("mounted") == 1


def test_a_registry_with_a_login_is_named_then_used(
    lading: CommandLine, story: Path, login_registry: RegistryProcess
) -> None:
    reference = f"{login_registry.host}/private/story:1"
    lading("pack", story, "-t", reference)
    refused = lading("push", reference, code=4).stderr
    assert f"lading login {login_registry.host}" in refused
    lading("login", login_registry.host, "-u", "sam", "--password-stdin", stdin="wrong\n", code=4)
    done = lading("login", login_registry.host, "-u", "sam", "--password-stdin", stdin="correct horse: battery\n")
    assert "correct horse" not in done.stdout + done.stderr
    lading("push", reference)
    lading("rm", reference)
    lading("pull", reference)
    lading("logout", login_registry.host)
    lading("pull", reference, code=4)


def test_a_registry_with_an_own_authority_is_trusted_by_its_file_only(
    lading: CommandLine, story: Path, tls_registry: RegistryProcess
) -> None:
    reference = f"{tls_registry.host}/tls/story:1"
    lading("pack", story, "-t", reference)
    assert "certificate" in lading("push", reference, code=5).stderr
    trusting = {"SSL_CERT_FILE": str(tls_registry.ca_file)}
    login = ("login", tls_registry.host, "-u", "sam", "--password-stdin")
    lading(*login, stdin="correct horse: battery\n", more=trusting)
    lading("push", reference, more=trusting)
    folder = lading.folder / ".config/containers/certs.d" / tls_registry.host
    folder.mkdir(parents=True)
    assert tls_registry.ca_file is not None
    shutil.copy(tls_registry.ca_file, folder / "ca.crt")
    lading("rm", reference)
    assert "pulled" in lading("pull", reference).stdout


def test_a_registry_that_is_down_is_named(lading: CommandLine) -> None:
    refused = lading("pull", "localhost:1/team/story:1", code=5).stderr
    assert "localhost:1" in refused


def test_a_missing_tag_is_answered_with_those_that_are_there(
    lading: CommandLine, story: Path, plain_registry: RegistryProcess
) -> None:
    reference = f"{plain_registry.host}/tags/story"
    lading("pack", story, "-t", f"{reference}:1")
    lading("push", f"{reference}:1")
    lading("push", f"{reference}:1", f"{reference}:2")
    told = lading("pull", f"{reference}:9", code=3).stderr
    assert "has no tag `9` for `tags/story`; it has 1 and 2" in told
