"""What is weighed, and what is found: candidates, and for each a row of the table."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lading.estimate import Estimate, EstimateSettings
    from lading.hparams import Hparams

DEFAULT_CONTEXT = 8192
"""Tokens, when nobody says: what a model was trained for may need all memory."""

_BITS = 8


class Fits(StrEnum):
    """Whether a model runs here: whole on the devices (or, without any, in memory), partly on them, or not.

    `unknown` is what cannot be said: of its memory no more than the weights is known.
    """

    WHOLE = "whole"
    PARTLY = "partly"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One quantization or variant of a model. `name` is shown, `select` is what asks for it alone where it comes from.

    `parameters` counts the model's weights, `label` is its quantization, "" where none is known. Drafters, adapters and a
    projector take memory beside it. `notes` are sentences on what is not counted.
    """

    name: str
    model: Hparams
    select: str = ""
    label: str = ""
    parameters: int = 0
    drafters: tuple[Hparams, ...] = ()
    adapters: tuple[Hparams, ...] = ()
    projectors: tuple[Hparams, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def of_file(self) -> bool:
        """Whether only the name of its file asks for it alone."""
        return self.select.lower().endswith(".gguf")

    @property
    def bits(self) -> float | None:
        """Bits of weights for each parameter; None where these are not known."""
        return _BITS * self.model.data_size / self.parameters if self.parameters else None


@dataclass(frozen=True, slots=True)
class Row:
    """What was found of a candidate on a machine; bytes of all devices and the host together.

    `settings` are the ones that it was found with, whole: context, layers on devices, cache types. `max_context` is the
    longest with the same placement, None where the row does not fit or that is not known.
    """

    candidate: Candidate
    fits: Fits
    found: Estimate
    settings: EstimateSettings
    max_context: int | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.candidate.name

    @property
    def total(self) -> int:
        """All that it needs."""
        return self.found.total

    @property
    def weights(self) -> int:
        """Weights, with the second copy that the host keeps of some."""
        return sum(use.weights + use.repacked for use in self.found.uses)

    @property
    def kv(self) -> int:
        """Keys and values."""
        return sum(use.kv for use in self.found.uses)

    @property
    def state(self) -> int:
        """The state of recurrent layers."""
        return sum(use.state for use in self.found.uses)

    @property
    def compute(self) -> int:
        """The buffers of one batch."""
        return sum(use.compute for use in self.found.uses)

    @property
    def output(self) -> int:
        """The results handed out."""
        return sum(use.output for use in self.found.uses)

    @property
    def overhead(self) -> int:
        """The runtime's own."""
        return sum(use.overhead for use in self.found.uses)

    @property
    def layers(self) -> int:
        """The layers that can be put on devices, the output counted as one."""
        return self.candidate.model.layers + 1

    @property
    def gpu_layers(self) -> int:
        """How many of `layers` are put on devices: what `--gpu-layers` is to be."""
        if not self.settings.devices:
            return 0
        return self.layers if self.settings.gpu_layers is None else min(self.settings.gpu_layers, self.layers)

    @property
    def on_devices(self) -> int:
        """Bytes of it on devices."""
        return sum(use.total for use in self.found.devices)
