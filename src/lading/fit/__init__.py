"""Fit: an estimate held against a machine. It weighs candidates, chooses among them, and says what would fit instead.

    machine = machine_of(hardware())
    rows = [weigh(candidate, machine, settings) for candidate in candidates]
    chosen = choose(rows, machine)          # .row with .settings, and .why in words
    row = settle(candidate, machine, settings, free_cache=True)   # one model that is to run: layers, context, cache type
    raise unfit_error(name, row, machine, rows)                   # exit code 8, with what would fit

Nothing here opens a file, asks a device or knows where a model comes from; `headers` alone reads, from what it is handed.
"""

from __future__ import annotations

from lading.fit.choose import SEVERAL, Choice, choose
from lading.fit.machine import Machine, described, machine_of, told
from lading.fit.remedy import Remedy, remedies, unfit_error
from lading.fit.row import DEFAULT_CONTEXT, Candidate, Fits, Row
from lading.fit.weigh import LEAST_CONTEXT, settle, usual_context, weigh

__all__ = [
    "DEFAULT_CONTEXT",
    "LEAST_CONTEXT",
    "SEVERAL",
    "Candidate",
    "Choice",
    "Fits",
    "Machine",
    "Remedy",
    "Row",
    "choose",
    "described",
    "machine_of",
    "remedies",
    "settle",
    "told",
    "unfit_error",
    "usual_context",
    "weigh",
]
