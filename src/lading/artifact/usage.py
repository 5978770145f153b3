"""What a model is for, as its headers and its command say: the value of the label `gguf.model.usage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection

    from lading.formats.gguf import GgufHeader

Usage = Literal["text-to-text", "embedding", "reranking", "image-to-text", "audio-to-text", "text-to-speech"]

_RANK = 4
_POOLINGS = (1, 2, 3)
# Encoders, whose converters do not all say that they look both ways.
_ENCODERS = (
    "bert",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "llama-embed",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "t5encoder",
)
# They look both ways, and write text nonetheless.
_DIFFUSING = ("dream", "llada", "llada-moe", "rnd1")
_SPEAKING = ("wavtokenizer-dec",)
_RANKING = ("cls.output.weight",)


def usage_of(model: GgufHeader, projector: GgufHeader | None, switches: Collection[str] = ()) -> Usage:
    """Say what a model is for; `switches` are the names of those that its command has on, such as `embedding`."""
    said = model.metadata
    architecture = said.get("general.architecture")
    pooling = said.get(f"{architecture}.pooling_type")
    if architecture in _SPEAKING:
        return "text-to-speech"
    if "reranking" in switches or pooling == _RANK or any(tensor.name in _RANKING for tensor in model.tensors):
        return "reranking"
    looks_ahead = said.get(f"{architecture}.attention.causal") is False and architecture not in _DIFFUSING
    if "embedding" in switches or pooling in _POOLINGS or looks_ahead or architecture in _ENCODERS:
        return "embedding"
    return "text-to-text" if projector is None else _seen_or_heard(projector)


def _seen_or_heard(projector: GgufHeader) -> Usage:
    """Return what a projector brings in; older ones, which say nothing, bring pictures."""
    said = projector.metadata
    sees, hears = said.get("clip.has_vision_encoder"), said.get("clip.has_audio_encoder")
    return "audio-to-text" if hears is True and sees is not True else "image-to-text"
