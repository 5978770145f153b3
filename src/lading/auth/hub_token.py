"""The token that Hugging Face's own client keeps in a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lading import fs
from lading.errors import AccessDeniedError, FormatError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MAX_TOKEN = 4096


def read_token(files: Sequence[Path]) -> str | None:
    """Return the token in the first of these files that has one, else None; raises FormatError for what is no token."""
    for file in files:
        try:
            descriptor = fs.open_regular(file)
        except (NotFoundError, AccessDeniedError):
            continue
        try:
            raw = os.pread(descriptor, _MAX_TOKEN + 1, 0)
        finally:
            os.close(descriptor)
        if len(raw) > _MAX_TOKEN or not raw.isascii():
            msg = f"{file} holds no token"
            raise FormatError(msg, hint="log in again with the hub's own client, or set HF_TOKEN")
        if token := raw.decode().strip():
            return token
    return None
