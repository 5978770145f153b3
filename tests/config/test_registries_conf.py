"""What registries.conf makes of a name, by containers-registries.conf(5)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from lading.digest import Digest
from lading.errors import FormatError
from lading.reference import Oci, parse
from lading.registries_conf import Registries, read_rules

DIGEST = Digest.of(b"x")
FILE = Path("/etc/containers/registries.conf")


def rules(text: str) -> Registries:
    return Registries(tuple(read_rules(tomllib.loads(text), FILE)))


def reference(text: str) -> Oci:
    found = parse(text)
    assert isinstance(found, Oci)
    return found


def asked(registries: Registries, text: str) -> list[str]:
    """The names that are asked for, in their order, plain http marked."""
    name = reference(text)
    rule = registries.find(name)
    return [
        f"{endpoint.reference}{' insecure' if endpoint.insecure else ''}"
        for endpoint in (*rule.mirrored(name), rule.origin(name))
    ]


# The example of the manual page.
MANUAL = """
[[registry]]
prefix = "example.com/foo"
insecure = false
blocked = false
location = "internal-registry-for-example.com/bar"

[[registry.mirror]]
location = "example-mirror-0.local/mirror-for-foo"

[[registry.mirror]]
location = "example-mirror-1.local/mirrors/foo"
insecure = true

[[registry]]
location = "registry.com"

[[registry.mirror]]
location = "mirror.registry.com"
"""


BY_DIGEST = """
[[registry]]
location = 'a.io'
mirror-by-digest-only = true
[[registry.mirror]]
location = 'm.io'
"""


def test_mirrors_come_in_their_order_and_the_location_last() -> None:
    registries = rules(MANUAL)
    assert asked(registries, "example.com/foo/image:1") == [
        "example-mirror-0.local/mirror-for-foo/image:1",
        "example-mirror-1.local/mirrors/foo/image:1 insecure",
        "internal-registry-for-example.com/bar/image:1",
    ]
    assert asked(registries, "registry.com/image:1") == ["mirror.registry.com/image:1", "registry.com/image:1"]
    assert asked(registries, f"registry.com/a/b@{DIGEST}") == [
        f"mirror.registry.com/a/b@{DIGEST}",
        f"registry.com/a/b@{DIGEST}",
    ]


def test_a_name_under_no_prefix_is_asked_for_as_it_is() -> None:
    name = reference("quay.io/team/chat")
    rule = rules(MANUAL).find(name)
    assert rule.origin(name).reference is name
    assert (rule.insecure, rule.blocked, rule.mirrors) == (False, False, ())


@pytest.mark.parametrize(
    ("name", "blocked_by"),
    [
        ("lab.io:5000/x:1", "lab.io:5000"),
        ("lab.io:5000/secret/x:1", "lab.io:5000/secret"),
        ("lab.io:5000/secret:1", "lab.io:5000/secret"),
        ("lab.io:5000/secretary:1", "lab.io:5000"),
        ("lab.io:5000/one:1", "lab.io:5000/one:1"),
        ("lab.io:5000/one:12", "lab.io:5000"),
        ("lab.io:5000/one/more:1", "lab.io:5000"),
        (f"lab.io:5000/two@{DIGEST}", f"lab.io:5000/two@{DIGEST}"),
        ("lab.io/x:1", ""),
        ("lab.io:50001/x:1", ""),
        ("docker.io/chat", "docker.io/library/chat"),
    ],
)
def test_the_longest_prefix_that_ends_at_a_joint_decides(name: str, blocked_by: str) -> None:
    prefixes = ["lab.io:5000", "lab.io:5000/secret", "lab.io:5000/one:1", f"lab.io:5000/two@{DIGEST}"]
    text = "".join(f'[[registry]]\nprefix = "{one}"\nblocked = true\n' for one in [*prefixes, "docker.io/library/chat"])
    found = rules(text).find(reference(name))
    assert (found.prefix if found.blocked else "") == blocked_by


def test_a_bare_host_is_no_prefix_of_its_other_ports() -> None:
    assert not rules('[[registry]]\nlocation = "lab.io"\nblocked = true\n').find(reference("lab.io:5000/x")).blocked


def test_a_wildcard_stands_for_all_hosts_below_and_yields_to_a_name() -> None:
    registries = rules(
        '[[registry]]\nprefix = "*.evil.com"\nblocked = true\n'
        '[[registry]]\nprefix = "*.less.evil.com"\n'
        '[[registry]]\nprefix = "a.evil.com"\ninsecure = true\n'
    )
    blocked = {
        name: registries.find(reference(f"{name}/x")).blocked
        for name in ("b.evil.com", "c.b.evil.com", "b.evil.com:5000", "evil.com", "devil.com", "a.evil.com")
    }
    assert [name for name, told in blocked.items() if told] == ["b.evil.com", "c.b.evil.com", "b.evil.com:5000"]
    assert not registries.find(reference("x.less.evil.com/x")).blocked
    assert registries.find(reference("a.evil.com/x")).insecure


def test_a_wildcard_without_a_location_changes_no_name_and_has_mirrors_all_the_same() -> None:
    registries = rules('[[registry]]\nprefix = "*.a.io"\n[[registry.mirror]]\nlocation = "m.io/cache"\n')
    assert asked(registries, "b.a.io:5000/team/chat:1") == ["m.io/cache/team/chat:1", "b.a.io:5000/team/chat:1"]
    moved = rules('[[registry]]\nprefix = "*.a.io"\nlocation = "one.io/all"\n')
    assert asked(moved, "b.a.io/team/chat:1") == ["one.io/all/team/chat:1"]


@pytest.mark.parametrize(
    ("use", "by_tag", "by_digest"),
    [("all", True, True), ("", True, True), ("digest-only", False, True), ("tag-only", True, False)],
)
def test_a_mirror_may_be_for_digests_or_for_tags_only(use: str, by_tag: bool, by_digest: bool) -> None:  # noqa: FBT001 - a table
    registries = rules(
        f'[[registry]]\nlocation = "a.io"\n[[registry.mirror]]\nlocation = "m.io"\npull-from-mirror = "{use}"\n'
    )
    assert (len(asked(registries, "a.io/x:1")) == 2) == by_tag
    assert (len(asked(registries, f"a.io/x@{DIGEST}")) == 2) == by_digest


def test_all_mirrors_may_be_for_digests_only() -> None:
    registries = rules(BY_DIGEST)
    assert asked(registries, "a.io/x:1") == ["a.io/x:1"]
    assert asked(registries, f"a.io/x@{DIGEST}")[0] == f"m.io/x@{DIGEST}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("registry = 5", "registry"),
        ("registry = [5]", "registry"),
        ("[[registry]]\ninsecure = true", "prefix"),
        ("[[registry]]\nlocation = 5", "location"),
        ("[[registry]]\nlocation = 'https://a.io'", "location"),
        ("[[registry]]\nlocation = 'a.io/UPPER'", "location"),
        ("[[registry]]\nprefix = 'a.*.io'\nlocation = 'b.io'", "prefix"),
        ("[[registry]]\nprefix = '*.a.io/x'", "prefix"),
        ("[[registry]]\nprefix = '*.a.io:5000'", "prefix"),
        ("[[registry]]\nprefix = 'a.io'\nlocation = '*.b.io'", "location"),
        ("[[registry]]\nlocation = 'a.io'\nblocked = 'no'", "blocked"),
        ("[[registry]]\nlocation = 'a.io'\nmirror-by-digest-only = 1", "mirror-by-digest-only"),
        ("[[registry]]\nlocation = 'a.io'\npull-from-mirror = 'all'", "pull-from-mirror"),
        ("[[registry]]\nlocation = 'a.io'\nmirror = 'm.io'", "mirror"),
        ("[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\ninsecure = true", "location"),
        ("[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\nlocation = 'm.io'\ninsecure = 'yes'", "insecure"),
        (
            "[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\nlocation = 'm.io'\npull-from-mirror = 'tags'",
            "pull-from-mirror",
        ),
        (
            BY_DIGEST.replace("'m.io'", "'m.io'\npull-from-mirror = 'all'"),
            "mirror-by-digest-only",
        ),
    ],
)
def test_a_wrong_table_is_named_with_its_file_and_key(text: str, key: str) -> None:
    with pytest.raises(FormatError) as caught:
        rules(text)
    assert f"`{key}`" in caught.value.message
    assert str(FILE) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("prefix", "location", "name"),
    [("a.io/x", "b.io", "a.io/x:1"), (f"a.io/x@{DIGEST}", f"b.io/x@{Digest.of(b'y')}", f"a.io/x@{DIGEST}")],
)
def test_a_location_that_makes_no_name_of_the_reference_is_told_when_it_is_asked_for(
    prefix: str, location: str, name: str
) -> None:
    rule = rules(f'[[registry]]\nprefix = "{prefix}"\nlocation = "{location}"\n').find(reference(name))
    with pytest.raises(FormatError, match=r"registries\.conf puts a\.io/x"):
        rule.origin(reference(name))
