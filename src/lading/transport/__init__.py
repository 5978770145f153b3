"""From a reference to a Source or a Target: the table of transports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading import reference as refs
from lading.errors import PolicyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lading.auth import Authorizer
    from lading.config import Config
    from lading.content import Source, Target
    from lading.http import Client
    from lading.reference import Reference
    from lading.transport.listing import Repository
    from lading.transport.registry import Registry


def open_source(
    reference: Reference, config: Config, client: Callable[[], Client], *, insecure: bool
) -> tuple[Source, str]:
    """Return a place to read from and the name to ask it for. Raises UsageError for a reference that is no artifact."""
    match reference:
        case refs.Oci():
            return _registry(reference, config, client, insecure=insecure), reference.target
        case refs.Layout():
            from lading.transport.local import only_tag, open_layout  # noqa: PLC0415 - each transport loads its own needs

            layout = open_layout(reference)
            return layout, only_tag(layout, reference)
        case refs.Ollama():
            from lading.transport.ollama import OllamaRegistry  # noqa: PLC0415 - as above

            http, authorizer = _authorized(config, client)
            return OllamaRegistry(reference, http, authorizer, insecure=insecure), reference.tag
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
            return _registry(reference, config, client, insecure=insecure, mount_from=mount_from), reference.target
        case refs.Layout():
            from lading.transport.local import open_layout  # noqa: PLC0415 - as above

            return open_layout(reference), reference.tag or "latest"
        case refs.Oci():
            msg = f"{reference} names a digest"
            raise UsageError(msg, hint="push to a tag; the digest follows from the content")
        case _:
            msg = f"nothing can be pushed to {reference}"
            raise UsageError(msg, hint="push to host/repository:tag or oci-layout:DIR:tag")


def _registry(
    reference: refs.Oci,
    config: Config,
    client: Callable[[], Client],
    *,
    insecure: bool,
    mount_from: Sequence[str] = (),
) -> Registry:
    from lading.transport.registry import Registry  # noqa: PLC0415 - as above

    rule = config.registries().find(reference.host, reference.repository)
    if rule.blocked:
        msg = f"{reference.host} is blocked by registries.conf (`{rule.prefix}`)"
        raise PolicyError(msg, hint="the rule is in registries.conf or a file beside it in registries.conf.d")
    http, authorizer = _authorized(config, client)
    return Registry(reference, http, authorizer, insecure=insecure or rule.insecure, mount_from=mount_from)


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
