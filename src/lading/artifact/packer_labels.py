"""GGUF Packer's labels: what an image says of its model in words, and OCI's labels that say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.artifact.packer import PackedFile
    from lading.model import ModelFacts

PREFIX = "gguf.model."
"""How GGUF Packer's labels begin."""

TWINS = "org.opencontainers.image."
"""How the labels begin that say some of the same in OCI's words."""

_SAID = {"title": "name", "authors": "authors", "url": "url", "description": "description", "licenses": "licenses"}
_UNITS = ((10**15, " Q"), (10**12, " T"), (10**9, " B"), (10**6, " M"), (10**3, " K"))


def labels_of(facts: ModelFacts, model: PackedFile, usage: str) -> dict[str, str]:
    """Return the labels of a model: those of GGUF Packer, and OCI's where these say the same; none that is not known."""
    said = facts.metadata
    ours = {
        "architecture": facts.architecture,
        "parameters": shown_count(model.parameters) if model.parameters else None,
        "bpw": f"{model.bits_per_weight:.2f} bpw" if model.bits_per_weight else None,
        "filetype": facts.file_type,
        "usage": usage,
        "vendor": facts.vendor,
        "name": facts.name,
        "authors": said.get("general.author"),
        "url": said.get("general.url"),
        "description": facts.description,
        "licenses": facts.licence,
    }
    twins = {TWINS + twin: ours[name] for twin, name in {**_SAID, "vendor": "vendor"}.items()}
    return {key: text for key, text in ({PREFIX + name: text for name, text in ours.items()} | twins).items() if text}


def without_stale(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels without those that were said of a model: GGUF Packer's, and OCI's that say the same as they do."""
    stale = {TWINS + twin for twin, name in {**_SAID, "vendor": "vendor"}.items() if _same(labels, twin, name)}
    return {key: text for key, text in labels.items() if key not in stale and not key.startswith(PREFIX)}


def shown_count(number: int) -> str:
    """Write a count as GGUF Packer does: 494.03 M, 7 B, 812."""
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if number >= scale), (1, ""))
    return f"{number / scale:.2f}".removesuffix(".00") + unit


def _same(labels: Mapping[str, str], twin: str, name: str) -> bool:
    return PREFIX + name in labels and labels.get(TWINS + twin) == labels[PREFIX + name]
