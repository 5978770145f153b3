"""`python -m lading.server`: the supervisor of a server in the background, told by `supervisor.detach` what to do."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lading.digest import Digest
from lading.server.bare import FileWatch
from lading.server.health import http_probe
from lading.server.supervisor import Launch, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def _hold(launch: Launch) -> Iterator[Callable[[], None]]:
    """Keep the model's blobs from `prune` as long as the server runs, and watch the files that are not the store's."""
    if launch.store is None:
        with FileWatch(launch.files) as files:
            yield files.check
        return
    from lading.store import Store  # noqa: PLC0415  # who serves a bare file needs no store

    store = Store(launch.store)
    held = [Digest(one) for one in launch.held]
    with store.use(held), store.watch(held) as linked:
        yield linked.check


if __name__ == "__main__":
    supervise(sys.stdin.buffer.read(), http_probe, _hold)
