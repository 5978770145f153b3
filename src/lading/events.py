"""What is going on, as values: the only way progress leaves the rooms below the surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Started:
    """Work on one item began. `key` is unique in the operation; `total` is bytes, None if unknown."""

    key: str
    label: str
    name: str
    total: int | None
    done: int = 0


@dataclass(frozen=True, slots=True)
class Advanced:
    """`done` bytes of the item are through; it may shrink when a transfer starts over."""

    key: str
    done: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The item is whole and verified."""

    key: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing had to be done for the item; `why` in a word or two ("present", "mounted")."""

    key: str
    label: str
    name: str
    total: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Noted:
    """One line worth telling: a choice made, a retry, a warning (`warning` true)."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class StepBegan:
    """A step of a recipe is at work: `key` is its stage and number (`f16 2/3`), `text` the instruction."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step is done, after `seconds`; `cached` says that nothing had to be done. `keys` are of the items it worked on."""

    key: str
    text: str
    seconds: float
    cached: bool
    keys: tuple[str, ...] = ()


Event = Started | Advanced | Finished | Skipped | Noted | StepBegan | StepEnded


class Reporter(Protocol):
    """Receives events, from any thread."""

    def emit(self, event: Event) -> None:
        """Take one event; must not raise and must return soon."""


class Silent:
    """A reporter that drops everything."""

    def emit(self, event: Event) -> None:
        """Drop the event."""
