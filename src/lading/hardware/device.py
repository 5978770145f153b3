"""A device that a model can be put on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """One graphics processor, or what a profile or a user says is there.

    `memory` and `free` are bytes, `bandwidth` bytes a second, None where not known. `shared` says that its memory is the
    host's. `source` is who told of it; `problem` why it may not be usable, empty if nothing is known against it.
    """

    name: str
    vendor: str = ""
    memory: int | None = None
    free: int | None = None
    bandwidth: float | None = None
    shared: bool = False
    source: str = ""
    problem: str = ""
