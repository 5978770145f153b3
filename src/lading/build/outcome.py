"""What a build has made: the files of its last stage, what CMD and LABEL say, and what it is based on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.convert.bases import Base
    from lading.digest import Digest
    from lading.manifest import Platform


@dataclass(frozen=True, slots=True)
class Held:
    """A file that lies in the store as a blob of its own. `mode`, `uid` and `gid` are what it has in an image."""

    digest: Digest
    size: int
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last stage of a build, for one platform or, where that is None, for all that a form is written for.

    `files` are those that the stage itself put upon its base, by their absolute paths. `command` is its CMD, the
    arguments of llama-server; None takes the base's. `labels` are those that its LABELs set, and no others. `base` is
    the image that it is FROM, of models or of programs; None for scratch, and for what is no image: the files of an
    artifact or a hub's model are `files`. `created` is the time to record (RFC 3339), None for none.
    """

    files: Mapping[str, Held]
    command: tuple[str, ...] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    base: Base | None = None
    platform: Platform | None = None
    created: str | None = None
