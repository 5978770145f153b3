"""`WWW-Authenticate` headers, read by their grammar (RFC 9110, 11.6.1 and 5.6.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's name for a word
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=[\s,]|$)", re.ASCII)
_PARAMETER = re.compile(
    rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))(?=\s*(?:,|$))', re.ASCII | re.DOTALL
)
_TOKEN68 = re.compile(r"\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))", re.ASCII)
_LONGEST = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a server offers; `scheme` and the parameters' names in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """Return all challenges in the headers' order; what follows a breach of the grammar is left out."""
    return [challenge for header in headers for challenge in _parse_one(header[:_LONGEST])]


def _parse_one(text: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(text, position):
        scheme = match[1].lower()
        position = match.end()
        parameters: dict[str, str] = {}
        while found := _PARAMETER.match(text, position):
            quoted, plain = found[2], found[3]
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            parameters.setdefault(found[1].lower(), value)
            position = found.end()
        if not parameters and (blob := _TOKEN68.match(text, position)):
            position = blob.end()
        challenges.append(Challenge(scheme, parameters))
    return challenges
