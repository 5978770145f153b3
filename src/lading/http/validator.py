"""What tells one version of a file from another for certain (RFC 9110, 8.8)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SURE_SECONDS = 60.0
"""How much older than the answer a date must be to count: a file may change twice within one tick of a clock."""


def validator(headers: Mapping[str, str]) -> str:
    """Return what If-Range may hold (RFC 9110, 13.1.5): a strong ETag, else a Last-Modified that is strong, else ""."""
    etag = headers.get("ETag", "")
    if etag.startswith('"'):
        return etag
    changed = headers.get("Last-Modified", "")
    return changed if _age(changed, headers.get("Date", "")) >= _SURE_SECONDS else ""


def shown(headers: Mapping[str, str], known: str) -> str:
    """Return the answer's own value of the header that the validator `known` came from; "" where it has none."""
    return headers.get("ETag" if known.startswith('"') else "Last-Modified", "")


def _age(changed: str, answered: str) -> float:
    try:
        return (parsedate_to_datetime(answered) - parsedate_to_datetime(changed)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
