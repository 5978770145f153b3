"""From a reference to a Source or a Target: the table of transports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lading import reference as refs
from lading.errors import PolicyError, UsageError
from lading.events import Noted, Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lading.auth import Authorizer
    from lading.config import Config
    from lading.content import Source, Target
    from lading.events import Reporter
    from lading.http import Client
    from lading.reference import Reference
    from lading.registries_conf import Endpoint, Registries, RegistryRule
    from lading.transport.listing import Repository
    from lading.transport.registry import Registry

_TRIES = 2
"""Requests to a mirror that does not answer: there is another place to ask."""


def open_source(
    reference: Reference,
    config: Config,
    client: Callable[[], Client],
    *,
    insecure: bool,
    reporter: Reporter | None = None,
) -> tuple[Source, str]:
    """Return a place to read from and the name to ask it for; `reporter` hears of mirrors that are passed over.

    Raises UsageError for a reference that is no artifact, PolicyError for one that registries.conf blocks.
    """
    match reference:
        case refs.Oci():
            return _mirrored(reference, config, client, reporter or Silent(), insecure=insecure), reference.target
        case refs.Layout():
            from lading.transport.local import only_tag, open_layout  # noqa: PLC0415 - each transport loads its own needs

            layout = open_layout(reference)
            return layout, only_tag(layout, reference)
        case refs.Archive():
            from lading.transport.archive import open_reference  # noqa: PLC0415 - as above

            return open_reference(reference)
        case refs.Ollama():
            from lading.transport.ollama import OllamaRegistry  # noqa: PLC0415 - as above

            rules = config.registries()
            same = refs.Oci(reference.host, f"{reference.namespace}/{reference.name}", reference.tag)
            # Its manifests are no other registry's, so of registries.conf only who may be asked, and how, holds here.
            origin = _origin(rules, rules.find(same), same)
            http, authorizer = _authorized(config, client)
            return OllamaRegistry(reference, http, authorizer, insecure=insecure or origin.insecure), reference.tag
        case _:
            msg = f"{reference} is no artifact in a registry or layout"
            raise UsageError(msg, hint="a file is packed with `lading pack`, and can be run as it is")


def open_target(
    reference: Reference,
    config: Config,
    client: Callable[[], Client],
    *,
    insecure: bool,
    mount_from: Sequence[str] = (),
) -> tuple[Target, str]:
    """Return a place to write to and the name to give there. Raises UsageError for a reference that takes no artifact."""
    match reference:
        case refs.Oci(digest=None):
            return _written(reference, config, client, insecure=insecure, mount_from=mount_from)
        case refs.Layout():
            from lading.transport.local import open_layout  # noqa: PLC0415 - as above

            return open_layout(reference), reference.tag or "latest"
        case refs.Archive("oci"):
            from lading.transport.archive_writer import ArchiveTarget  # noqa: PLC0415 - as above

            tag = reference.tag or "latest"
            return ArchiveTarget(Path(reference.path).expanduser(), tag), tag
        case refs.Oci():
            msg = f"{reference} names a digest"
            raise UsageError(msg, hint="push to a tag; the digest follows from the content")
        case _:
            msg = f"nothing can be pushed to {reference}"
            raise UsageError(msg, hint="push to host/repository:tag, oci-layout:DIR:tag or oci-archive:FILE:tag")


def release(target: Target) -> None:
    """Let go of a target that nothing more is written to, and remove what only its writing needed."""
    from lading.store import Store  # noqa: PLC0415 - as above
    from lading.transport.archive_writer import ArchiveTarget  # noqa: PLC0415 - as above

    if isinstance(target, ArchiveTarget):
        target.close()
    elif isinstance(target, Store):
        from lading.transport.local import tidy  # noqa: PLC0415 - as above

        tidy(target)


def _mirrored(
    reference: refs.Oci, config: Config, client: Callable[[], Client], reporter: Reporter, *, insecure: bool
) -> Source:
    """Return what registries.conf makes of a reference to read: the registry, or mirrors of it and the registry."""
    rules = config.registries()
    rule = rules.find(reference)
    origin = _origin(rules, rule, reference)
    http, authorizer = _authorized(config, client)
    mirrors = []
    for mirror in rule.mirrored(reference):
        if rules.find(mirror.reference).blocked:
            text = f"the mirror {_name(mirror)} is passed over: registries.conf blocks it"
            reporter.emit(Noted(text, warning=True))
        else:
            mirrors.append(mirror)
    registry = _registry(origin, http, authorizer, insecure=insecure or origin.insecure)
    if not mirrors and origin.reference == reference:
        return registry
    from lading.transport.mirrors import Mirrored, Place  # noqa: PLC0415 - as above

    places = []
    for mirror in mirrors:
        asked = _registry(mirror, http, authorizer, insecure=mirror.insecure, tries=_TRIES)
        places.append(Place(_name(mirror), asked, mirror.reference.target))
    places.append(Place(_name(origin), registry, origin.reference.target))
    return Mirrored(reference.target, places, reporter)


def _written(
    reference: refs.Oci, config: Config, client: Callable[[], Client], *, insecure: bool, mount_from: Sequence[str]
) -> tuple[Registry, str]:
    """Return where registries.conf says that a reference is, which is no mirror, and the tag to give there."""
    rules = config.registries()
    origin = _origin(rules, rules.find(reference), reference)
    siblings = [refs.Oci(reference.host, name) for name in mount_from]
    moved = [rules.find(sibling).origin(sibling).reference for sibling in siblings]
    known = [one.repository for one in moved if one.host == origin.reference.host]
    http, authorizer = _authorized(config, client)
    registry = _registry(origin, http, authorizer, insecure=insecure or origin.insecure, mount_from=known)
    return registry, origin.reference.target


def _origin(rules: Registries, rule: RegistryRule, reference: refs.Oci) -> Endpoint:
    hint = "the rule is in registries.conf or a file beside it in registries.conf.d"
    if rule.blocked:
        msg = f"{reference.host} is blocked by registries.conf (`{rule.prefix}`)"
        raise PolicyError(msg, hint=hint)
    origin = rule.origin(reference)
    there = rules.find(origin.reference)
    if there.blocked:
        msg = f"{reference} is {origin.reference} by registries.conf, which blocks that (`{there.prefix}`)"
        raise PolicyError(msg, hint=hint)
    return origin


def _name(endpoint: Endpoint) -> str:
    return f"{endpoint.reference.host}/{endpoint.reference.repository}"


def _registry(
    endpoint: Endpoint,
    http: Client,
    authorizer: Authorizer,
    *,
    insecure: bool,
    mount_from: Sequence[str] = (),
    tries: int | None = None,
) -> Registry:
    from lading.transport.registry import Registry  # noqa: PLC0415 - as above

    return Registry(endpoint.reference, http, authorizer, insecure=insecure, mount_from=mount_from, tries=tries)


def open_hub(reference: refs.Hub, config: Config, client: Client, *, insecure: bool) -> Repository:
    """Return a hub's repository, at the address and with the token that the settings name."""
    hubs = config.hubs
    if reference.hub == "ms":
        from lading.transport import modelscope  # noqa: PLC0415 - as above

        endpoint = hubs.ms_endpoint or modelscope.ENDPOINT
        return modelscope.ModelScope(reference, client, endpoint=endpoint, token=hubs.ms_token, insecure=insecure)
    from lading.auth.hub_token import read_token  # noqa: PLC0415 - as above
    from lading.transport import huggingface  # noqa: PLC0415 - as above

    endpoint = hubs.hf_endpoint or huggingface.ENDPOINT
    token = hubs.hf_token or read_token(hubs.hf_token_files)
    return huggingface.HuggingFace(reference, client, endpoint=endpoint, token=token, insecure=insecure)


def _authorized(config: Config, client: Callable[[], Client]) -> tuple[Client, Authorizer]:
    from lading.auth import Authorizer, Keychain  # noqa: PLC0415 - as above

    http = client()
    return http, Authorizer(http, Keychain(config.auth_files).find)
