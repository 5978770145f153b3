"""`python -m lading.server`: the supervisor of a server in the background, told by `supervisor.detach` what to do."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from lading.digest import Digest
from lading.server.health import http_probe
from lading.server.supervisor import Launch, supervise

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def _hold(launch: Launch) -> AbstractContextManager[object]:
    """Keep the model's blobs from `prune` as long as the server runs."""
    if launch.store is None:
        return nullcontext()
    from lading.store import Store  # noqa: PLC0415  # who serves a bare file needs no store

    return Store(launch.store).use([Digest(one) for one in launch.held])


if __name__ == "__main__":
    supervise(sys.stdin.buffer.read(), http_probe, _hold)
