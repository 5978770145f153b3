"""Untrusted text in messages."""

from __future__ import annotations

_SHOWN = 80


def quote(thing: str | bytes | float) -> str:
    """Quote something from a file for a message: short, and without control characters."""
    if isinstance(thing, (str, bytes)) and len(thing) > _SHOWN:
        return f"{thing[:_SHOWN]!r}…"
    return repr(thing)
