"""How long to wait, how often to try again."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed a little later."""

_QUOTED = re.compile(r'"[^"]*"')
_COUNT = re.compile(r";\s*([a-z]+)\s*=\s*(\d{1,15})\s*(?=;|$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, and how often.

    `connect` and `read` are for each try; `read` is for silence, not for the whole answer;
    `commit` is for silence after an upload.
    Between tries the wait doubles from `first` to at most `longest`, with jitter. The wait that a
    server asks for is honoured up to `longest_asked`; a longer one ends the tries.
    """

    tries: int = 5
    connect: float = 10.0
    read: float = 30.0
    first: float = 0.5
    longest: float = 20.0
    longest_asked: float = 120.0
    commit: float = 900.0

    def wait(self, failed: int) -> float:
        """Return the wait after the `failed`-th failure (from 1), with jitter: half of it is chance."""
        full: float = min(self.longest, self.first * 2 ** (failed - 1))
        return full * (0.5 + random.random() / 2)  # noqa: S311 - spreads clients over time, guards nothing


def asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that an answer asks to wait, by its Retry-After, else by its RateLimit; `now` is Unix time."""
    asked = retry_after(headers.get("Retry-After"), now)
    return limit_reset(headers.get("RateLimit")) if asked is None else asked


def retry_after(value: str | None, now: float) -> float | None:
    """Read a Retry-After header (RFC 9110, 10.2.3): seconds, or a date held against `now` (Unix time)."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value) if len(value) < 16 else float("inf")  # noqa: PLR2004 - beyond any wait
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def limit_reset(value: str | None) -> float | None:
    """Read a RateLimit header (draft-ietf-httpapi-ratelimit-headers): the seconds until no policy in it is exhausted.

    None when none is (`r=0`), or when it does not tell for how long (`t`).
    """
    told = [dict(_COUNT.findall(policy)) for policy in _QUOTED.sub("", value or "").split(",")]
    return max((float(policy["t"]) for policy in told if "t" in policy and not int(policy.get("r", 1))), default=None)
