"""Settings as JSON, for the processes that are told theirs on their standard input."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lading.errors import FormatError

Value = TypeVar("Value")


def encode(value: object) -> bytes:
    """Return a dataclass of plain values and paths as one line of JSON."""
    return msgspec.json.encode(value, enc_hook=str)


def decode(data: bytes, kind: type[Value]) -> Value:
    """Return the dataclass that `encode` wrote; FormatError when it is another."""
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_path)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"settings are not understood: {error}"
        raise FormatError(msg) from error


def _path(kind: type[Any], value: Any) -> Path:
    if kind is not Path:
        raise NotImplementedError
    return Path(value)
