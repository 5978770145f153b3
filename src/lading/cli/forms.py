"""How the formats of a model are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading.text import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.api.results import DeliveredForm


def lines(forms: Sequence[DeliveredForm]) -> list[str]:
    """Return a line for each of several formats: its name, where it is by itself, and its digest."""
    rows = [(f"  {form.format}", form.destination, form.digest.short) for form in forms]
    return table(rows).split("\n") if len(rows) > 1 else []


def word(forms: Sequence[DeliveredForm]) -> str:
    """Return what names the formats at the end of a line, nothing where none was asked for."""
    return f"   {','.join(form.format for form in forms)}" if forms else ""
