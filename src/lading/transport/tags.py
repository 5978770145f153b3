"""Tag listings of a registry (distribution-spec, "Listing Tags"), and how some tags are told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from lading.errors import FormatError, NetworkError, NotFoundError
from lading.http import join
from lading.reference import is_registry_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lading.transport.repository import Repository

_NEXT = re.compile(r'<([^<>]*)>\s*(?:;[^,<]*?)?;\s*rel\s*=\s*"?next"?\s*(?:[;,]|$)', re.IGNORECASE)
_PARTS = re.compile(r"[0-9]+|[^0-9]+")
_WIDEST = 128
_NAMED = 3
_NOT_FOUND = 404
_MAX_LISTING = 4 * 1024 * 1024
_MAX_PAGES = 200


class _Listing(msgspec.Struct, frozen=True):
    tags: list[str] | None = None


def tag_pages(at: Repository) -> Iterator[list[str]]:
    """Yield a repository's tags page by page, in the registry's order; raises NotFoundError without such a repository."""
    url = f"/v2/{at.repository}/tags/list?n=1000"
    for _page in range(_MAX_PAGES):
        with at.send("GET", url) as response:
            if response.status == _NOT_FOUND:
                msg = f"{at.host} has no repository `{at.repository}`"
                raise NotFoundError(msg, hint="check its spelling; the registry does not tell what else it has")
            at.expect_data(response)
            yield read_page(response.read(_MAX_LISTING), at.host)
            following = next_page(response.all("Link"), response.url)
        if following is None:
            return
        url = following
    msg = f"{at.host} lists tags of `{at.repository}` without end"
    raise NetworkError(msg)


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
