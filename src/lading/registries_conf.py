"""registries.conf (containers-registries.conf(5), version 2): where what a registry's name stands for really is.

Values only: `config` finds the files and reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lading import reference as refs
from lading.errors import FormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_USES = ("all", "digest-only", "tag-only")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask for a reference, and by what name; `insecure` permits plain http and any certificate there."""

    reference: refs.Oci
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Mirror:
    """A place that may hold what is under a prefix; `use` is `all`, `digest-only` or `tag-only`."""

    location: str
    insecure: bool = False
    use: str = "all"

    def serves(self, reference: refs.Oci) -> bool:
        """Say whether the mirror may be asked for a reference of this kind."""
        return self.use in ("all", "digest-only" if reference.digest else "tag-only")


@dataclass(frozen=True, slots=True)
class RegistryRule:
    """What registries.conf says of names under `prefix`: `host[/path][:tag|@digest]`, or `*.domain`.

    `location` takes the place of the prefix wherever such a name is asked for; empty leaves it as it is.
    """

    prefix: str
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()

    def covers(self, reference: refs.Oci) -> bool:
        """Say whether a reference falls under the prefix."""
        if self.prefix.startswith("*."):
            return reference.host.partition(":")[0].endswith(self.prefix[1:])
        name = _full_name(reference)
        # After a bare host a colon begins a port: that is another registry.
        joints = ("/", ":", "@") if "/" in self.prefix else ("/",)
        return name == self.prefix or name.startswith(tuple(self.prefix + joint for joint in joints))

    def origin(self, reference: refs.Oci) -> Endpoint:
        """Return where the reference is without any mirror; raises FormatError where `location` makes no name of it."""
        return Endpoint(self._at(self.location, reference), self.insecure)

    def mirrored(self, reference: refs.Oci) -> tuple[Endpoint, ...]:
        """Return where its mirrors are, in the order to ask them; raises FormatError as `origin` does."""
        serving = [mirror for mirror in self.mirrors if mirror.serves(reference)]
        return tuple(Endpoint(self._at(mirror.location, reference), mirror.insecure) for mirror in serving)

    def _at(self, location: str, reference: refs.Oci) -> refs.Oci:
        if location in ("", self.prefix):
            return reference
        name = _full_name(reference)
        wild = self.prefix.startswith("*.")
        text = location + name[len(reference.host if wild else self.prefix) :]
        try:
            moved = refs.parse(f"oci://{text}")
        except UsageError as error:
            msg = f"registries.conf puts {name} at {text}, which is no reference"
            raise FormatError(msg, hint=f"see the location {location} of `{self.prefix}`") from error
        if not isinstance(moved, refs.Oci) or moved.digest != reference.digest:
            msg = f"registries.conf puts {name} at {text}, which is another content"
            raise FormatError(msg, hint=f"see the location {location} of `{self.prefix}`")
        return moved


@dataclass(frozen=True, slots=True)
class Registries:
    """The rules of registries.conf; the longest prefix that covers a name decides, a wildcard only where no other does."""

    rules: tuple[RegistryRule, ...] = ()

    def find(self, reference: refs.Oci) -> RegistryRule:
        """Return the rule for a reference; without one, a rule that changes nothing."""
        covering = [rule for rule in self.rules if rule.covers(reference)]
        return max(covering, key=_precision, default=RegistryRule(reference.host))


def read_rules(tree: Mapping[str, Any], file: Path) -> Iterator[RegistryRule]:
    """Read the [[registry]] tables of a file's TOML; raises FormatError naming file, table and key."""
    for entry in _tables(tree, "registry", f"`registry` in {file}"):
        location = _place(entry, "location", file)
        prefix = _place(entry, "prefix", file) or location
        if not prefix:
            raise _wrong(file, "a [[registry]] has neither `prefix` nor `location`", "one of them is needed")
        if "pull-from-mirror" in entry:
            hint = "it belongs into [[registry.mirror]]; for all mirrors there is mirror-by-digest-only"
            raise _wrong(file, f"`pull-from-mirror` of `{prefix}` stands in [[registry]]", hint)
        if location.startswith("*.") and location != prefix:
            raise _wrong(file, f"`location` of `{prefix}` is the wildcard `{location}`", "a location is one place")
        by_digest = _switch(entry, "mirror-by-digest-only", file)
        yield RegistryRule(
            prefix,
            "" if location == prefix else location,
            insecure=_switch(entry, "insecure", file),
            blocked=_switch(entry, "blocked", file),
            mirrors=tuple(_mirrors(entry, prefix, file, by_digest=by_digest)),
        )


def _mirrors(entry: Mapping[str, Any], prefix: str, file: Path, *, by_digest: bool) -> Iterator[Mirror]:
    for table in _tables(entry, "mirror", f"`mirror` of `{prefix}` in {file}"):
        location = _place(table, "location", file)
        if not location or location.startswith("*."):
            raise _wrong(file, f"a [[registry.mirror]] of `{prefix}` has no `location`", "it looks like host/path")
        use = table.get("pull-from-mirror") or "all"
        if use not in _USES:
            raise _wrong(
                file, f"`pull-from-mirror` of {location} is {str(use)[:40]!r}", f"it is one of {', '.join(_USES)}"
            )
        mirror = Mirror(location, _switch(table, "insecure", file), use)
        if by_digest:
            if table.get("pull-from-mirror"):
                msg = f"`{prefix}` sets `mirror-by-digest-only`, and its mirror {location} `pull-from-mirror`"
                raise _wrong(file, msg, "one of them says it all")
            mirror = replace(mirror, use="digest-only")
        yield mirror


def _tables(tree: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    entries = tree.get(key, [])
    if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
        return entries
    msg = f"{where} is not a list of tables"
    raise FormatError(msg, hint="an entry begins with [[registry]], one of its mirrors with [[registry.mirror]]")


def _place(entry: Mapping[str, Any], key: str, file: Path) -> str:
    """Return a prefix or location without its last slashes, "" if there is none; raises FormatError for no such thing."""
    given = entry.get(key) or ""
    hint = "it looks like host[:port][/path], or *.domain for a prefix, without a scheme"
    if not isinstance(given, str):
        raise _wrong(file, f"`{key}` is {str(given)[:40]!r}", hint)
    place = given.rstrip("/")
    if place.startswith("*.") and ("/" in place or ":" in place):
        raise _wrong(file, f"`{key}` is `{place}`", "a wildcard stands for hosts: *.domain, without port or path")
    path = place.partition("/")[2]
    whole = ":" in path or "@" in path
    try:
        # It is right if a reference comes of it.
        if place:
            refs.parse(f"oci://{place.removeprefix('*.')}{'' if whole else '/x'}")
    except UsageError as error:
        raise _wrong(file, f"`{key}` is {given[:80]!r}", hint) from error
    return place


def _switch(entry: Mapping[str, Any], key: str, file: Path) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(file, f"`{key}` is {str(value)[:40]!r}", "it is true or false, without quotes")
    return value


def _wrong(file: Path, what: str, hint: str) -> FormatError:
    return FormatError(f"{what} ({file})", hint=hint)


def _precision(rule: RegistryRule) -> tuple[bool, int]:
    return not rule.prefix.startswith("*."), len(rule.prefix)


def _full_name(reference: refs.Oci) -> str:
    return f"{reference.host}/{reference.repository}{'@' if reference.digest else ':'}{reference.target}"
