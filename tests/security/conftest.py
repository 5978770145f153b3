from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from small_artifact import CONFIG, MANIFEST, WEIGHTS

from lading import api
from lading.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hostile_server import Hostile, Reply

    from lading.events import Event


@dataclass
class Told:
    """A reporter that keeps what it is told, as text."""

    events: list[str] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.events.append(repr(event))


@dataclass
class Registry:
    """A registry that serves whatever document it is given, and honest blobs."""

    server: Hostile
    reply: type[Reply]

    def serve(self, document: dict[str, Any], **headers: str) -> str:
        """Serve a document under a tag and return its reference."""
        raw = json.dumps(document).encode()
        headers = {"Content-Type": document.get("mediaType", MANIFEST), **headers}
        self.server.on("GET", "/v2/team/small/manifests/1", self.reply(200, raw, headers))
        for data in (CONFIG, WEIGHTS):
            self.server.on("GET", f"/v2/team/small/blobs/{Digest.of(data)}", self.reply(200, data))
        return f"{self.server.host}/team/small:1"


@pytest.fixture
def registry(hostile: Hostile, reply: type[Reply]) -> Registry:
    return Registry(hostile, reply)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[api.Session]:
    """A session on a store that is not there yet, of a user with a file that must stay as it is."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.txt").write_text("not yours")
    config = api.load_config({"HOME": str(home), "LADING_STORE": str(home / "store")})
    made = api.Session(config, Told())
    yield made
    made.client.close()
