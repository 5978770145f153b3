"""The time, as the store's index records it; never part of a digest."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> str:
    """Return the present second as RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def ago(moment: str) -> str:
    """Say how long ago an RFC 3339 moment was: `just now`, `2 hours ago`; as it is if it cannot be read."""
    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    seconds = (datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()
    for name, length in (("year", 31557600), ("month", 2629800), ("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"
