"""Tag listings of a registry (distribution-spec, "Listing Tags")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from lading.errors import FormatError
from lading.http import join
from lading.reference import is_registry_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NEXT = re.compile(r'<([^<>]*)>\s*(?:;[^,<]*?)?;\s*rel\s*=\s*"?next"?\s*(?:[;,]|$)', re.IGNORECASE)
_PARTS = re.compile(r"[0-9]+|[^0-9]+")
_WIDEST = 128
_NAMED = 3


class _Listing(msgspec.Struct, frozen=True):
    tags: list[str] | None = None


def read_page(raw: bytes, host: str) -> list[str]:
    """Read one page of a listing; what is no tag by the grammar is left out. Raises FormatError."""
    try:
        listing = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{host} sent no list of tags"
        raise FormatError(msg, hint="a login portal or a proxy may have answered instead of the registry") from error
    return [tag for tag in listing.tags or () if is_registry_tag(tag)]


def next_page(links: Iterable[str], url: str) -> str | None:
    """Return the absolute URL that a Link header (RFC 8288) calls `next`, if any."""
    for link in links:
        match = _NEXT.search(link)
        if match:
            return join(url, str(match[1]))
    return None


def in_order(tags: Iterable[str]) -> list[str]:
    """Return tags as people sort them, numbers in them by their value: 2 before 10."""
    return sorted(
        tags,
        key=lambda tag: [(part.zfill(_WIDEST), "") if part.isdecimal() else ("", part) for part in _PARTS.findall(tag)],
    )


def told(tags: Sequence[str]) -> str:
    """Name some tags in a sentence, numbers in them in their order: `1, 2, 10 and 4 more`, `1, 2 and 3`, `none`."""
    tags = in_order(tags)
    if len(tags) > _NAMED:
        return f"{', '.join(tags[:_NAMED])} and {len(tags) - _NAMED} more"
    if len(tags) > 1:
        return f"{', '.join(tags[:-1])} and {tags[-1]}"
    return tags[0] if tags else "none"


_DECODER = msgspec.json.Decoder(_Listing)
