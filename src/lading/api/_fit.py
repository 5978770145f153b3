"""Fit: whether models run on a machine, which quantization to take, and how long a context it leaves room for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lading.api._variants import find
from lading.errors import UsageError
from lading.estimate import EstimateSettings
from lading.events import Noted
from lading.fit import choose, described, weigh
from lading.fit.headers import candidates
from lading.text import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.api._fit_document import FitDocument
    from lading.api._variants import Found
    from lading.api.session import Session
    from lading.fit import Candidate, Choice, Machine, Row
    from lading.hardware import Device

_PLAIN = EstimateSettings()


class Weighed(NamedTuple):
    """What was found under one reference: a row for each variant, and the choice among them."""

    reference: str
    shown: str
    rows: tuple[Row, ...]
    choice: Choice


class Fitting(NamedTuple):
    """What `fit` found: the machine that models were held against, and each reference's rows."""

    machine: Machine
    weighed: tuple[Weighed, ...]

    @property
    def document(self) -> FitDocument:
        """The same as a document."""
        from lading.api._fit_document import fit_document  # noqa: PLC0415 - for those who print JSON

        return fit_document(self)


def fit(
    session: Session, texts: Sequence[str], settings: EstimateSettings = _PLAIN, machine: Machine | None = None
) -> Fitting:
    """Weigh every variant under each reference on a machine, this one if none is given, by their headers alone.

    Raises the errors of the places, FormatError for what is no model, UsageError for settings that contradict each other.
    """
    if not texts:
        msg = "nothing to weigh was named"
        raise UsageError(msg, hint="lading fit REF")
    held = machine or _here(session)
    return Fitting(held, tuple(_weighed(session, text, find(session, text), settings, held) for text in texts))


def machine_said(session: Session, devices: Sequence[Device], memory: int | None) -> Machine:
    """Return a machine of these devices; its memory is that of this one unless it is said, in bytes."""
    if memory is not None:
        return described(devices, memory)
    return described(devices, _here(session).memory)


def _here(session: Session) -> Machine:
    from lading.api._machine import machine_here  # noqa: PLC0415 - for those who name no machine

    return machine_here(session)


def _candidates(session: Session, found: Found) -> tuple[Candidate, ...]:
    def warn(text: str) -> None:
        session.reporter.emit(Noted(text, warning=True))

    if found.near:
        return candidates(found.variants, None, warn)
    from lading.fit.cache import HeaderCache  # noqa: PLC0415 - for what is worth keeping

    return candidates(found.variants, HeaderCache(session.config.store / "cache"), warn)


def _weighed(session: Session, text: str, found: Found, settings: EstimateSettings, machine: Machine) -> Weighed:
    rows = tuple(weigh(candidate, machine, settings) for candidate in _candidates(session, found))
    ordered = tuple(sorted(rows, key=lambda row: -row.candidate.model.data_size))
    return Weighed(told(text), found.shown, ordered, choose(ordered, machine))
