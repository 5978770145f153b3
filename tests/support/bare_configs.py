"""Configs that say as little of a model as their formats allow."""

from __future__ import annotations

import json

# Of more layers than any test's artifact has: which of them is whose is not guessed at.
_DIFF_IDS = [f"sha256:{'0' * 64}"] * 20

BARE = {
    "docker": b"{}",
    "modelpack": json.dumps(
        {"descriptor": {}, "config": {}, "modelfs": {"type": "layers", "diffIds": _DIFF_IDS}}
    ).encode(),
}
