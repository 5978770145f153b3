"""Mirrors and locations of registries.conf, with real registries and the command line."""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from chaos_proxy import ChaosProxy, Fault
from checker import check_store
from real_registry import PASSWORD, USER, RegistryProcess

from lading.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import CommandLine

pytestmark = pytest.mark.integration

NAME = "team/story"
WARNING = "warning: the mirror {} is passed over: "


def closed_port() -> str:
    """An address of this machine where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"localhost:{probe.getsockname()[1]}"


def blob_file(registry: RegistryProcess, digest: str) -> Path:
    hexdigits = digest.partition(":")[2]
    return registry.folder / "data/docker/registry/v2/blobs/sha256" / hexdigits[:2] / hexdigits / "data"


def served(registry: RegistryProcess, path: str = f"/v2/{NAME}/") -> list[str]:
    """The requests that a registry has answered below a path, as `GET uri status`, oldest first."""
    lines = [line for line in registry.log.splitlines() if 'msg="response completed"' in line]
    found = [
        re.search(r"http\.request\.method=(\S+).*http\.request\.uri=\"?([^\s\"]+).*http\.response\.status=(\d+)", line)
        for line in lines
    ]
    return [" ".join(match.groups()) for match in found if match and match[2].startswith(path)]


@dataclass
class Site:
    """A user with one packed model, and a registries.conf of his own."""

    lading: CommandLine
    model: dict[str, Any] = field(default_factory=dict)
    written: int = 0

    def configure(self, text: str) -> None:
        file = self.lading.folder / "registries.conf"
        file.write_text(text)
        self.lading.environment["CONTAINERS_REGISTRIES_CONF"] = str(file)

    def mirror(self, prefix: str, *locations: str, more: str = "", rule: str = "") -> None:
        mirrors = "".join(f'[[registry.mirror]]\nlocation = "{one}"\n{more}\n' for one in locations)
        self.configure(f'[[registry]]\nprefix = "{prefix}"\n{rule}\n{mirrors}')

    def fill(self, *hosts: str, tag: str = "1", repository: str = NAME) -> None:
        """Push the model as others would have: with no registries.conf."""
        empty = {"CONTAINERS_REGISTRIES_CONF": "/nonexistent/registries.conf"}
        for host in hosts:
            self.lading("push", "story:1", f"{host}/{repository}:{tag}", more=empty)

    def pull(self, reference: str, *flags: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Pull into a store of its own, which is then verified."""
        self.written += 1
        store = self.lading.folder / f"pulled{self.written}"
        done = self.lading("pull", "--store", store, reference, *flags, code=code)
        if not code:
            assert set(check_store(store).values()) == {self.model["digest"]}
        return done

    @property
    def store(self) -> Path:
        """The store of the last pull."""
        return self.lading.folder / f"pulled{self.written}"

    def part(self, role: str) -> str:
        return next(str(part["digest"]) for part in self.model["parts"] if part["role"] == role)


@pytest.fixture
def site(lading: CommandLine, story: Path) -> Site:
    folder = lading.folder / "model"
    folder.mkdir()
    shutil.copyfile(story, folder / "story.gguf")
    (folder / "LICENSE").write_text("Take it and be kind.\n")
    lading("pack", folder, "-t", "story:1")
    return Site(lading, json.loads(lading("inspect", "story:1", "--json").stdout))


@pytest.fixture
def two(start: Callable[..., RegistryProcess]) -> tuple[RegistryProcess, RegistryProcess]:
    """An origin and a mirror."""
    return start(), start()


@pytest.fixture
def breaking() -> Iterator[Callable[[str], ChaosProxy]]:
    proxies: list[ChaosProxy] = []

    def make(upstream: str) -> ChaosProxy:
        proxies.append(ChaosProxy(upstream))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.stop()


def test_the_mirror_serves_when_the_origin_is_down_and_the_names_stay_the_users(
    site: Site, start: Callable[..., RegistryProcess]
) -> None:
    mirror, origin = start(), closed_port()
    site.fill(mirror.host, repository="cache/story")
    site.mirror(f"{origin}/team", f"{mirror.host}/cache")
    done = site.pull(f"{origin}/{NAME}:1")
    assert "passed over" not in done.stderr
    index = (site.store / "index.json").read_text()
    assert mirror.host not in index
    assert "cache/story" not in index
    listed = json.loads(site.lading("list", "--json", "--store", site.store).stdout)[0]
    assert listed["reference"] == f"{origin}/{NAME}:1"
    assert listed["source"] == f"oci://{origin}/{NAME}@{site.model['digest']}"


def test_pulling_again_costs_two_requests_to_the_first_mirror_and_none_to_others(
    site: Site, two: tuple[RegistryProcess, RegistryProcess], start: Callable[..., RegistryProcess]
) -> None:
    origin, mirror = two
    other = start()
    site.fill(mirror.host, other.host, origin.host)
    site.mirror(origin.host, mirror.host, other.host)
    before = [len(served(one, "/")) for one in (origin, other)]
    site.pull(f"{origin.host}/{NAME}:1")
    asked = len(served(mirror, "/"))
    site.lading("pull", "--store", site.store, f"{origin.host}/{NAME}:1")
    assert 1 <= len(served(mirror, "/")) - asked <= 2
    assert [len(served(one, "/")) for one in (origin, other)] == before


def test_mirrors_that_are_down_or_lack_the_tag_are_passed_over_each_with_one_warning(
    site: Site, two: tuple[RegistryProcess, RegistryProcess]
) -> None:
    origin, mirror = two
    down = closed_port()
    site.fill(origin.host)
    site.fill(mirror.host, tag="other")
    site.mirror(origin.host, down, mirror.host)
    told = site.pull(f"{origin.host}/{NAME}:1").stderr
    assert told.count("passed over") == 2
    assert f"{WARNING.format(f'{down}/{NAME}')}nothing answers at {down}" in told
    assert f"{WARNING.format(f'{mirror.host}/{NAME}')}{mirror.host} has no tag `1`" in told
    assert [line for line in served(mirror) if "/blobs/" in line and "GET" in line] == []


def test_a_blob_that_the_mirror_has_lost_comes_from_the_origin_alone(
    site: Site, two: tuple[RegistryProcess, RegistryProcess]
) -> None:
    origin, mirror = two
    site.fill(origin.host, mirror.host)
    blob_file(mirror, site.part("weights")).unlink()
    site.mirror(origin.host, mirror.host)
    before = len(served(origin))
    told = site.pull(f"{origin.host}/{NAME}:1").stderr
    assert told.count("passed over") == 1
    assert WARNING.format(f"{mirror.host}/{NAME}") in told
    assert served(origin)[before:] == [f"GET /v2/{NAME}/blobs/{site.part('weights')} 200"]


def test_a_mirror_that_dies_in_mid_blob_costs_none_of_the_bytes_that_came(
    site: Site, two: tuple[RegistryProcess, RegistryProcess], breaking: Callable[[str], ChaosProxy]
) -> None:
    origin, mirror = two
    site.fill(origin.host, mirror.host)
    proxy = breaking(mirror.host)
    proxy.plan([Fault("reset", "blob", skip=1, at=0.5)])
    site.mirror(origin.host, proxy.host)
    before = len(served(origin))
    told = site.pull(f"{origin.host}/{NAME}:1", "--parallel", "1").stderr
    assert proxy.left == 0
    assert told.count("passed over") == 1
    assert served(origin)[before:] == [f"GET /v2/{NAME}/blobs/{site.part('weights')} 206"]


def test_where_the_mirror_is_all_there_is_a_break_in_mid_blob_is_waited_out(
    site: Site, start: Callable[..., RegistryProcess], breaking: Callable[[str], ChaosProxy]
) -> None:
    mirror = start()
    site.fill(mirror.host)
    proxy, origin = breaking(mirror.host), closed_port()
    proxy.plan([Fault("reset", "blob", skip=1, at=0.5), Fault("reset", "blob", at=0.3)])
    site.mirror(origin, proxy.host)
    site.pull(f"{origin}/{NAME}:1", "--parallel", "1")
    assert proxy.left == 0


def test_where_the_origin_wants_a_login_a_break_of_the_mirror_is_waited_out_too(
    site: Site,
    start: Callable[..., RegistryProcess],
    breaking: Callable[[str], ChaosProxy],
    login_registry: RegistryProcess,
) -> None:
    mirror = start()
    site.fill(mirror.host)
    proxy = breaking(mirror.host)
    proxy.plan([Fault("reset", "blob", skip=1, at=0.5)])
    site.mirror(login_registry.host, proxy.host)
    site.pull(f"{login_registry.host}/{NAME}:1", "--parallel", "1")
    assert proxy.left == 0


@pytest.mark.parametrize(("role", "longer"), [("weights", False), ("weights", True), ("licence", False)])
def test_wrong_bytes_of_a_mirror_are_dropped_and_asked_of_the_next(
    site: Site,
    two: tuple[RegistryProcess, RegistryProcess],
    start: Callable[..., RegistryProcess],
    role: str,
    longer: bool,  # noqa: FBT001 - a table
) -> None:
    origin, mirror = two
    other = start()
    site.fill(origin.host, mirror.host, other.host)
    for registry in (mirror, other):
        file = blob_file(registry, site.part(role))
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data + b"x" * longer)
    site.mirror(origin.host, mirror.host, other.host)
    told = site.pull(f"{origin.host}/{NAME}:1").stderr
    assert told.count("passed over") == 2
    for registry in (mirror, other):
        assert WARNING.format(f"{registry.host}/{NAME}") in told


def test_where_all_send_wrong_bytes_nothing_is_kept_and_the_error_is_the_origins(
    site: Site, two: tuple[RegistryProcess, RegistryProcess]
) -> None:
    site.fill(*(one.host for one in two))
    for registry in two:
        file = blob_file(registry, site.part("weights"))
        file.write_bytes(bytes(file.stat().st_size))
    origin, mirror = two
    site.mirror(origin.host, mirror.host)
    told = site.pull(f"{origin.host}/{NAME}:1", code=6).stderr
    assert told.count("passed over") == 1
    assert "error: " in told
    assert check_store(site.store) == {}
    digest = Digest(site.part("weights"))
    assert not (site.store / "ingest" / digest.file_name).exists()
    assert not (site.store / digest.path).exists()


def test_when_all_fail_the_error_is_the_origins_and_the_hint_names_the_mirrors(
    site: Site, two: tuple[RegistryProcess, RegistryProcess]
) -> None:
    origin, mirror = two
    site.fill(origin.host, tag="2")
    site.mirror(origin.host, mirror.host)
    told = site.pull(f"{origin.host}/{NAME}:1", code=3).stderr
    assert f"error: {origin.host} has no tag `1` for `{NAME}`; it has 2" in told
    assert f"mirrors were asked first: {mirror.host}/{NAME}" in told.partition("hint: ")[2]
    site.mirror(origin.host, mirror.host, more='pull-from-mirror = "digest-only"')
    told = site.pull(f"{origin.host}/{NAME}:1", code=3).stderr
    assert "mirror" not in told
    assert "registries.conf" not in told


def test_a_mirror_that_is_busy_is_asked_twice_and_then_the_next(
    site: Site, start: Callable[..., RegistryProcess], canary: Any, reply: Any
) -> None:
    origin = start()
    site.fill(origin.host)
    canary.on("GET", f"/v2/{NAME}/manifests/1", reply(503))
    site.mirror(origin.host, canary.host)
    site.pull(f"{origin.host}/{NAME}:1")
    assert [asked.path for asked in canary.asked if "manifests" in asked.path] == [f"/v2/{NAME}/manifests/1"] * 2
    assert not any("blobs" in asked.path for asked in canary.asked)


@pytest.mark.parametrize(
    ("rule", "mirror_rule", "by_tag", "by_digest"),
    [
        ("", "", True, True),
        ("", 'pull-from-mirror = "digest-only"', False, True),
        ("", 'pull-from-mirror = "tag-only"', True, False),
        ("mirror-by-digest-only = true", "", False, True),
    ],
)
def test_a_mirror_is_asked_for_what_it_is_for(
    site: Site,
    two: tuple[RegistryProcess, RegistryProcess],
    rule: str,
    mirror_rule: str,
    by_tag: bool,  # noqa: FBT001 - a table
    by_digest: bool,  # noqa: FBT001 - as above
) -> None:
    origin, mirror = two
    site.fill(origin.host, mirror.host)
    site.mirror(origin.host, mirror.host, more=mirror_rule, rule=rule)
    for name, asked in ((f"{NAME}:1", by_tag), (f"{NAME}@{site.model['digest']}", by_digest)):
        before = len(served(mirror, "/")), len(served(origin, "/"))
        site.pull(f"{origin.host}/{name}")
        assert (len(served(mirror, "/")) > before[0]) == asked
        assert (len(served(origin, "/")) > before[1]) != asked


def keep_login(site: Site, *places: str) -> None:
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    file = site.lading.folder / "auth.json"
    file.write_text(json.dumps({"auths": {place: {"auth": login} for place in places}}))
    site.lading.environment["REGISTRY_AUTH_FILE"] = str(file)


@pytest.mark.parametrize("challenge", ['Basic realm="x"', 'Bearer realm="{url}/token",service="{origin}"'])
def test_the_login_of_the_origin_is_never_heard_by_a_mirror(
    site: Site, login_registry: RegistryProcess, canary: Any, reply: Any, challenge: str
) -> None:
    origin = login_registry.host
    keep_login(site, origin)
    site.fill(origin)
    header = challenge.format(url=canary.url, origin=origin)
    refused = reply(401, headers={"WWW-Authenticate": header})
    canary.on("GET", f"/v2/{NAME}/manifests/1", refused)
    canary.on("GET", "/token", reply(body=b'{"token": "t"}'))
    site.mirror(origin, canary.host)
    told = site.pull(f"{origin}/{NAME}:1").stderr
    assert WARNING.format(f"{canary.host}/{NAME}") in told
    heard = [asked.headers.get("Authorization", "") for asked in canary.asked]
    assert set(heard) <= {"", "Bearer t"}
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert not any(secret in repr(asked) or PASSWORD in repr(asked) for asked in canary.asked)
    assert any(asked.path == f"/v2/{NAME}/manifests/1" for asked in canary.asked)


def test_the_login_for_a_mirror_is_the_one_of_its_own_host_and_path(
    site: Site, start: Callable[..., RegistryProcess]
) -> None:
    mirror, origin = start(htpasswd=True), closed_port()
    keep_login(site, f"{mirror.host}/cache")
    site.fill(mirror.host, repository="cache/story")
    site.mirror(f"{origin}/team", f"{mirror.host}/cache")
    site.pull(f"{origin}/{NAME}:1")
    keep_login(site, f"{mirror.host}/elsewhere", origin)
    told = site.pull(f"{origin}/{NAME}:1", code=5).stderr
    assert f"{WARNING.format(f'{mirror.host}/cache/story')}{mirror.host} wants a login" in told


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # No packet is sent: the kernel only chooses the address that it would use.
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def test_plain_http_beyond_this_machine_needs_the_mirrors_own_permission(
    site: Site, start: Callable[..., RegistryProcess]
) -> None:
    process, origin = start(address="0.0.0.0"), start()
    outside = process.host.replace("localhost", own_address())
    site.fill(process.host, origin.host)
    name = f"{origin.host}/{NAME}:1"
    for flags, rule, more, used in (
        ((), "", "", False),
        (("--insecure",), "", "", False),
        ((), "insecure = true", "", False),
        ((), "", "insecure = true", True),
    ):
        site.mirror(origin.host, outside, rule=rule, more=more)
        before = len(served(process))
        told = site.pull(name, *flags).stderr
        assert (len(served(process)) > before) == used
        assert ("passed over" in told) != used


def test_a_push_goes_to_the_location_and_no_mirror_hears_of_it(
    site: Site, two: tuple[RegistryProcess, RegistryProcess]
) -> None:
    place, mirror = two
    site.mirror("acme.example.org/team", mirror.host, rule=f'location = "{place.host}/inner"')
    before = len(served(mirror, "/"))
    told = site.lading("push", "story:1", "acme.example.org/team/story:1")
    assert "acme.example.org/team/story:1" in told.stdout + told.stderr
    assert len(served(mirror, "/")) == before
    assert "PUT /v2/inner/story/manifests/1 201" in served(place, "/v2/inner/story/")
    site.lading("tag", "story:1", "acme.example.org/team/story:1")
    site.lading("push", "story:1", "acme.example.org/team/more:1")
    mounts = [line for line in served(place, "/v2/inner/more/") if "mount=" in line]
    assert mounts
    assert all("from=inner%2Fstory" in line and line.endswith(" 201") for line in mounts)


def test_what_lies_at_a_location_is_pulled_and_inspected_by_the_name_before_it(
    site: Site, start: Callable[..., RegistryProcess]
) -> None:
    place = start()
    site.fill(place.host, repository="inner/story")
    site.configure(f'[[registry]]\nprefix = "acme.example.org/team"\nlocation = "{place.host}/inner"\n')
    site.pull("acme.example.org/team/story:1")
    assert place.host not in (site.store / "index.json").read_text()
    shown = json.loads(site.lading("inspect", "acme.example.org/team/story:1", "--json").stdout)
    assert shown["reference"] == "acme.example.org/team/story:1"
    assert shown["digest"] == site.model["digest"]
    assert "acme.example.org/team/story" in site.lading("inspect", "acme.example.org/team/story").stdout
    told = site.pull("acme.example.org/team/story", code=3).stderr
    assert "has no tag `latest` for `inner/story`; it has 1" in told
    told = site.lading("pull", "acme.example.org/team/story:2", code=3).stderr
    assert f"registries.conf leads to {place.host}/inner/story" in told


def test_what_is_blocked_is_asked_of_no_mirror_either(site: Site, two: tuple[RegistryProcess, RegistryProcess]) -> None:
    origin, mirror = two
    site.fill(mirror.host)
    asked = len(served(mirror, "/"))
    site.mirror(origin.host, mirror.host, rule="blocked = true")
    told = site.pull(f"{origin.host}/{NAME}:1", code=9).stderr
    assert f"{origin.host} is blocked by registries.conf" in told
    blocked_mirror = f'[[registry]]\nlocation = "{mirror.host}"\nblocked = true\n'
    rule = f'[[registry]]\nlocation = "{origin.host}"\n[[registry.mirror]]\nlocation = "{mirror.host}"\n'
    site.configure(rule + blocked_mirror)
    told = site.pull(f"{origin.host}/{NAME}:1", code=3).stderr
    assert f"{WARNING.format(f'{mirror.host}/{NAME}')}registries.conf blocks it" in told
    site.configure(f'[[registry]]\nprefix = "a.io"\nlocation = "{mirror.host}"\n{blocked_mirror}')
    for verb in ("pull", "push"):
        told = site.lading(verb, *(["story:1"] if verb == "push" else []), f"a.io/{NAME}:1", code=9).stderr
        assert f"a.io/{NAME}:1 is {mirror.host}/{NAME}:1 by registries.conf, which blocks that" in told
    assert len(served(mirror, "/")) == asked


def test_headers_are_read_from_the_next_place_when_the_mirror_lacks_the_weights(
    site: Site, two: tuple[RegistryProcess, RegistryProcess]
) -> None:
    origin, mirror = two
    site.fill(origin.host, mirror.host)
    blob_file(mirror, site.part("weights")).unlink()
    site.mirror(origin.host, mirror.host)
    before = len(served(origin))
    done = site.lading("inspect", f"{origin.host}/{NAME}:1", "--json")
    assert json.loads(done.stdout)["model"] == site.model["model"]
    assert done.stderr.count("passed over") == 1
    asked = served(origin)[before:]
    assert asked
    assert {line.rpartition(" ")[0] for line in asked} == {f"GET /v2/{NAME}/blobs/{site.part('weights')}"}


def test_a_file_that_is_wrong_is_named_with_its_key(site: Site) -> None:
    site.mirror("acme.example.org", "localhost:5000", more='pull-from-mirror = "sometimes"')
    told = site.pull("acme.example.org/team/story:1", code=6).stderr
    assert "`pull-from-mirror` of localhost:5000 is 'sometimes'" in told
    assert "registries.conf" in told
    assert "all, digest-only, tag-only" in told


def test_skopeo_reads_the_same_content_by_the_same_file(
    site: Site, two: tuple[RegistryProcess, RegistryProcess], story: Path
) -> None:
    """A tag that differs between mirror and origin shows who was asked."""
    skopeo = shutil.which("skopeo")
    assert skopeo is not None, "skopeo is missing: apt-get install skopeo"
    origin, mirror = two
    site.fill(mirror.host, repository="cache/story")
    site.lading("pack", story, "-t", "bare:1")
    for tag in ("1", "2"):
        site.lading("push", "bare:1", f"{origin.host}/inner/story:{tag}")
    bare = json.loads(site.lading("inspect", "bare:1", "--json").stdout)["digest"]
    text = '[[registry]]\nprefix = "acme.example.org/team"\nlocation = "{}/inner"\ninsecure = true\n{}'
    text += '[[registry.mirror]]\nlocation = "{}/cache"\ninsecure = true\n{}'
    whole, digest_only, tag_only = "", 'pull-from-mirror = "digest-only"', 'pull-from-mirror = "tag-only"'
    rewritten = "acme.example.org/team/story"
    mirrored = site.model["digest"]
    for rule, use, name, expected in (
        ("", whole, f"{rewritten}:1", mirrored),
        ("", whole, f"{rewritten}:2", bare),
        ("", digest_only, f"{rewritten}:1", bare),
        ("", digest_only, f"{rewritten}@{mirrored}", mirrored),
        ("", tag_only, f"{rewritten}:1", mirrored),
        ("mirror-by-digest-only = true\n", whole, f"{rewritten}:1", bare),
    ):
        site.configure(text.format(origin.host, rule, mirror.host, use))
        conf = site.lading.environment["CONTAINERS_REGISTRIES_CONF"]
        command = [skopeo, "--registries-conf", conf, "inspect", "--raw", f"docker://{name}"]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert Digest.of(done.stdout) == expected, (use, name)
        assert json.loads(site.lading("inspect", name, "--json").stdout)["digest"] == expected, (use, name)


def test_rules_on_who_may_be_asked_hold_for_ollama_too(site: Site, start: Callable[..., RegistryProcess]) -> None:
    outside = start(address="0.0.0.0").host.replace("localhost", own_address())
    name = f"ollama://{outside}/team/story:1"
    told = site.lading("pull", name, code=5, timeout=300).stderr
    assert outside in told
    site.configure(f'[[registry]]\nlocation = "{outside}"\ninsecure = true\n')
    assert f"{outside} has no {name}" in site.lading("pull", name, code=3).stderr
    site.configure(f'[[registry]]\nlocation = "{outside}"\nblocked = true\n')
    assert f"{outside} is blocked by registries.conf" in site.lading("pull", name, code=9).stderr
