"""What an estimate says: bytes of each kind on each device, what is not known, and why it should be believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

HOST = "host"


# A named tuple, as a header's nouns are: a search for a context makes hundreds of them.


class Use(NamedTuple):
    """Bytes that one device is asked for. `name` is `host` or `device 0`, `device 1`...

    `weights` are what is held of the file, `mapped` how much of that are pages of it, which the system may drop and read
    again; `repacked` is the second copy of some. `keys` and `values` are the cache, `state` what recurrent layers keep,
    `compute` the buffers of one batch, `output` the results handed out, `overhead` the runtime's own.
    """

    name: str
    layers: int = 0
    weights: int = 0
    mapped: int = 0
    repacked: int = 0
    keys: int = 0
    values: int = 0
    state: int = 0
    compute: int = 0
    output: int = 0
    overhead: int = 0

    @property
    def kv(self) -> int:
        """Keys and values together."""
        return self.keys + self.values

    @property
    def total(self) -> int:
        """All of it; pages of a mapped file count too, for a model that is slow to read again is a model that does not fit."""
        return self.weights + self.repacked + self.kv + self.state + self.compute + self.output + self.overhead


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model needs. `uses` has the host first, then the devices.

    `known` is False for an architecture whose memory is not known: then only weights are counted. `measured` says that
    its figures were compared with llama.cpp's own. `notes` are sentences on what is not in the figures.
    """

    architecture: str | None
    known: bool
    measured: bool
    context: int
    uses: tuple[Use, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def host(self) -> Use:
        """What the host's memory must hold."""
        return self.uses[0]

    @property
    def devices(self) -> tuple[Use, ...]:
        """What each device must hold."""
        return self.uses[1:]

    @property
    def total(self) -> int:
        """Bytes on the host and on all devices."""
        return sum(use.total for use in self.uses)
