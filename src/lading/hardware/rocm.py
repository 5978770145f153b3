"""What rocm-smi tells of AMD's devices, for names and where the kernel's own files cannot be read.

`rocm-smi --showproductname --showbus --showmeminfo vram --json` prints an object with a key for each card, and in it texts
by name, memory in bytes (python_smi_tools/rocm_smi.py of https://github.com/ROCm/rocm_smi_lib: showMemInfo, showProductName,
showBus). Names changed their case between versions.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

QUERY = ("rocm-smi", "--showproductname", "--showbus", "--showmeminfo", "vram", "--json")

_CARD = re.compile(r"card([0-9]+)")


class Card(NamedTuple):
    """One card: its place on the PCI bus (0000:03:00.0) and its name, empty if not told, and bytes of memory."""

    slot: str
    name: str
    memory: int | None
    used: int | None


def from_json(said: str) -> list[Card]:
    """Read what rocm-smi prints, cards in order; words of a broken driver, or no cards, are an empty list."""
    # Warnings come before the document.
    start = said.find("{")
    try:
        tree = json.loads(said[start:]) if start >= 0 else {}
    except (ValueError, RecursionError):
        return []
    found = []
    for key, told in tree.items():
        if (match := _CARD.fullmatch(key)) and isinstance(told, dict):
            texts = {name.lower(): str(value).strip() for name, value in told.items()}
            card = Card(
                texts.get("pci bus", "").lower(),
                texts.get("card series", ""),
                _bytes(texts.get("vram total memory (b)", "")),
                _bytes(texts.get("vram total used memory (b)", "")),
            )
            found.append((int(match[1]), card))
    return [card for _, card in sorted(found)]


def _bytes(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
